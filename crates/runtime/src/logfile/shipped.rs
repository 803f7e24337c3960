//! A log that a [shipper](wharf_logship) process takes to a log service, and the lines on their way to it.
//!
//! The shipper is a child of the monitor. While it cannot keep up, a blocking log lets the container wait (its output stays in its pipes), a
//! non-blocking one keeps so many bytes and loses what comes then. It is given some time after the container's end, and outlives it by no more.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;
use rustix::process::{Pid, Signal, kill_process};
use wharf_logship::record::{Partial, encode};
use wharf_logship::{Destination, READY};
use wharf_sys::child::{Fork, fork};
use wharf_sys::process::close_range;

use super::{JsonLog, MAX_TEXT, Stream, index};
use crate::monitor::poll::{Poll, Source, Token};

/// How long a service may take to answer at the start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the end of a container waits for its last lines to be sent.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a shipper may go on after that.
const LINGER: Duration = Duration::from_secs(10);
/// A shipper that ended sooner is not replaced.
const GOOD_LIFE: Duration = Duration::from_secs(1);
/// Bytes waiting at which a blocking log lets the container wait.
const MANY: usize = 256 * 1024;

/// A log on its way to a service.
#[derive(Debug)]
pub struct Shipped {
    destination: Destination,
    cache: Option<JsonLog>,
    link: Option<Link>,
    queue: Vec<u8>,
    /// Bytes of the queue already sent.
    sent: usize,
    /// Non-blocking: most bytes waiting.
    limit: Option<usize>,
    unfinished: [Unfinished; 2],
    /// The container is over: until when the shipper may go on.
    ending: Option<Instant>,
}

#[derive(Debug)]
struct Link {
    source: Source,
    pid: i32,
    since: Instant,
    /// No more will be sent.
    closed: bool,
}

#[derive(Debug, Default)]
struct Unfinished {
    text: Vec<u8>,
    since: i64,
    /// Id and number of the last piece, once one was sent.
    pieces: Option<([u8; 16], u32)>,
}

impl Shipped {
    /// Starts the shipper and waits until it is connected. `limit`: for a non-blocking log, most bytes waiting.
    pub fn open(
        destination: &Destination,
        limit: Option<usize>,
        cache: Option<JsonLog>,
    ) -> io::Result<Shipped> {
        let link = start(destination)?;
        await_ready(&link.source)?;
        Ok(Shipped {
            destination: destination.clone(),
            cache,
            link: Some(link),
            queue: Vec::new(),
            sent: 0,
            limit,
            unfinished: Default::default(),
            ending: None,
        })
    }

    /// The local copy, if one is kept.
    pub fn cache(&mut self) -> Option<&mut JsonLog> {
        self.cache.as_mut()
    }

