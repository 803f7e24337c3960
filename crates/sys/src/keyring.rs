//! Keys that the kernel holds for a user (keyrings(7)): in no file, and gone when the machine stops.

use std::ffi::CStr;
use std::io;

use crate::outcome::check;

/// `KEY_SPEC_PROCESS_KEYRING`: what is in it is possessed by the process.
const PROCESS: libc::c_long = -2;
/// `KEY_SPEC_USER_KEYRING`: lives as long as the user has processes or keys.
const USER: libc::c_long = -4;
const KEYCTL_SETPERM: libc::c_long = 5;
const KEYCTL_LINK: libc::c_long = 8;
const KEYCTL_SEARCH: libc::c_long = 10;
const KEYCTL_READ: libc::c_long = 11;
/// Everything for who possesses the key and for its user, nothing for others.
const OWNER_ONLY: libc::c_long = 0x3f3f_0000;
const TYPE: &CStr = c"user";

/// What the user's key of this name holds; `None` if there is no such key.
pub fn read(name: &CStr) -> io::Result<Option<Vec<u8>>> {
    // SAFETY: both texts are C strings that outlive the call; the kernel reads them and writes nothing.
    let found = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_SEARCH,
            USER,
            TYPE.as_ptr(),
            name.as_ptr(),
            0 as libc::c_long,
        )
    };
    let key = match check(found) {
        Ok(key) => key,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ENOKEY | libc::EKEYEXPIRED | libc::EKEYREVOKED) => Ok(None),
                _ => Err(error),
            };
        }
    };
    let mut buffer = vec![0_u8; 256];
    // SAFETY: the kernel writes at most the given number of bytes, which the buffer has.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_READ,
            key,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    let length = usize::try_from(length).map_err(io::Error::other)?;
    if length > buffer.len() {
        return Err(io::Error::other("the key is longer than a key of ours"));
    }
    buffer.truncate(length);
    Ok(Some(buffer))
}

/// Makes a key that all processes of the user can read. One that is there of that name is replaced.
pub fn add(name: &CStr, payload: &[u8]) -> io::Result<()> {
    // First where it is certainly possessed, for only then may its permissions be set.
    // SAFETY: the texts and the payload outlive the call and are only read.
    let key = check(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            TYPE.as_ptr(),
            name.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            PROCESS,
        )
    })?;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, OWNER_ONLY) })?;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_LINK, key, USER) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back() {
        let name = c"wharf:test of keyrings";
        assert_eq!(read(c"wharf:no such key").expect("can be asked"), None);
        add(name, b"payload").expect("added");
        assert_eq!(read(name).expect("read").as_deref(), Some(&b"payload"[..]));
        add(name, b"other").expect("replaced");
        assert_eq!(read(name).expect("read").as_deref(), Some(&b"other"[..]));
    }
}
