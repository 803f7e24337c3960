//! Which files make up one log: `<log>`, and rotated ones `<log>.1` (newest) to `<log>.N`, possibly with `.gz`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::LogError;

/// One rotated file, held open so that later rotations cannot take it away.
#[derive(Debug)]
pub struct Part {
    /// The file.
    pub file: File,
    /// gzip.
    pub compressed: bool,
}

/// All files of a log at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Rotated files, oldest first.
    pub rotated: Vec<Part>,
    /// The file being written; `None` before the first start.
    pub current: Option<File>,
}

/// How often a rotation may get in between before what was found is taken as it is.
const ATTEMPTS: usize = 10;

/// Opens all files of `log`, tried anew when it was rotated meanwhile.
pub fn open(log: &Path) -> Result<Snapshot, LogError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let current = open_existing(log)?;
        let mut rotated = Vec::new();
        for number in 1.. {
            match open_rotated(log, number)? {
                Some(part) => rotated.push(part),
                None => break,
            }
        }
        if attempt >= ATTEMPTS || current.as_ref().is_none_or(|file| is_at(file, log)) {
            rotated.reverse();
            return Ok(Snapshot { rotated, current });
        }
    }
}

/// Whether `path` still names this open file.
pub fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn open_rotated(log: &Path, number: u32) -> Result<Option<Part>, LogError> {
    if let Some(file) = open_existing(&with_suffix(log, &format!(".{number}")))? {
        return Ok(Some(Part {
            file,
            compressed: false,
        }));
    }
    let file = open_existing(&with_suffix(log, &format!(".{number}.gz")))?;
    Ok(file.map(|file| Part {
        file,
        compressed: true,
    }))
}

fn open_existing(path: &Path) -> Result<Option<File>, LogError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogError::Io {
            what: "open",
            path: path.to_owned(),
            source,
        }),
    }
}

fn with_suffix(log: &Path, suffix: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Part {
    /// Its plain text from the start.
    pub fn reader(&self) -> Box<dyn Read + '_> {
        if self.compressed {
            Box::new(flate2::read::MultiGzDecoder::new(&self.file))
        } else {
            Box::new(&self.file)
        }
    }
}
