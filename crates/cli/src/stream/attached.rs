//! Moving bytes between our standard streams and a container's, and signals besides.
//!
//! One thread polls the connection and the signals; a second one moves standard input, because a program may stop
//! reading its input while it waits for us to read its output.

use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use wharf_api::stream::Stream;
use wharf_sys::signal_watch::SignalWatch;

use super::demux::Demux;
use super::detach_keys::Watcher;
use super::terminal::{self, RawMode};
use super::write_all;
use crate::client::Hijacked;
use crate::client::response::Reader;
use crate::client::socket::Socket;
use crate::failure::Failure;

/// What is moved.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The program has a terminal: bytes are not framed, and ours is put into raw mode.
    pub tty: bool,
    /// Standard input goes to the program.
    pub stdin: bool,
    /// Its standard output comes to ours.
    pub stdout: bool,
    /// Its standard error comes to ours.
    pub stderr: bool,
    /// Keys that leave it, watched for when both sides have a terminal.
    pub detach_keys: Vec<u8>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The daemon or monitor closed the connection: the program has ended or let go of its output.
    Closed,
    /// The detach keys were typed.
    Detached,
}

/// A conversation that has begun. The terminal is restored when this is dropped.
pub struct Attached {
    reader: Reader,
    plan: Plan,
    demux: Demux,
    detached: Arc<AtomicBool>,
    _raw: Option<RawMode>,
}

impl Attached {
    /// Sets the terminal up and begins to forward standard input.
    ///
    /// # Errors
    /// The terminal cannot be put into raw mode, or no thread can be started.
    pub fn begin(connection: Hijacked, plan: Plan) -> Result<Attached, Failure> {
        let raw = (plan.tty && plan.stdin && terminal::stdin_is_terminal())
            .then(RawMode::enter)
            .transpose()?;
        let detached = Arc::new(AtomicBool::new(false));
        if plan.stdin {
            let keys = if plan.tty {
                plan.detach_keys.clone()
            } else {
                Vec::new()
            };
            let (socket, flag) = (connection.socket, Arc::clone(&detached));
            std::thread::Builder::new()
                .name("stdin".into())
                .spawn(move || forward_stdin(&socket, keys, &flag))?;
        } else {
            // Nothing will be sent: a program that reads its input sees the end of it.
            let _ = connection.socket.shutdown_write();
        }
        Ok(Attached {
            reader: connection.reader,
            plan,
            demux: Demux::default(),
            detached,
            _raw: raw,
        })
    }

    /// Moves output until the connection ends. `on_signal` is called for every signal of `signals`.
    ///
    /// # Errors
    /// Our own output cannot be written, or the connection breaks.
    pub fn run(
        &mut self,
        signals: Option<&SignalWatch>,
        mut on_signal: impl FnMut(i32),
    ) -> Result<End, Failure> {
        loop {
            if self.reader.buffer().is_empty() {
                let Some(signals) = signals else {
                    if !self.move_output()? {
                        return Ok(self.end());
                    }
                    continue;
                };
                let socket = Arc::clone(&self.reader.get_ref().socket);
                let mut fds = [
                    PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                ];
                match poll(&mut fds, None) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(io::Error::from(error).into()),
                }
                let (has_output, has_signal) =
                    (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
                if has_signal {
                    while let Some(signal) = signals.next()? {
                        on_signal(signal);
                    }
                }
                if !has_output {
                    continue;
                }
            }
            if !self.move_output()? {
                return Ok(self.end());
            }
        }
    }

    fn end(&self) -> End {
        if self.detached.load(Ordering::Acquire) {
            End::Detached
        } else {
            End::Closed
        }
    }

    /// Moves what has come; false at the end.
    fn move_output(&mut self) -> Result<bool, Failure> {
        let bytes = match self.reader.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            // A connection that is reset is one that has ended.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if bytes.is_empty() {
            return Ok(false);
        }
        let n = bytes.len();
        if self.plan.tty {
            write_out(Stream::Stdout, bytes, &self.plan)?;
        } else {
            let mut rest = bytes;
            loop {
                match self.demux.next(&mut rest) {
                    Ok(Some(piece)) => write_out(piece.stream, piece.bytes, &self.plan)?,
                    Ok(None) => break,
                    Err(error) => return Err(Failure::new(error.to_string())),
                }
            }
        }
        self.reader.consume(n);
        Ok(true)
    }
}

fn write_out(stream: Stream, bytes: &[u8], plan: &Plan) -> Result<(), Failure> {
    let result = match stream {
        Stream::Stdin | Stream::Stdout if plan.stdout || plan.tty => {
            write_all(rustix::stdio::stdout(), bytes)
        }
        Stream::Stderr if plan.stderr => write_all(rustix::stdio::stderr(), bytes),
        Stream::SystemError => {
            return Err(Failure::new(format!(
                "error from daemon in stream: {}",
                String::from_utf8_lossy(bytes)
            )));
        }
        _ => Ok(()),
    };
    match result {
        // Whoever read our output is gone; Docker's client dies of the signal here.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::exit(141)),
        other => other.map_err(Failure::from),
    }
}

/// Sends standard input until it ends, then says so; the output goes on coming.
fn forward_stdin(socket: &Socket, keys: Vec<u8>, detached: &AtomicBool) {
    let mut watcher = Watcher::new(keys);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let n = match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                let stdin = rustix::stdio::stdin();
                let _ = poll(&mut [PollFd::from_borrowed_fd(stdin, PollFlags::IN)], None);
                continue;
            }
            Err(_) => 0,
        };
        if n == 0 {
            let _ = socket.shutdown_write();
            return;
        }
        let watched = watcher.watch(&buffer[..n]);
        if write_all(socket.as_fd(), &watched.pass).is_err() {
            return;
        }
        if watched.detached {
            detached.store(true, Ordering::Release);
            // Ends the other thread's wait for output.
            socket.shutdown();
            return;
        }
    }
}
