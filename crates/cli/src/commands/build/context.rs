//! What is sent: a directory as a tar, an archive, a Dockerfile alone, or an address.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use wharf_archive::compression::Compression;
use wharf_archive::tar::{Entry, Kind, Time, encode, finish, is_header, write_padding};
use wharf_build::ignore::Patterns;

use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;

/// A context ready to be sent.
pub(super) struct Source {
    /// The tar, unless the daemon fetches the context.
    pub(super) body: Option<Box<dyn Read>>,
    /// Path of the Dockerfile in it; empty for the default.
    pub(super) dockerfile: String,
    /// Where the daemon gets it from.
    pub(super) remote: String,
}

/// Finds out what the argument is.
pub(super) fn open(matches: &Matches) -> Result<Source, Failure> {
    let argument = matches.args[0].as_str();
    let file = matches.text_or_empty("file");
    if argument == "-" {
        return from_stdin(file);
    }
    if is_remote(argument) {
        return Ok(Source {
            body: None,
            dockerfile: file.to_owned(),
            remote: argument.to_owned(),
        });
    }
    from_directory(argument, file)
}

pub(super) fn is_remote(argument: &str) -> bool {
    [
        "http://",
        "https://",
        "git://",
        "git@",
        "github.com/",
        "ssh://",
    ]
    .iter()
    .any(|prefix| argument.starts_with(prefix))
}

/// An archive, or the text of a Dockerfile.
fn from_stdin(file: &str) -> Result<Source, Failure> {
    if file == "-" {
        return Err(Failure::new(
            "invalid argument: can't use stdin for both build context and dockerfile",
        ));
    }
    let mut input = BufReader::with_capacity(1 << 16, io::stdin());
    let mut start = Vec::new();
    (&mut input).take(512).read_to_end(&mut start)?;
    let rest = Cursor::new(start.clone()).chain(input);
    if Compression::detect(&start) != Compression::None || is_header(&start) {
        return Ok(Source {
            body: Some(Box::new(rest)),
            dockerfile: file.to_owned(),
            remote: String::new(),
        });
    }
    let mut text = Vec::new();
    { rest }.read_to_end(&mut text)?;
    let mut archive = Vec::new();
    put(
        &mut archive,
        plain(b"Dockerfile", text.len() as u64),
        &mut text.as_slice(),
    )?;
    finish(&mut archive)?;
    Ok(Source {
        body: Some(Box::new(Cursor::new(archive))),
        dockerfile: String::new(),
        remote: String::new(),
    })
}

fn from_directory(argument: &str, file: &str) -> Result<Source, Failure> {
    let directory = Path::new(argument).canonicalize().map_err(|_| {
        Failure::new(format!(
            "unable to prepare context: path {argument:?} not found"
        ))
    })?;
    if !directory.is_dir() {
        return Err(Failure::new(format!(
            "unable to prepare context: context must be a directory: {}",
            directory.display()
        )));
    }
    let (dockerfile, extra, beside) = dockerfile(&directory, file)?;
    let patterns = ignore_file(&directory, beside.as_deref())?;
    let body = pipe(directory, patterns, dockerfile.clone(), extra)?;
    Ok(Source {
        body: Some(body),
        dockerfile,
        remote: String::new(),
    })
}

/// A directory as a named context: without what its own `.dockerignore` leaves out.
pub(super) fn tar_of(directory: &Path) -> Result<Box<dyn Read>, Failure> {
    let patterns = ignore_file(directory, None)?;
    pipe(directory.to_owned(), patterns, String::new(), None)
}

/// The directory's files as a tar that is made while it is read.
fn pipe(
    directory: PathBuf,
    patterns: Patterns,
    dockerfile: String,
    extra: Option<Vec<u8>>,
) -> Result<Box<dyn Read>, Failure> {
    let (reader, writer) = io::pipe()?;
    std::thread::Builder::new()
        .name("context".to_owned())
        .spawn(move || {
            let mut walk = Walk {
                out: BufWriter::with_capacity(1 << 18, writer),
                root: directory,
                patterns,
                dockerfile,
            };
            // The daemon stopped reading: it says why.
            if let Err(error) = walk.all(extra)
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                crate::print::error_line(&format!("error sending the build context: {error}"));
            }
        })?;
    Ok(Box::new(reader))
}

/// Path of the Dockerfile in the context, its text if it does not lie there, and where it lies.
type Found = (String, Option<Vec<u8>>, Option<PathBuf>);

