//! A queue between two threads that holds so many items at most. Whoever has to wait sleeps at once: channels that first yield the processor many
//! times cost more than they save where there are more threads than processors.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// The other end is gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// A queue of `limit` items.
pub(crate) fn bounded<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            items: VecDeque::with_capacity(limit),
            ended: false,
        }),
        changed: Condvar::new(),
        limit,
    });
    (Sender(shared.clone()), Receiver(shared))
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// One waits at most: the sender while it is full, the receiver while it is empty.
    changed: Condvar,
    limit: usize,
}

struct State<T> {
    items: VecDeque<T>,
    /// One of the ends is gone.
    ended: bool,
}

/// The end items are put in.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The end items come out of.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Puts an item in; waits while there is no room.
    pub(crate) fn send(&self, item: T) -> Result<(), Gone> {
        let mut state = self.0.state.lock();
        while state.items.len() >= self.0.limit && !state.ended {
            self.0.changed.wait(&mut state);
        }
        if state.ended {
            return Err(Gone);
        }
        state.items.push_back(item);
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The next item; waits for it. `None`: the sender is gone, and so is everything it sent.
    pub(crate) fn recv(&self) -> Option<T> {
        let mut state = self.0.state.lock();
        while state.items.is_empty() && !state.ended {
            self.0.changed.wait(&mut state);
        }
        let item = state.items.pop_front();
        drop(state);
        self.0.changed.notify_one();
        item
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<T> Shared<T> {
    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_items_come_in_order_and_then_the_end() {
        let (sender, receiver) = bounded(2);
        let sent = std::thread::spawn(move || (0..1000).all(|n| sender.send(n).is_ok()));
        let came: Vec<u32> = std::iter::from_fn(|| receiver.recv()).collect();
        assert!(sent.join().expect("no panic"));
        assert_eq!(came, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_sender_hears_that_nobody_listens() {
        let (sender, receiver) = bounded(1);
        sender.send(1).expect("there is room");
        let waiting = std::thread::spawn(move || sender.send(2).is_err());
        drop(receiver);
        assert!(waiting.join().expect("no panic"));
    }
}
