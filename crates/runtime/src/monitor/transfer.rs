//! Moving output from a process to its log and its clients: the monitor's hot loop.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;

use super::client::Client;
use super::process::{Io, now_ns};
use crate::logfile::Stream;

/// Size of a pipe that has shown to be busy. The default is 64 KiB; larger ones save a busy process its waits.
const WIDE_PIPE: usize = 256 * 1024;

/// Reads that fill this much show a busy pipe.
const MANY: usize = 60 * 1024;

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

/// Reads once and passes on what came. `log`: this output belongs into the container's log.
pub fn read(
    source: &impl AsFd,
    clients: &mut [Client],
    stream: Stream,
    io: &mut Io<'_>,
    log: bool,
) -> Moved {
    let n = match rustix::io::read(source, &mut *io.buffer) {
        // A terminal whose other side is closed reads as EIO.
        Ok(0) | Err(Errno::IO) => return Moved::End,
        Ok(n) => n,
        Err(Errno::AGAIN | Errno::INTR) => return Moved::Nothing,
        Err(_) => return Moved::End,
    };
    let data = &io.buffer[..n];
    if log && !io.log.is_none() {
        io.log.write(stream, data, now_ns());
    }
    for client in clients.iter_mut().filter(|client| client.wants(stream)) {
        client.push(stream, data);
    }
    Moved::Bytes { many: n >= MANY }
}

/// Makes a pipe larger, where limits allow.
pub fn widen(pipe: impl AsFd) {
    let _ = fcntl_setpipe_size(pipe, WIDE_PIPE);
}
