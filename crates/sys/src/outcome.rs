//! How a system call went, as its C wrapper tells it.

use std::io;

/// What a call returned, or the error it left in `errno`: calls that go through this answer with a negative number when they fail.
pub(crate) fn check<T: PartialOrd + Default>(returned: T) -> io::Result<T> {
    if returned < T::default() {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

/// [`check`] for a call that has nothing to return.
pub(crate) fn done<T: PartialOrd + Default>(returned: T) -> io::Result<()> {
    check(returned).map(drop)
}
