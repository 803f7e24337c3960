//! The program's terminal, from the container's own devpts.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fstatfs};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::mounts::attach;
use super::report::Reporter;
use super::root::Root;
use super::rootfs::clone_flags;
use super::{LaunchError, LaunchStdio, Step};

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// The descriptors that are about to become 0, 1 and 2.
#[derive(Debug)]
pub(super) enum Streams {
    /// Three of them.
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A terminal's slave side.
    Terminal(OwnedFd),
}

/// Opens a terminal where one is asked for and hands its master side to the launching process.
pub(super) fn open(
    root: &Root,
    stdio: LaunchStdio,
    reporter: &Reporter,
) -> Result<Streams, LaunchError> {
    match stdio {
        LaunchStdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => Ok(Streams::Pipes {
            stdin,
            stdout,
            stderr,
        }),
        LaunchStdio::Tty { rows, cols } => {
            let (master, slave) = open_pair(root).step("open terminal")?;
            if (rows, cols) != (0, 0) {
                set_size(master.as_fd(), rows, cols).step("set terminal size")?;
            }
            reporter
                .send_console(master.as_fd())
                .step("send terminal")?;
            Ok(Streams::Terminal(slave))
        }
    }
}

/// By descriptor all the way: neither the slave's path nor its device number is trusted.
fn open_pair(root: &Root) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = root.open_no_links("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)?;
    if u64::try_from(fstatfs(&master)?.f_type) != Ok(DEVPTS_MAGIC) {
        return Err(io::Error::other("/dev/pts is not a devpts file system"));
    }
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok((master, slave))
}

/// Sets a terminal's size in characters.
fn set_size(master: BorrowedFd<'_>, rows: u16, cols: u16) -> io::Result<()> {
    Ok(tcsetwinsize(
        master,
        Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )?)
}

/// Shows the terminal as `/dev/console`.
pub(super) fn mount_console(root: &Root, streams: &Streams) -> Result<(), LaunchError> {
    let Streams::Terminal(slave) = streams else {
        return Ok(());
    };
    let bind = || -> io::Result<()> {
        let target = root.ensure_file("/dev/console")?;
        let tree = open_tree(slave, "", clone_flags(false) | OpenTreeFlags::AT_EMPTY_PATH)?;
        attach(&tree, &target)
    };
    bind().step("error mounting the terminal to rootfs at \"/dev/console\"")
}

impl Streams {
    /// Makes them 0, 1 and 2, and a terminal the controlling one of this (new) session.
    pub(super) fn install(self) -> io::Result<()> {
        match self {
            Streams::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                // Out of the way first, or installing one could overwrite another.
                let above = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(&fd, 3);
                let (stdin, stdout, stderr) = (above(stdin)?, above(stdout)?, above(stderr)?);
                rustix::stdio::dup2_stdin(&stdin)?;
                rustix::stdio::dup2_stdout(&stdout)?;
                rustix::stdio::dup2_stderr(&stderr)?;
            }
            Streams::Terminal(slave) => {
                rustix::process::ioctl_tiocsctty(&slave)?;
                rustix::stdio::dup2_stdin(slave.as_fd())?;
                rustix::stdio::dup2_stdout(slave.as_fd())?;
                rustix::stdio::dup2_stderr(slave.as_fd())?;
            }
        }
        Ok(())
    }
}
