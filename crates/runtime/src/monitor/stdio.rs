//! The standard streams of a new process, both ends.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::launch::LaunchStdio;
use crate::logfile::Stream;

/// Our ends of a process's streams; non-blocking.
#[derive(Debug, Default)]
pub struct Ends {
    /// What we write becomes the process's input.
    pub stdin: Option<OwnedFd>,
    /// What it writes.
    pub outputs: Vec<(Stream, OwnedFd)>,
    /// Its terminal.
    pub console: Option<Console>,
}

/// A terminal.
#[derive(Debug)]
pub struct Console {
    master: OwnedFd,
    /// The other side, held open while the process lives: a program may close and reopen its terminal (systemd does), and without
    /// this the master would read as hung up in between.
    _peer: Option<OwnedFd>,
}

impl Console {
    /// Sets the size; the kernel tells the foreground program (`SIGWINCH`).
    pub fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.master, size)?)
    }
}

/// Pipes for all three streams; without `open_stdin` the input is `/dev/null`.
pub fn pipes(open_stdin: bool) -> io::Result<(LaunchStdio, Ends)> {
    let mut ends = Ends::default();
    let stdin = if open_stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&ours)?;
        ends.stdin = Some(ours);
        theirs
    } else {
        dev_null(OFlags::RDONLY)?
    };
    let mut output = |stream| -> io::Result<OwnedFd> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&ours)?;
        ends.outputs.push((stream, ours));
        Ok(theirs)
    };
    let (stdout, stderr) = (output(Stream::Stdout)?, output(Stream::Stderr)?);
    Ok((
        LaunchStdio::Pipes {
            stdin,
            stdout,
            stderr,
        },
        ends,
    ))
}

/// `/dev/null` for all three streams.
pub fn nothing() -> io::Result<(LaunchStdio, Ends)> {
    let stdio = LaunchStdio::Pipes {
        stdin: dev_null(OFlags::RDONLY)?,
        stdout: dev_null(OFlags::WRONLY)?,
        stderr: dev_null(OFlags::WRONLY)?,
    };
    Ok((stdio, Ends::default()))
}

/// Our ends of a terminal whose master came back from the launch.
pub fn console(master: OwnedFd) -> io::Result<Ends> {
    set_nonblocking(&master)?;
    let peer = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .ok();
    Ok(Ends {
        stdin: Some(master.try_clone()?),
        outputs: vec![(Stream::Stdout, master.try_clone()?)],
        console: Some(Console {
            master,
            _peer: peer,
        }),
    })
}

fn dev_null(flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/dev/null",
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}
