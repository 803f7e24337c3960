//! The kernel's device mapper, by its ioctls: devices by name, each with one target.
//!
//! Numbers and layouts: `include/uapi/linux/dm-ioctl.h`. Devices are found under `/dev/dm-<minor>`, which the kernel itself makes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::outcome::done;

const DEV_CREATE: u32 = 3;
const DEV_REMOVE: u32 = 4;
const DEV_SUSPEND: u32 = 6;
const DEV_STATUS: u32 = 7;
const TABLE_LOAD: u32 = 9;
const TABLE_STATUS: u32 = 12;
const TARGET_MSG: u32 = 14;

/// `DM_SUSPEND_FLAG`; without it the same request resumes.
const SUSPEND: u32 = 1 << 1;

/// `struct dm_ioctl` up to its data.
const HEADER: usize = 312;
/// `struct dm_target_spec`.
const SPEC: usize = 40;
/// Room for a header and what follows it.
const BUFFER: usize = 16 * 1024;
/// Offsets in `struct dm_ioctl`.
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const FLAGS: usize = 28;
const DEVICE: usize = 40;
const NAME: usize = 48;
/// Room for a name, with the zero byte at its end.
const NAME_LENGTH: usize = 128;

/// What a device is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Length in sectors of 512 bytes.
    pub sectors: u64,
    /// `thin`, `thin-pool`, …
    pub kind: &'static str,
    /// As the target documents them.
    pub parameters: String,
}

/// The open device mapper.
#[derive(Debug)]
pub struct DeviceMapper {
    control: File,
}

impl DeviceMapper {
    /// Opens it; opening loads the kernel's module.
    pub fn open() -> io::Result<DeviceMapper> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/mapper/control")?;
        Ok(DeviceMapper { control })
    }

    /// Makes a device and starts it; its node.
    pub fn create(&self, name: &str, target: &Target) -> io::Result<PathBuf> {
        let mut created = Request::new(name, 0)?;
        self.call(DEV_CREATE, &mut created)?;
        let started = self.load(name, target).and_then(|()| self.resume(name));
        if let Err(error) = started {
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(node(created.number(DEVICE)))
    }

    /// Gives a device another target, which counts from the next [`DeviceMapper::resume`].
    pub fn load(&self, name: &str, target: &Target) -> io::Result<()> {
        let mut request = Request::new(name, 0)?;
        request.put(TARGET_COUNT, &1_u32.to_ne_bytes());
        let length = (SPEC + target.parameters.len() + 1).next_multiple_of(8);
        let mut spec = vec![0; length];
        spec[8..16].copy_from_slice(&target.sectors.to_ne_bytes());
        let next = u32::try_from(length).map_err(io::Error::other)?;
        spec[20..24].copy_from_slice(&next.to_ne_bytes());
        spec[24..24 + target.kind.len()].copy_from_slice(target.kind.as_bytes());
        spec[SPEC..SPEC + target.parameters.len()].copy_from_slice(target.parameters.as_bytes());
        request.data(&spec)?;
        self.call(TABLE_LOAD, &mut request)
    }

    /// Lets nobody write; a file system on the device is brought to rest first.
    pub fn suspend(&self, name: &str) -> io::Result<()> {
        self.call(DEV_SUSPEND, &mut Request::new(name, SUSPEND)?)
    }

    /// Ends [`DeviceMapper::suspend`], with the target loaded last.
    pub fn resume(&self, name: &str) -> io::Result<()> {
        self.call(DEV_SUSPEND, &mut Request::new(name, 0)?)
    }

    /// Removes a device that nothing uses.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.call(DEV_REMOVE, &mut Request::new(name, 0)?)
    }

    /// A device's node, if it is there.
    pub fn find(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let mut request = Request::new(name, 0)?;
        match self.call(DEV_STATUS, &mut request) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            result => result.map(|()| Some(node(request.number(DEVICE)))),
        }
    }

    /// What a device's target says of itself.
    pub fn status(&self, name: &str) -> io::Result<String> {
        let mut request = Request::new(name, 0)?;
        self.call(TABLE_STATUS, &mut request)?;
        Ok(request.text(SPEC))
    }

    /// Says something to a device's target.
    pub fn message(&self, name: &str, text: &str) -> io::Result<()> {
        let mut request = Request::new(name, 0)?;
        // Sector 0, then the text.
        let mut data = vec![0; 8];
        data.extend_from_slice(text.as_bytes());
        data.push(0);
        request.data(&data)?;
        self.call(TARGET_MSG, &mut request)
    }

    fn call(&self, command: u32, request: &mut Request) -> io::Result<()> {
        // `_IOWR(0xfd, command, struct dm_ioctl)`.
        let number = 0xc138_fd00 | command;
        // SAFETY: every dm request takes a `struct dm_ioctl` whose `data_size` says how much may be read and written; `Request::new` sets
        // it to the length of the buffer, which is alive, aligned for the structure and exclusively ours during the call.
        let result = unsafe {
            libc::ioctl(
                self.control.as_raw_fd(),
                libc::Ioctl::from(number),
                request.words.as_mut_ptr(),
            )
        };
        done(result)
    }
}

