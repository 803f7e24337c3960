//! Moving output from a process to its log and its clients: the monitor's hot loop.

use std::os::fd::AsFd;

use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::fcntl_setpipe_size;

use super::client::Client;
use super::process::{Io, now_ns};
use crate::logfile::Stream;

/// Size of a pipe that has shown to be busy. The default is 64 KiB; larger ones save a busy process its waits.
const WIDE_PIPE: usize = 1024 * 1024;

/// Reads that fill this much show a busy pipe.
const MANY: usize = 60 * 1024;

/// Below this, copying is cheaper than moving pages.
const WORTH_SPLICING: usize = 16 * 1024;

/// Most bytes in one spliced frame: as many pages as one socket buffer has room for (`MAX_SKB_FRAGS` is 17), so that the
/// socket takes all of it or nothing.
const MAX_SPLICE: usize = 64 * 1024;

/// What one read did.
#[derive(Debug, PartialEq, Eq)]
pub enum Moved {
    /// Bytes went to the log and the clients.
    Bytes {
        /// So many that the process seems to wait for us.
        many: bool,
    },
    /// There are none now.
    Nothing,
    /// There will be none again.
    End,
}

/// How one stream is to be moved.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The stream.
    pub stream: Stream,
    /// Its output belongs into the container's log.
    pub logged: bool,
    /// What a client has no room for may stay in the pipe.
    pub patient: bool,
    /// It is a pipe.
    pub pipe: bool,
}

/// Moves what one read gives to the log and the clients.
pub fn read(source: &impl AsFd, clients: &mut [Client], route: Route, io: &mut Io<'_>) -> Moved {
    let logged = route.logged && !io.log.is_none();
    if route.pipe
        && route.patient
        && !logged
        && let Some(client) = sole_taker(clients, route.stream)
        && let Some(moved) = splice(source, client, route.stream, io.buffer)
    {
        return moved;
    }
    let n = match rustix::io::read(source, &mut *io.buffer) {
        // A terminal whose other side is closed reads as EIO.
        Ok(0) | Err(Errno::IO) => return Moved::End,
        Ok(n) => n,
        Err(Errno::AGAIN | Errno::INTR) => return Moved::Nothing,
        Err(_) => return Moved::End,
    };
    let data = &io.buffer[..n];
    if logged {
        io.log.write(route.stream, data, now_ns());
    }
    let takers = clients
        .iter_mut()
        .filter(|client| client.wants(route.stream));
    takers.for_each(|client| client.push(route.stream, data));
    Moved::Bytes { many: n >= MANY }
}

/// The one client that takes this stream, if it is not behind.
fn sole_taker(clients: &mut [Client], stream: Stream) -> Option<&mut Client> {
    let mut takers = clients.iter_mut().filter(|client| client.wants(stream));
    let first = takers.next()?;
    (takers.next().is_none() && first.owed() == 0).then_some(first)
}

/// Moves pages of the pipe into the client's socket without copying them (splice(2); unix sockets take pages since Linux 6.5, before
/// that the kernel copies). `None`: not worth it, read instead.
fn splice(
    pipe: &impl AsFd,
    client: &mut Client,
    stream: Stream,
    scratch: &mut [u8],
) -> Option<Moved> {
    let available = usize::try_from(ioctl_fionread(pipe).ok()?).ok()?;
    if available < WORTH_SPLICING {
        return None;
    }
    let len = available.min(MAX_SPLICE);
    if !client.begin_frame(stream, len) {
        return Some(Moved::Nothing);
    }
    let mut left = len;
    while left > 0 {
        match client.splice_from(pipe, left) {
            Ok(0) | Err(_) => break,
            Ok(n) => left -= n,
        }
    }
    if left == len && client.may_wait() {
        return Some(Moved::Nothing);
    }
    // The frame is promised: what the socket did not take is the client's backlog.
    while left > 0 {
        let want = left.min(scratch.len());
        match rustix::io::read(pipe, &mut scratch[..want]) {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                client.keep(&scratch[..n]);
                left -= n;
            }
        }
    }
    Some(Moved::Bytes { many: true })
}

/// Makes a pipe larger, where limits allow.
pub fn widen(pipe: impl AsFd) {
    let _ = fcntl_setpipe_size(pipe, WIDE_PIPE);
}
