//! A client's side of an attached container or exec.

pub mod attached;
pub mod demux;
pub mod detach_keys;
pub mod signals;
pub mod terminal;

use std::os::fd::BorrowedFd;

/// Writes everything, waiting as long as it takes.
///
/// # Errors
/// See write(2).
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            // Somebody made the terminal or pipe non-blocking; it is shared, so that is not ours to change.
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds = [rustix::event::PollFd::from_borrowed_fd(
                    fd,
                    rustix::event::PollFlags::OUT,
                )];
                rustix::event::poll(&mut fds, None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