    /// See [`super::Log::write`].
    pub fn write(&mut self, stream: Stream, bytes: &[u8], time_ns: i64) {
        if let Some(cache) = &mut self.cache {
            cache.write(stream, bytes, time_ns);
        }
        let mut rest = bytes;
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            self.finish_line(stream, &rest[..newline], time_ns);
            rest = &rest[newline + 1..];
        }
        self.hold(stream, rest, time_ns);
        self.flush();
    }

    /// See [`super::Log::end`].
    pub fn end(&mut self, stream: Stream, time_ns: i64) {
        if let Some(cache) = &mut self.cache {
            cache.end(stream, time_ns);
        }
        if !self.unfinished[index(stream)].text.is_empty() {
            self.finish_line(stream, b"", time_ns);
        }
        self.flush();
    }

    fn finish_line(&mut self, stream: Stream, text: &[u8], time_ns: i64) {
        let held = &self.unfinished[index(stream)];
        if held.text.is_empty() && held.pieces.is_none() && text.len() < MAX_TEXT {
            return self.push(stream, text, time_ns, None);
        }
        self.hold(stream, text, time_ns);
        let held = std::mem::take(&mut self.unfinished[index(stream)]);
        let partial = held.pieces.map(|(id, ordinal)| Partial {
            id,
            ordinal: ordinal + 1,
            last: true,
        });
        self.push(stream, &held.text, held.since, partial);
    }

    fn hold(&mut self, stream: Stream, mut text: &[u8], time_ns: i64) {
        while !text.is_empty() {
            let held = &mut self.unfinished[index(stream)];
            if held.text.is_empty() && held.pieces.is_none() {
                held.since = time_ns;
            }
            let (now, later) = text.split_at(text.len().min(MAX_TEXT - held.text.len()));
            held.text.extend_from_slice(now);
            text = later;
            if held.text.len() == MAX_TEXT {
                let (id, ordinal) = held.pieces.unwrap_or_else(|| (identity(), 0));
                held.pieces = Some((id, ordinal + 1));
                let (piece, since) = (std::mem::take(&mut held.text), held.since);
                let partial = Partial {
                    id,
                    ordinal: ordinal + 1,
                    last: false,
                };
                self.push(stream, &piece, since, Some(partial));
            }
        }
    }

    fn push(&mut self, stream: Stream, text: &[u8], time_ns: i64, partial: Option<Partial>) {
        let waiting = self.waiting();
        let is_full = self
            .limit
            .is_some_and(|limit| waiting > 0 && waiting + text.len() > limit);
        if is_full || self.link.is_none() {
            return;
        }
        encode(
            &mut self.queue,
            time_ns,
            stream == Stream::Stderr,
            text,
            partial,
        );
    }

    fn waiting(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// The container has to wait.
    pub fn is_congested(&self) -> bool {
        self.limit.is_none() && self.link.is_some() && self.waiting() > MANY
    }

    /// Sends what the shipper takes; after the last of it, that it was the last.
    pub fn flush(&mut self) {
        let Some(link) = &mut self.link else {
            self.queue = Vec::new();
            self.sent = 0;
            return;
        };
        while self.sent < self.queue.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&link.source, &self.queue[self.sent..], flags) {
                Ok(n) => self.sent += n,
                Err(rustix::io::Errno::INTR) => {}
                // Full, or gone: then its end is about to be noticed.
                Err(_) => break,
            }
        }
        if self.sent == self.queue.len() {
            self.queue.clear();
            self.sent = 0;
            if self.ending.is_some() && !link.closed {
                link.closed = true;
                let _ = rustix::net::shutdown(&link.source, rustix::net::Shutdown::Write);
            }
        } else if self.sent > MANY {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Watches for room while something waits.
    pub fn watch(&mut self, poll: &Poll) {
        let waits = self.sent < self.queue.len();
        if let Some(link) = &mut self.link {
            link.source.watch(poll, waits.then_some(EventFlags::OUT));
        }
    }

    /// Gives back the memory that only a busy log needs.
    pub fn release_memory(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.release_memory();
        }
        if self.queue.is_empty() {
            self.queue = Vec::new();
        }
    }

    /// A child was reaped. A shipper that died gets a successor, which connects while the container goes on.
    pub fn child_ended(&mut self, pid: i32, poll: &Poll) {
        if let Some(cache) = &mut self.cache {
            cache.rotation.child_ended(pid);
        }
        let Some(mut link) = self.link.take_if(|link| link.pid == pid) else {
            return;
        };
        link.source.watch(poll, None);
        // What was cut off in the middle cannot be told from what arrived.
        self.queue.clear();
        self.sent = 0;
        if self.ending.is_none() && link.since.elapsed() >= GOOD_LIFE {
            self.link = start(&self.destination).ok();
        }
    }

    /// The container is over: sends the rest, and waits a moment for it to be on its way.
    pub fn finish(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.rotation.wait();
        }
        let until = Instant::now() + FAREWELL;
        self.ending = Some(Instant::now() + LINGER);
        loop {
            self.flush();
            let Some(link) = &self.link else { return };
            // Its end closes its side.
            let wanted = if link.closed {
                PollFlags::IN
            } else {
                PollFlags::OUT
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !wait_for(&link.source, wanted, left) || link.closed {
                return;
            }
        }
    }

    /// Nothing is left to be waited for. A shipper whose time is over is ended.
    pub fn is_done(&self) -> bool {
        let (Some(link), Some(until)) = (&self.link, self.ending) else {
            return self.link.is_none();
        };
        if Instant::now() < until {
            return false;
        }
        if let Some(pid) = Pid::from_raw(link.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
        true
    }

    /// When [`Shipped::is_done`] has to be asked again.
    pub fn deadline(&self) -> Option<Instant> {
        self.ending.filter(|_| self.link.is_some())
    }
}

fn identity() -> [u8; 16] {
    let mut id = [0; 16];
    // Ids only have to differ from those of lines written at the same time.
    let _ = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
    id
}

fn start(destination: &Destination) -> io::Result<Link> {
    let (ours, theirs) = UnixStream::pair()?;
    match fork()? {
        Fork::Child => {
            drop(ours);
            become_shipper(destination, theirs.into())
        }
        Fork::Parent(pid) => Ok(Link {
            source: Source::new(ours.into(), Token::Log),
            pid,
            since: Instant::now(),
            closed: false,
        }),
    }
}

/// Lets go of everything of the monitor's: a container's streams must not be held open by a process that does not read them.
fn become_shipper(destination: &Destination, socket: OwnedFd) -> ! {
    let own = u32::try_from(socket.as_raw_fd()).unwrap_or(3);
    // Linux before 5.9 has no close_range(2): there the shipper holds what the monitor had open.
    if own > 3 {
        let _ = close_range(3, own - 1);
    }
    let _ = close_range(own + 1, u32::MAX);
    let _ = rustix::thread::set_name(c"wharf-logship");
    wharf_logship::run(destination, socket)
}

/// Waits for the shipper's first word.
fn await_ready(source: &Source) -> io::Result<()> {
    if !wait_for(source, PollFlags::IN, PATIENCE) {
        return Err(io::Error::other("the log service does not answer"));
    }
    let mut answer = Vec::new();
    let mut byte = [0; 1];
    let n = rustix::io::read(source, &mut byte)?;
    if n == 1 && byte == READY {
        return Ok(());
    }
    answer.extend_from_slice(&byte[..n]);
    let mut rest = UnixStream::from(source.as_fd().try_clone_to_owned()?);
    rest.shutdown(Shutdown::Write)?;
    rest.read_to_end(&mut answer)?;
    Err(io::Error::other(
        String::from_utf8_lossy(&answer).into_owned(),
    ))
}

fn wait_for(source: &Source, wanted: PollFlags, limit: Duration) -> bool {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(source, wanted)];
    poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
}