fn dockerfile(directory: &Path, file: &str) -> Result<Found, Failure> {
    if file == "-" {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text)?;
        return Ok((outside_name(), Some(text), None));
    }
    let path = if file.is_empty() {
        let usual = directory.join("Dockerfile");
        let other = directory.join("dockerfile");
        if !usual.exists() && other.exists() {
            other
        } else {
            usual
        }
    } else {
        PathBuf::from(file)
    };
    let failed = |error: io::Error| {
        Failure::new(format!(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}: {}",
            path.display(),
            errno_text(&error)
        ))
    };
    let resolved = path.canonicalize().map_err(failed)?;
    if let Ok(inside) = resolved.strip_prefix(directory) {
        return Ok((inside.display().to_string(), None, Some(resolved)));
    }
    let text = std::fs::read(&resolved).map_err(failed)?;
    Ok((outside_name(), Some(text), Some(resolved)))
}

/// A name that no file has.
fn outside_name() -> String {
    format!(".dockerfile.{:020x}", std::process::id())
}

/// `<Dockerfile>.dockerignore` if it is there, `.dockerignore` otherwise.
fn ignore_file(directory: &Path, dockerfile: Option<&Path>) -> Result<Patterns, Failure> {
    let own = dockerfile.map(|path| {
        let mut own = path.as_os_str().to_owned();
        own.push(".dockerignore");
        PathBuf::from(own)
    });
    let path = own
        .filter(|own| own.is_file())
        .unwrap_or_else(|| directory.join(".dockerignore"));
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(Failure::new(format!(
                "error reading .dockerignore: {error}"
            )));
        }
    };
    Patterns::parse_file(&text)
        .map_err(|error| Failure::new(format!("error checking context: {error}")))
}

struct Walk {
    out: BufWriter<io::PipeWriter>,
    root: PathBuf,
    patterns: Patterns,
    dockerfile: String,
}

impl Walk {
    fn all(&mut self, dockerfile: Option<Vec<u8>>) -> io::Result<()> {
        self.directory(Path::new(""))?;
        if let Some(text) = dockerfile {
            let entry = plain(self.dockerfile.as_bytes(), text.len() as u64);
            put(&mut self.out, entry, &mut text.as_slice())?;
        }
        finish(&mut self.out)?;
        self.out.flush()
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let mut names: Vec<_> = std::fs::read_dir(self.root.join(path))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            let path = path.join(name);
            let metadata = match std::fs::symlink_metadata(self.root.join(&path)) {
                // Gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let text = path.to_string_lossy();
            let excluded =
                !self.patterns.is_empty() && self.patterns.excludes(&text) && !self.always(&text);
            if !excluded {
                self.entry(&path, &metadata)?;
            }
            if metadata.is_dir() && (!excluded || self.looks_below(&text)) {
                self.directory(&path)?;
            }
        }
        Ok(())
    }

    /// The daemon needs these two, whatever the patterns say; it hides them itself.
    fn always(&self, path: &str) -> bool {
        path == self.dockerfile || path == ".dockerignore"
    }

    fn looks_below(&self, directory: &str) -> bool {
        let inside = Path::new(&self.dockerfile).starts_with(directory);
        inside || self.patterns.may_take_back_below(directory)
    }

    fn entry(&mut self, path: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
        let mut entry = plain(path.as_os_str().as_bytes(), 0);
        entry.mode = metadata.mode() & 0o7777;
        entry.mtime = Time {
            seconds: metadata.mtime(),
            nanos: 0,
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            entry.kind = Kind::Directory;
            entry.path.push(b'/');
        } else if kind.is_symlink() {
            entry.kind = Kind::Symlink;
            entry.link = std::fs::read_link(self.root.join(path))?
                .as_os_str()
                .as_bytes()
                .to_vec();
        } else if kind.is_file() {
            let file = File::open(self.root.join(path))?;
            entry.size = metadata.len();
            let zeros = io::repeat(0);
            return put(
                &mut self.out,
                entry,
                &mut file.chain(zeros).take(metadata.len()),
            );
        } else {
            // Sockets and devices are no part of a context.
            return Ok(());
        }
        put(&mut self.out, entry, &mut io::empty())
    }
}

/// A regular file of root's.
fn plain(path: &[u8], size: u64) -> Entry {
    Entry {
        size,
        ..Entry::new(path.to_vec(), Kind::File, 0o644)
    }
}

fn put(out: &mut impl Write, entry: Entry, content: &mut impl Read) -> io::Result<()> {
    let mut header = Vec::with_capacity(512);
    encode(&entry, &mut header);
    out.write_all(&header)?;
    let copied = io::copy(content, out)?;
    write_padding(out, copied)
}
