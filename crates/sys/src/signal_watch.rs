//! Signals as a readable descriptor, for a process that wants to pass them on instead of dying of them.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::outcome::check;

/// Blocked signals, read one by one.
#[derive(Debug)]
pub struct SignalWatch {
    fd: OwnedFd,
}

impl SignalWatch {
    /// Blocks `signals` for this thread, and for threads it starts from now on, and watches for them. The descriptor
    /// does not block and is closed on exec; the mask survives exec, so a process that starts others should do so before.
    ///
    /// # Errors
    /// No descriptor is left, or a number is not a signal.
    pub fn new(signals: &[i32]) -> io::Result<SignalWatch> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set; it always succeeds with a valid pointer.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for signal in signals {
            // SAFETY: `set` was initialised above.
            if unsafe { libc::sigaddset(&raw mut set, *signal) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: `set` was initialised above; the old mask is not asked for.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: `set` was initialised above; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        check(fd)?;
        // SAFETY: the kernel just returned this descriptor and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(SignalWatch { fd })
    }

    /// The next signal that has arrived, if one has.
    ///
    /// # Errors
    /// Reading failed for another reason than that there is none.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the buffer is as large as is said, and signalfd writes whole records only.
        let n = unsafe {
            libc::read(
                self.fd.as_raw_fd(),
                info.as_mut_ptr().cast(),
                size_of::<libc::signalfd_siginfo>(),
            )
        };
        if n < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock {
                Ok(None)
            } else {
                Err(error)
            };
        }
        // SAFETY: a successful read filled one whole record.
        let info = unsafe { info.assume_init() };
        Ok(i32::try_from(info.ssi_signo).ok())
    }
}

impl std::os::fd::AsFd for SignalWatch {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read_instead_of_delivered() {
        let watch = SignalWatch::new(&[libc::SIGUSR2]).expect("a watch");
        assert_eq!(watch.next().expect("readable"), None);
        // SAFETY: raises a signal that this thread has blocked.
        unsafe { libc::raise(libc::SIGUSR2) };
        assert_eq!(watch.next().expect("readable"), Some(libc::SIGUSR2));
        assert_eq!(watch.next().expect("readable"), None);
    }
}
