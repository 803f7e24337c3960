//! `docker cp`: looking at a path of a container, taking it out as a tar, putting a tar in (moby `daemon/archive_unix.go`).

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use wharf_api::container::PathStat;
use wharf_archive::compression::{Compression, MAGIC_LEN};
use wharf_archive::extract::{self, Destination, ExtractError, errno_text, extract};
use wharf_archive::pack::{self, Owners, Packer};
use wharf_archive::pieces::Pieces;
use wharf_archive::root::{Root, asks_for_directory, base, clean};
use wharf_archive::tar::Entry;
use wharf_runtime::plan::{IdRange, Mappings};

use super::Container;
use super::file_system::FileSystem;
use super::path_stat::describe;
use super::record::Record;
use crate::{Engine, Error, Result};

/// Longest user database that is read; the image is not trusted.
const MAX_DATABASE: u64 = 16 << 20;

/// How an upload is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtractOptions {
    /// `noOverwriteDirNonDir`.
    pub no_overwrite_dir_non_dir: bool,
    /// `copyUIDGID`: files belong to the container's user, if it has one.
    pub copy_uid_gid: bool,
}

/// A path that is about to be written as a tar.
#[derive(Debug)]
pub struct PathArchive {
    fs: FileSystem,
    path: Vec<u8>,
    /// What is there.
    pub stat: PathStat,
}

/// Why a path could not be used.
enum Failure {
    Missing,
    Invalid(String),
    Failed(String),
}

impl Failure {
    fn at(step: &str, path: &[u8], errno: Errno) -> Failure {
        match errno {
            Errno::NOENT => Failure::Missing,
            errno => Failure::Failed(format!(
                "{step} {}: {}",
                String::from_utf8_lossy(path),
                errno_text(errno)
            )),
        }
    }

    fn into_error(self, path: &str, container: &str) -> Error {
        match self {
            Failure::Missing => Error::not_found(format!(
                "Could not find the file {path} in container {container}"
            )),
            Failure::Invalid(text) => Error::invalid(text),
            Failure::Failed(text) => Error::internal(text),
        }
    }
}

impl Engine {
    /// `HEAD /containers/{id}/archive`.
    pub async fn container_path_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        let container = self.containers.get(name)?;
        let fs = self.enter(&container).await?;
        let wanted = absolute(path);
        let found = crate::blocking(move || fs.run(move |root| look(root, &wanted))).await?;
        found
            .map(|(stat, _)| stat)
            .map_err(|failure| failure.into_error(path, name))
    }

    /// `GET /containers/{id}/archive`, up to the first byte.
    pub async fn container_archive(&self, name: &str, path: &str) -> Result<PathArchive> {
        let container = self.containers.get(name)?;
        let fs = self.enter(&container).await?;
        let kept = keep_end(clean(&absolute(path)), path.as_bytes());
        let wanted = kept.clone();
        let (fs, found) = crate::blocking(move || {
            let found = fs.run(move |root| look(root, &wanted))?;
            Ok((fs, found))
        })
        .await?;
        let (stat, _) = found.map_err(|failure| failure.into_error(path, name))?;
        self.tell(&container, "archive-path", &[]);
        Ok(PathArchive {
            fs,
            path: kept,
            stat,
        })
    }

    /// `PUT /containers/{id}/archive`. `archive` may be compressed; it is read to its end.
    pub async fn container_extract(
        &self,
        name: &str,
        path: &str,
        options: ExtractOptions,
        archive: impl BufRead + Send + 'static,
    ) -> Result<()> {
        let container = self.containers.get(name)?;
        let target = Target {
            record: container.record(),
            path: path.to_owned(),
            name: name.to_owned(),
            options,
        };
        self.finish(move |engine| async move { engine.extract(&container, target, archive).await })
            .await
    }

    async fn extract(
        &self,
        container: &Arc<Container>,
        target: Target,
        archive: impl BufRead + Send + 'static,
    ) -> Result<()> {
        let fs = self.enter(container).await?;
        let (path, name) = (target.path.clone(), target.name.clone());
        let done = crate::blocking(move || {
            let ids = fs.ids.clone();
            fs.run(move |root| target.extract(root, &ids, archive))
        })
        .await?;
        done.map_err(|failure| failure.into_error(&path, &name))?;
        self.tell(container, "extract-to-dir", &[]);
        Ok(())
    }
}

impl PathArchive {
    /// Writes the tar in pieces. Blocking.
    pub fn write(self, send: impl FnMut(Vec<u8>) -> io::Result<()> + Send + 'static) -> Result<()> {
        let (path, owners) = (self.path, self.fs.owners());
        let written = self
            .fs
            .run(move |root| pack(root, &path, owners, Pieces::new(send)))?;
        written.map_err(|error| Error::caused("archive", error))
    }
}

/// Directories are named after themselves, or `.` when the path ends in one (moby `TarResourceRebaseOpts`).
fn pack(root: &Root, path: &[u8], owners: Owners, out: Pieces<'_>) -> io::Result<()> {
    let options = pack::Options {
        skip_kernel: true,
        ..pack::Options::default()
    };
    let mut packer = Packer::new(out, root.descriptors.clone(), options).with_owners(owners);
    let name = base(path).to_vec();
    let (_, stat) = root.look(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        packer.directory(root.open_dir(path)?, Some(&name))?;
    } else {
        let parent = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(&b"/"[..], |slash| &path[..=slash]);
        let parent = root.open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        packer.entry(std::os::fd::AsFd::as_fd(&parent), &name, &name)?;
    }
    packer.finish()
}