/// A `struct dm_ioctl` with what follows it. Words, because it must be aligned.
struct Request {
    words: Vec<u64>,
}

impl Request {
    fn new(name: &str, flags: u32) -> io::Result<Request> {
        if name.is_empty() || name.len() >= NAME_LENGTH || name.contains(['/', '\0']) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut request = Request {
            words: vec![0; BUFFER / 8],
        };
        // Version 4.0.0, which every kernel since 2.6 takes.
        request.put(0, &4_u32.to_ne_bytes());
        request.put(DATA_SIZE, &u32::try_from(BUFFER).unwrap_or(0).to_ne_bytes());
        request.put(
            DATA_START,
            &u32::try_from(HEADER).unwrap_or(0).to_ne_bytes(),
        );
        request.put(FLAGS, &flags.to_ne_bytes());
        request.put(NAME, name.as_bytes());
        Ok(request)
    }

    /// What follows the header.
    fn data(&mut self, data: &[u8]) -> io::Result<()> {
        if HEADER + data.len() > BUFFER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.put(HEADER, data);
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (position, byte) in (at..).zip(bytes) {
            let word = &mut self.words[position / 8];
            let mut parts = word.to_ne_bytes();
            parts[position % 8] = *byte;
            *word = u64::from_ne_bytes(parts);
        }
    }

    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.words.iter().flat_map(|word| word.to_ne_bytes())
    }

    fn number(&self, at: usize) -> u64 {
        self.words[at / 8]
    }

    /// The text `at` bytes into what the kernel answered.
    fn text(&self, at: usize) -> String {
        let text: Vec<u8> = self
            .bytes()
            .skip(HEADER + at)
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// `dev` is a `huge_encode_dev` number: minor numbers have 20 bits around the major's.
fn node(dev: u64) -> PathBuf {
    let minor = (dev & 0xff) | ((dev >> 12) & 0xf_ff00);
    PathBuf::from(format!("/dev/dm-{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_the_minor_number() {
        assert_eq!(node(0xfd03), PathBuf::from("/dev/dm-3"));
        assert_eq!(node(0x0010_fd01), PathBuf::from("/dev/dm-257"));
    }

    #[test]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        let mut request = Request::new("name", SUSPEND).expect("a name");
        request.data(b"data").expect("fits");
        let bytes: Vec<u8> = request.bytes().collect();
        assert_eq!(bytes[NAME..NAME + 5], *b"name\0");
        assert_eq!(bytes[FLAGS..FLAGS + 4], 2_u32.to_ne_bytes());
        assert_eq!(bytes[HEADER..HEADER + 5], *b"data\0");
        assert!(Request::new("a/b", 0).is_err());
    }
}
