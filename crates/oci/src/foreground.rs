//! Staying with a process to its end: signals, terminal, exit code.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use wharf_sys::signal_watch::SignalWatch;

use crate::failure::{Context, Failure};

/// What is passed on to the process. Made before it starts, so that none is lost.
#[derive(Debug)]
pub struct Signals(SignalWatch);

impl Signals {
    /// Begins to watch.
    pub fn watch() -> Result<Signals, Failure> {
        // All that can be caught, but for those about ourselves: faults, stops, children.
        let own = [
            libc::SIGKILL,
            libc::SIGSTOP,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGSYS,
            libc::SIGCHLD,
            libc::SIGPIPE,
            libc::SIGURG,
            libc::SIGTTIN,
            libc::SIGTTOU,
            libc::SIGTSTP,
        ];
        let all: Vec<i32> = (1..=31).filter(|s| !own.contains(s)).collect();
        SignalWatch::new(&all)
            .map(Signals)
            .context(|| "watch signals".into())
    }
}

/// Stays with a child of ours; its exit code, 128 + signal when it was killed.
pub fn stay(
    signals: &Signals,
    pid: i32,
    pidfd: &OwnedFd,
    terminal: Option<OwnedFd>,
) -> Result<u8, Failure> {
    let terminal = terminal
        .map(Terminal::take)
        .transpose()
        .context(|| "terminal".into())?;
    let stayed = serve(signals, pid, pidfd, terminal.as_ref());
    drop(terminal);
    stayed.context(|| "wait for the process".into())?;
    let status = Pid::from_raw(pid)
        .ok_or(Errno::SRCH)
        .and_then(|pid| waitpid(Some(pid), WaitOptions::empty()))
        .context(|| "wait for the process".into())?;
    Ok(status.map_or(255, |(_, s)| exit_code(s)))
}

fn exit_code(status: rustix::process::WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(code).unwrap_or(255)
}

fn serve(
    signals: &Signals,
    pid: i32,
    pidfd: &OwnedFd,
    terminal: Option<&Terminal>,
) -> io::Result<()> {
    let mut input = Input::default();
    loop {
        let ready = wait(signals, pidfd, terminal, &input)?;
        while let Some(signal) = signals.0.next()? {
            match (signal, terminal) {
                (libc::SIGWINCH, Some(terminal)) => terminal.copy_size(),
                // It may be gone by now, which is seen next.
                _ => drop(wharf_sys::process::kill(pid, signal)),
            }
        }
        if let Some(terminal) = terminal {
            if ready.output {
                terminal.copy_output()?;
            }
            if ready.input {
                input.read()?;
            }
            input.write(&terminal.master)?;
        }
        if ready.ended {
            if let Some(terminal) = terminal {
                while terminal.copy_output()? {}
            }
            return Ok(());
        }
    }
}

#[derive(Debug, Default)]
struct Ready {
    ended: bool,
    output: bool,
    input: bool,
}

fn wait(
    signals: &Signals,
    pidfd: &OwnedFd,
    terminal: Option<&Terminal>,
    input: &Input,
) -> io::Result<Ready> {
    let stdin = io::stdin();
    let mut fds = vec![
        PollFd::from_borrowed_fd(signals.0.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
    ];
    if let Some(terminal) = terminal {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !input.pending.is_empty());
        fds.push(PollFd::from_borrowed_fd(terminal.master.as_fd(), flags));
        if input.is_wanted() {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
    }
    match poll(&mut fds, None) {
        Err(Errno::INTR) => return Ok(Ready::default()),
        polled => polled?,
    };
    let is = |at: usize, wanted: PollFlags| {
        fds.get(at)
            .is_some_and(|fd| fd.revents().intersects(wanted))
    };
    let some = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
    // A terminal that nobody has open any more hangs up for as long as it is asked: then its end is near.
    Ok(Ready {
        ended: is(1, some),
        output: is(2, PollFlags::IN),
        input: is(3, some),
    })
}

/// What was typed and not taken yet.
#[derive(Debug, Default)]
struct Input {
    pending: Vec<u8>,
    ended: bool,
}

impl Input {
    fn is_wanted(&self) -> bool {
        self.pending.is_empty() && !self.ended
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => self.ended = true,
            Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::IO) => self.ended = true,
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    fn write(&mut self, master: &OwnedFd) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match rustix::io::write(master, &self.pending) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads any more.
            Err(_) => self.pending.clear(),
        }
        Ok(())
    }
}

/// The container's terminal behind ours.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    /// How ours was, if it is one.
    before: Option<Termios>,
}

impl Terminal {
    fn take(master: OwnedFd) -> io::Result<Terminal> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let own = rustix::stdio::stdin();
        let before = tcgetattr(own).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(own, OptionalActions::Now, &raw)?;
        }
        let terminal = Terminal { master, before };
        terminal.copy_size();
        Ok(terminal)
    }

    /// Ours may be none, and then the container's stays as it is.
    fn copy_size(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// `false` when there is nothing now, or nothing any more.
    fn copy_output(&self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) => Ok(false),
            Ok(n) => {
                use std::io::Write;
                let mut out = io::stdout().lock();
                out.write_all(&buffer[..n])?;
                out.flush()?;
                Ok(true)
            }
            Err(Errno::INTR) => Ok(true),
            // Nobody has the other side open.
            Err(Errno::AGAIN | Errno::IO) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}