fn look(root: &Root, path: &[u8]) -> Result<(PathStat, Stat), Failure> {
    let (_, stat) = root
        .look(path)
        .map_err(|errno| Failure::at("lstat", path, errno))?;
    Ok((describe(root, path, &stat), stat))
}

fn absolute(path: &str) -> Vec<u8> {
    [b"/", path.trim_start_matches('/').as_bytes()].concat()
}

/// Puts back the slash or dot at the end that cleaning took, because it asks for a directory (moby `PreserveTrailingDotOrSeparator`).
fn keep_end(mut cleaned: Vec<u8>, original: &[u8]) -> Vec<u8> {
    if !asks_for_directory(original) {
        return cleaned;
    }
    if !cleaned.ends_with(b"/") {
        cleaned.push(b'/');
    }
    if base(original) == b"." {
        cleaned.push(b'.');
    }
    cleaned
}

/// Where an upload goes.
struct Target {
    record: Arc<Record>,
    path: String,
    name: String,
    options: ExtractOptions,
}

impl Target {
    fn extract(
        &self,
        root: &Root,
        ids: &Mappings,
        archive: impl BufRead + Send,
    ) -> Result<(), Failure> {
        let wanted = absolute(&self.path);
        let failed = |errno| Failure::at("lstat", &wanted, errno);
        let dir = root.open(&wanted, OFlags::PATH).map_err(failed)?;
        let stat = rustix::fs::fstat(&dir).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Failure::Invalid(
                "extraction point is not a directory".into(),
            ));
        }
        let resolved = root.resolve(&wanted).map_err(failed)?;
        self.check_writable(&resolved)?;
        let options = extract::Options {
            no_overwrite_dir_non_dir: self.options.no_overwrite_dir_non_dir,
            owner: self
                .owner(root)?
                .map(|(uid, gid)| (on_host(&ids.uids, uid), on_host(&ids.gids, gid))),
            keep_own: false,
        };
        unpack(root, &resolved, options, ids, archive).map_err(|error| match error {
            ExtractError::Entry { step, path, errno } => Failure::at(step, &path, errno),
            other => Failure::Failed(other.to_string()),
        })
    }

    /// Docker's own refusals, ahead of the kernel's (moby `checkWritablePath`).
    fn check_writable(&self, path: &[u8]) -> Result<(), Failure> {
        let holds = |destination: &str| {
            let below = path.strip_prefix(destination.as_bytes());
            below.is_some_and(|below| below.is_empty() || below.starts_with(b"/"))
        };
        let mounts = self.record.mounts.iter();
        let holding = mounts.filter(|mount| mount.kind != "tmpfs" && holds(&mount.destination));
        let (read_only, text) = match holding.max_by_key(|mount| mount.destination.len()) {
            Some(mount) => (!mount.rw, "mounted volume is marked read-only"),
            None => (
                self.record.host_config.readonly_rootfs && !self.in_tmpfs(&holds),
                "container rootfs is marked read-only",
            ),
        };
        if read_only {
            return Err(Failure::Invalid(text.into()));
        }
        Ok(())
    }

    fn in_tmpfs(&self, holds: &dyn Fn(&str) -> bool) -> bool {
        let own = self
            .record
            .mounts
            .iter()
            .filter(|mount| mount.kind == "tmpfs");
        let listed = self.record.host_config.tmpfs.keys();
        own.map(|mount| &mount.destination)
            .chain(listed)
            .any(|destination| holds(destination))
    }

    fn owner(&self, root: &Root) -> Result<Option<(u32, u32)>, Failure> {
        let user = &self.record.config.user;
        if !self.options.copy_uid_gid || user.is_empty() {
            return Ok(None);
        }
        let (passwd, group) = (
            database(root, b"/etc/passwd"),
            database(root, b"/etc/group"),
        );
        wharf_runtime::view::owner_of(user, &passwd, &group)
            .map(Some)
            .map_err(|error| Failure::Invalid(error.to_string()))
    }
}

/// A missing database is an empty one.
fn database(root: &Root, path: &[u8]) -> String {
    let mut text = Vec::new();
    if let Ok(file) = root.open_file(path) {
        // What could be read counts.
        let _ = std::fs::File::from(file)
            .take(MAX_DATABASE)
            .read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn unpack(
    root: &Root,
    path: &[u8],
    options: extract::Options,
    ids: &Mappings,
    mut archive: impl BufRead + Send,
) -> Result<(), ExtractError> {
    let owned = |entry: &mut Entry| {
        entry.uid = on_host(&ids.uids, entry.uid);
        entry.gid = on_host(&ids.gids, entry.gid);
    };
    let mut start = Vec::with_capacity(MAGIC_LEN);
    (&mut archive)
        .take(MAGIC_LEN as u64)
        .read_to_end(&mut start)
        .map_err(ExtractError::Archive)?;
    let compression = Compression::detect(&start);
    let destination = Destination {
        root,
        path,
        shown: path,
    };
    let whole = io::Cursor::new(start).chain(archive);
    if compression == Compression::None {
        return extract(whole, &destination, options, owned);
    }
    let plain = compression.reader(whole).map_err(ExtractError::Archive)?;
    let plain = io::BufReader::with_capacity(256 << 10, plain);
    extract(plain, &destination, options, owned)
}

/// The host's id for one of the container's; one that the container does not have stays, and is refused by the kernel.
fn on_host(ranges: &[IdRange], id: u32) -> u32 {
    Mappings::to_host(ranges, id).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_ask_for_a_directory_are_kept() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("a/../b/", "/b/"),
            ("/a/.", "/a/."),
            ("/", "/"),
            ("/.", "/."),
            ("/a//b/./", "/a/b/."),
        ] {
            let kept = keep_end(clean(&absolute(path)), path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&kept), expected, "{path}");
        }
    }
}
