//! Rotation: when, under which names, and compression without holding up the container.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::{Pid, WaitOptions, nice, waitpid};
use wharf_sys::child::{Fork, fork};

/// How far past its limit a file may grow while the previous one is still being compressed, as a multiple of the limit.
const PATIENCE: u64 = 2;

/// Rules of rotation and the compression under way.
#[derive(Debug)]
pub struct Rotation {
    /// Bytes at which the current file is full.
    max_size: Option<u64>,
    /// Files in all, at least 1.
    max_file: u32,
    compress: bool,
    /// The process that compresses `.1`.
    compressor: Option<Pid>,
}

impl Rotation {
    /// `max_file` 0 counts as 1.
    pub fn new(max_size: Option<u64>, max_file: u32, compress: bool) -> Rotation {
        Rotation {
            max_size,
            max_file: max_file.max(1),
            compress,
            compressor: None,
        }
    }

    /// Must the next line go into a new file? Like Docker, a file ends after the line that reaches the limit.
    pub fn due(&mut self, size: u64) -> bool {
        let Some(max_size) = self.max_size else {
            return false;
        };
        if size < max_size || size == 0 {
            return false;
        }
        if size < max_size.saturating_mul(PATIENCE) && self.is_compressing() {
            return false;
        }
        self.wait();
        true
    }

    /// Moves every file one number up, dropping the oldest; afterwards nothing is at `path`.
    pub fn rotate(&self, path: &Path) -> io::Result<()> {
        if self.max_file < 2 {
            return fs::remove_file(path);
        }
        let suffix = if self.compress { ".gz" } else { "" };
        ignore_missing(fs::remove_file(numbered(path, self.max_file - 1, suffix)))?;
        for number in (1..self.max_file - 1).rev() {
            ignore_missing(fs::rename(
                numbered(path, number, suffix),
                numbered(path, number + 1, suffix),
            ))?;
        }
        ignore_missing(fs::rename(path, numbered(path, 1, "")))
    }

    /// Starts compressing `.1` in a child of low priority. In a process that may not fork it is done at once.
    pub fn compress_newest(&mut self, path: &Path) {
        if !self.compress || self.max_file < 2 {
            return;
        }
        let newest = numbered(path, 1, "");
        match fork() {
            Ok(Fork::Parent(pid)) => self.compressor = Pid::from_raw(pid),
            Ok(Fork::Child) => {
                let _ = nice(19);
                let done = compress(&newest);
                std::process::exit(i32::from(done.is_err()));
            }
            // The plain file stays readable; the next rotation replaces it.
            Err(_) => drop(compress(&newest)),
        }
    }

    /// A child was reaped elsewhere.
    pub fn child_ended(&mut self, pid: i32) {
        if self
            .compressor
            .is_some_and(|compressor| compressor.as_raw_nonzero().get() == pid)
        {
            self.compressor = None;
        }
    }

    /// Blocks until no compression is under way.
    pub fn wait(&mut self) {
        if let Some(pid) = self.compressor.take() {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }

    fn is_compressing(&mut self) -> bool {
        let Some(pid) = self.compressor else {
            return false;
        };
        let running = matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None));
        if !running {
            self.compressor = None;
        }
        running
    }
}

/// Removes a log's current file and all rotated ones. Safe to repeat.
pub fn remove_all(path: &Path) -> io::Result<()> {
    for number in 1.. {
        let plain = fs::remove_file(numbered(path, number, ""));
        let packed = fs::remove_file(numbered(path, number, ".gz"));
        let missing = |result: &io::Result<()>| matches!(result, Err(error) if error.kind() == io::ErrorKind::NotFound);
        if missing(&plain) && missing(&packed) {
            break;
        }
        ignore_missing(plain)?;
        ignore_missing(packed)?;
    }
    ignore_missing(fs::remove_file(path))
}

/// `path.gz` appears whole or not at all, then `path` goes.
fn compress(path: &Path) -> io::Result<()> {
    let (partial, compressed) = (with_suffix(path, ".gz.tmp"), with_suffix(path, ".gz"));
    let mut encoder = GzEncoder::new(File::create(&partial)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(&partial, &compressed)?;
    fs::remove_file(path)
}

fn numbered(path: &Path, number: u32, suffix: &str) -> PathBuf {
    with_suffix(path, &format!(".{number}{suffix}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
