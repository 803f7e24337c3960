//! `cp`

use std::io::{self, BufReader, Read};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wharf_api::container::PathStat;
use wharf_archive::extract::{Destination, Options, extract};
use wharf_archive::root::Root;
use wharf_archive::tar::{Entry, Kind};

use crate::client::request::Request;
use crate::client::response::Head;
use crate::copy::place::{self, Info, Placement, rename};
use crate::copy::{Side, local, split, upload};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::stream::{terminal, write_all};
use crate::text::size;

/// Go's `fs.ModeDir`, `ModeSymlink` and `ModeDevice`.
const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
/// How often the terminal is told.
const INTERVAL: Duration = Duration::from_millis(75);
/// Bytes asked of the daemon at a time.
const BUFFER: usize = 256 * 1024;

/// `cp`
///
/// # Errors
/// One side cannot be read or written.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let [source, target] = &matches.args[..] else {
        return Err(Failure::new("a source and a destination are needed"));
    };
    if source.is_empty() {
        return Err(Failure::new("source can not be empty"));
    }
    if target.is_empty() {
        return Err(Failure::new("destination can not be empty"));
    }
    let copy = Copy {
        session,
        follow_link: matches.on("follow-link"),
        archive: matches.on("archive"),
        quiet: matches.on("quiet") || !(matches.given("quiet") || terminal::stdout_is_terminal()),
    };
    match (split(source), split(target)) {
        (
            Side {
                container: Some(container),
                path,
            },
            Side {
                container: None,
                path: target,
            },
        ) => copy.out_of(&container, &path, &target),
        (
            Side {
                container: None,
                path,
            },
            Side {
                container: Some(container),
                path: target,
            },
        ) => copy.put_into(&path, &container, &target),
        (
            Side {
                container: Some(_), ..
            },
            _,
        ) => Err(Failure::new("copying between containers is not supported")),
        _ => Err(Failure::new("must specify at least one container source")),
    }
}

struct Copy<'a> {
    session: &'a Session,
    follow_link: bool,
    archive: bool,
    quiet: bool,
}

fn archive_path(container: &str) -> String {
    format!("/containers/{container}/archive")
}

fn stat_of(head: &Head) -> Result<PathStat, Failure> {
    let text = head
        .header("x-docker-container-path-stat")
        .unwrap_or_default();
    let invalid = |error: String| {
        Failure::new(format!(
            "unable to get resource stat from response: {error}"
        ))
    };
    let json = STANDARD
        .decode(text)
        .map_err(|error| invalid(error.to_string()))?;
    wharf_api::gojson::from_slice(&json).map_err(|error| invalid(error.to_string()))
}

impl Copy<'_> {
    fn stat(&self, container: &str, path: &str) -> Result<PathStat, Failure> {
        let path = path.replace('\\', "/");
        let request = Request::new("HEAD", archive_path(container)).query("path", &path);
        let response = self.session.client.send(request)?;
        let stat = stat_of(&response.head);
        self.session.client.keep(response.body);
        stat
    }

    fn out_of(&self, container: &str, path: &str, target: &str) -> Result<(), Failure> {
        let resolved = match target {
            "-" => Vec::new(),
            target => {
                let resolved = local::resolve(target)?;
                local::check_output(&resolved)?;
                resolved
            }
        };
        let (path, rebase) = self.linked_source(container, path);
        let request = Request::get(archive_path(container)).query("path", &path);
        let mut response = self.session.client.send(request)?;
        if target == "-" {
            return to_stdout(&mut response.body);
        }
        let stat = stat_of(&response.head)?;
        let source = Info {
            path: path.into_bytes(),
            exists: true,
            is_dir: stat.mode & DIR != 0,
            rebase,
        };
        let destination = local::destination(&resolved)?;
        let placement = place::plan(&source, &destination).map_err(Failure::new)?;
        let mut counted = Counted::new(response.body, "Copying from container - ", self.quiet);
        let unpacked = unpack(&mut counted, &source, &placement);
        counted.finish();
        unpacked?;
        self.summary(counted.total, target_text(&resolved));
        Ok(())
    }

    /// With `-L`, where the source leads to and what it is called.
    fn linked_source(&self, container: &str, path: &str) -> (String, Option<Vec<u8>>) {
        if self.follow_link
            && let Ok(stat) = self.stat(container, path)
            && stat.mode & SYMLINK != 0
        {
            let target = beside(path.as_bytes(), stat.link_target.as_bytes());
            let (resolved, rebase) = place::follow(path.as_bytes(), &target);
            return (String::from_utf8_lossy(&resolved).into_owned(), rebase);
        }
        (path.to_owned(), None)
    }

    fn put_into(&self, path: &str, container: &str, target: &str) -> Result<(), Failure> {
        let resolved = match path {
            "-" => Vec::new(),
            path => local::resolve(path)?,
        };
        let destination = self.destination(container, target)?;
        if path == "-" {
            if !destination.is_dir {
                return Err(Failure::new(format!(
                    "destination \"{container}:{target}\" must be a directory"
                )));
            }
            let mut counted = Counted::new(io::stdin(), "Copying to container - ", self.quiet);
            let sent = self.upload(container, &destination.path, &mut counted);
            counted.finish();
            return sent;
        }
        let source = local::source(&resolved, self.follow_link)?;
        let placement = place::plan(&source, &destination).map_err(Failure::new)?;
        let upload = upload::stream(&source, placement.name)?;
        let mut counted = Counted::new(upload, "Copying to container - ", self.quiet);
        let sent = self.upload(container, &placement.directory, &mut counted);
        counted.finish();
        sent?;
        let shown = String::from_utf8_lossy(&destination.path).into_owned();
        self.summary(counted.total, format!("{container}:{shown}"));
        Ok(())
    }

    /// A destination that cannot be looked at may still be made; the daemon will say if not.
    fn destination(&self, container: &str, target: &str) -> Result<Info, Failure> {
        let mut info = Info {
            path: target.as_bytes().to_vec(),
            ..Info::default()
        };
        let Ok(mut stat) = self.stat(container, target) else {
            return Ok(info);
        };
        if stat.mode & SYMLINK != 0 {
            info.path = beside(target.as_bytes(), stat.link_target.as_bytes());
            match self.stat(container, &String::from_utf8_lossy(&info.path)) {
                Ok(behind) => stat = behind,
                Err(_) => return Ok(info),
            }
        }
        if stat.mode & DEVICE != 0 {
            return Err(Failure::new(format!(
                "destination \"{container}:{target}\" must be a directory or a regular file: got a device"
            )));
        }
        (info.exists, info.is_dir) = (true, stat.mode & DIR != 0);
        Ok(info)
    }

    fn upload(
        &self,
        container: &str,
        directory: &[u8],
        body: &mut dyn Read,
    ) -> Result<(), Failure> {
        let path = String::from_utf8_lossy(directory).into_owned();
        let request = Request::new("PUT", archive_path(container))
            .query("path", &path)
            // Docker's client never asks to replace directories by files or the other way round.
            .query("noOverwriteDirNonDir", "true")
            .query_if(self.archive, "copyUIDGID", "true")
            .stream(body, "application/octet-stream");
        Ok(self.session.client.done(request)?)
    }

    fn summary(&self, total: u64, target: String) {
        if !self.quiet {
            let total = i64::try_from(total).unwrap_or(i64::MAX);
            let size = size::decimal_short(total);
            print::error_line(&format!("Successfully copied {size} to {target}"));
        }
    }
}

fn target_text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A link's target as seen from the link.
fn beside(path: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") {
        return target.to_vec();
    }
    let (directory, _) = place::split(path);
    wharf_archive::root::clean(&[directory.as_slice(), b"/", target].concat())
}

fn to_stdout(body: &mut impl Read) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = body.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        match write_all(rustix::stdio::stdout(), &buffer[..n]) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Failure::exit(141));
            }
            other => other?,
        }
    }
}

/// Entries get their names at the destination; links inside the archive follow.
fn unpack(body: &mut impl Read, source: &Info, placement: &Placement) -> Result<(), Failure> {
    let root = Root::at(std::path::Path::new(wharf_archive::root::name(
        &placement.directory,
    )))
    .map_err(Failure::from)?;
    let (_, old) = place::split(&source.path);
    let new = placement.name.clone().or_else(|| source.rebase.clone());
    let renamed = |entry: &mut Entry| {
        let Some(new) = &new else { return };
        entry.path = rename(&entry.path, &old, new);
        if entry.kind == Kind::HardLink {
            entry.link = rename(&entry.link, &old, new);
        }
    };
    let destination = Destination {
        root: &root,
        path: b"/",
        shown: &placement.directory,
    };
    let options = Options {
        no_overwrite_dir_non_dir: true,
        owner: None,
        keep_own: true,
    };
    // Modes are those of the archive.
    rustix::process::umask(rustix::fs::Mode::empty());
    extract(
        BufReader::with_capacity(BUFFER, body),
        &destination,
        options,
        renamed,
    )
    .map_err(|error| Failure::new(error.to_string()))
}

/// Counts what is read, and tells the terminal.
struct Counted<R> {
    inner: R,
    header: &'static str,
    total: u64,
    shown: Option<Instant>,
    quiet: bool,
}

impl<R: Read> Counted<R> {
    fn new(inner: R, header: &'static str, quiet: bool) -> Counted<R> {
        Counted {
            inner,
            header,
            total: 0,
            shown: None,
            quiet: quiet || !terminal::stderr_is_terminal(),
        }
    }

    fn show(&mut self) {
        if self.quiet || self.shown.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        self.shown = Some(Instant::now());
        let total = i64::try_from(self.total).unwrap_or(i64::MAX);
        print::error(&format!(
            "\r\x1b[2K{}{}",
            self.header,
            size::decimal_short(total)
        ));
    }

    fn finish(&mut self) {
        if self.shown.is_some() {
            print::error("\r\x1b[2K");
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.total += n as u64;
        self.show();
        Ok(n)
    }
}
