//! A local directory. Reads are a system call or two on a descriptor of the root; writes go to a file of their own, are synced, renamed,
//! and the directory is synced.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;
use wharf_spec::digest::{Digest, Hasher};

use super::{Blob, BlobSource, Entry, Stat, StorageError, keys};

/// Files on their way to their names.
const TMP: &str = "tmp";

/// What one read takes of a small object.
const SMALL: usize = 4096;

/// Directories that have been empty for so long are removed.
const EMPTY_FOR: std::time::Duration = std::time::Duration::from_secs(600);

/// A directory that holds a store.
#[derive(Debug, Clone)]
pub struct Local(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    dir: OwnedFd,
    sync: bool,
}

impl Local {
    /// Opens a store, or makes one where nothing is.
    ///
    /// # Errors
    /// The directory cannot be made or opened.
    pub fn open(root: &Path, sync: bool) -> Result<Local, StorageError> {
        let failed = |source| StorageError::io("opening", &root.display().to_string(), source);
        std::fs::create_dir_all(root).map_err(failed)?;
        for dir in [
            TMP,
            "blobs/sha256",
            "blobs/sha512",
            "repos",
            "catalog",
            "uploads",
        ] {
            // A store that may only be read is one all the same.
            match std::fs::create_dir_all(root.join(dir)) {
                Err(error) if error.raw_os_error() != Some(Errno::ROFS.raw_os_error()) => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        let dir = rustix::fs::open(
            root,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| failed(errno.into()))?;
        let local = Local(Arc::new(Inner {
            root: root.to_owned(),
            dir,
            sync,
        }));
        if local.stat("oci-layout")?.is_none() {
            let _ = local.put_now("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        }
        Ok(local)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Takes part in using the store, or, with `alone`, makes sure that nobody else does. Held until dropped.
    ///
    /// # Errors
    /// Others use the store.
    pub fn lock(&self, alone: bool) -> io::Result<File> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.root.join(".lock"))?;
        let how = if alone {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        rustix::fs::flock(&file, how)?;
        Ok(file)
    }

    fn open_at(&self, key: &str) -> Result<Option<File>, StorageError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.0.dir, key, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(StorageError::io("opening", key, errno.into())),
        }
    }

    /// See [`super::Storage::get`]. Takes microseconds: no need for another thread.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, StorageError> {
        let Some(mut file) = self.open_at(key)? else {
            return Ok(None);
        };
        let read = |source| StorageError::io("reading", key, source);
        // Nearly everything that is read this way is shorter, and then one call is enough.
        let mut first = [0; SMALL];
        let n = file.read(&mut first).map_err(read)?;
        let mut bytes = first[..n].to_vec();
        if n == SMALL {
            file.read_to_end(&mut bytes).map_err(read)?;
        }
        Ok(Some(bytes.into()))
    }

    /// See [`super::Storage::stat`].
    pub fn stat(&self, key: &str) -> Result<Option<Stat>, StorageError> {
        match rustix::fs::statat(&self.0.dir, key, AtFlags::empty()) {
            Ok(stat) => Ok(Some(Stat {
                size: stat.st_size.try_into().unwrap_or(0),
                modified: time(stat.st_mtime, stat.st_mtime_nsec),
            })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(StorageError::io("looking at", key, errno.into())),
        }
    }

    /// Makes now the time of a file; nothing happens to one that is not there.
    pub fn touch(&self, key: &str) -> Result<(), StorageError> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            },
        };
        match rustix::fs::utimensat(&self.0.dir, key, &times, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(StorageError::io("touching", key, errno.into())),
        }
    }

    /// See [`super::Storage::put`].
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        let (local, key) = (self.clone(), key.to_owned());
        blocking(move || local.put_now(&key, &bytes)).await
    }

    /// The same on the caller's thread.
    pub fn put_now(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let tmp = self.write_tmp(key, bytes)?;
        let result = self.rename(&tmp, key);
        if result.is_err() {
            let _ = std::fs::remove_file(&tmp);
        }
        result
    }

    /// See [`super::Storage::put_new`].
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, StorageError> {
        let (local, key) = (self.clone(), key.to_owned());
        blocking(move || {
            let tmp = local.write_tmp(&key, &bytes)?;
            let target = local.0.root.join(&key);
            let linked = with_parent(&target, || std::fs::hard_link(&tmp, &target));
            let _ = std::fs::remove_file(&tmp);
            match linked {
                Ok(()) => local.sync_parent(&target).map(|()| true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(StorageError::io("writing", &key, error)),
            }
        })
        .await
    }

    fn write_tmp(&self, key: &str, bytes: &[u8]) -> Result<PathBuf, StorageError> {
        let tmp = self.0.root.join(TMP).join(crate::random::id());
        let write = || {
            let mut file = File::create_new(&tmp)?;
            file.write_all(bytes)?;
            if self.0.sync {
                file.sync_data()
            } else {
                Ok(())
            }
        };
        write().map_err(|source| {
            let _ = std::fs::remove_file(&tmp);
            StorageError::io("writing", key, source)
        })?;
        Ok(tmp)
    }

    fn rename(&self, from: &Path, key: &str) -> Result<(), StorageError> {
        let target = self.0.root.join(key);
        with_parent(&target, || std::fs::rename(from, &target))
            .map_err(|source| StorageError::io("writing", key, source))?;
        self.sync_parent(&target)
    }

    /// Makes a name survive loss of power.
    fn sync_parent(&self, path: &Path) -> Result<(), StorageError> {
        if !self.0.sync {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.0.root);
        let synced = File::open(parent).and_then(|dir| dir.sync_all());
        if synced
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            // Empty by now, and removed.
            return Ok(());
        }
        synced.map_err(|source| StorageError::io("syncing", &parent.display().to_string(), source))
    }

    /// See [`super::Storage::delete`].
    pub async fn delete(&self, key: &str) -> Result<bool, StorageError> {
        let (local, key) = (self.clone(), key.to_owned());
        blocking(move || {
            let path = local.0.root.join(&key);
            match std::fs::remove_file(&path) {
                Ok(()) => local.sync_parent(&path).map(|()| true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(source) => Err(StorageError::io("removing", &key, source)),
            }
        })
        .await
    }

    /// See [`super::Storage::list`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StorageError> {
        let (local, prefix) = (self.clone(), prefix.to_owned());
        blocking(move || {
            let mut entries = Vec::new();
            walk(&local.0.root.join(&prefix), "", &mut entries)
                .map_err(|source| StorageError::io("listing", &prefix, source))?;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
        .await
    }

    /// See [`super::Storage::open_blob`].
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, StorageError> {
        let key = keys::blob(digest);
        let Some(file) = self.open_at(&key)? else {
            return Ok(None);
        };
        let size = file
            .metadata()
            .map_err(|source| StorageError::io("looking at", &key, source))?
            .len();
        Ok(Some(Blob {
            size,
            source: BlobSource::File(file),
        }))
    }

    /// Bytes that fit into the file system.
    pub fn free_space(&self) -> u64 {
        rustix::fs::statvfs(&self.0.root)
            .map_or(u64::MAX, |v| v.f_bavail.saturating_mul(v.f_frsize))
    }

    fn upload_file(&self, id: &str) -> PathBuf {
        self.0.root.join(keys::upload(id)).join("data")
    }

    /// How much of an upload is here.
    pub fn upload_len(&self, id: &str) -> Result<u64, StorageError> {
        Ok(self
            .stat(&format!("{}data", keys::upload(id)))?
            .map_or(0, |stat| stat.size))
    }

    /// Opens an upload for appending; `None` while somebody else writes to it.
    pub async fn append(&self, id: &str) -> Result<Option<(File, u64)>, StorageError> {
        let path = self.upload_file(id);
        let key = keys::upload(id);
        blocking(move || {
            let open = || {
                let file = std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&path)?;
                match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Err(Errno::WOULDBLOCK) => return Ok(None),
                    other => other?,
                }
                let len = file.metadata()?.len();
                Ok(Some((file, len)))
            };
            open().map_err(|source: io::Error| StorageError::io("opening", &key, source))
        })
        .await
    }

    /// Hashes what is here of an upload.
    pub async fn hash_upload(&self, id: &str, mut hasher: Hasher) -> Result<Hasher, StorageError> {
        let path = self.upload_file(id);
        let key = keys::upload(id);
        blocking(move || match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(hasher),
            opened => opened
                .and_then(|mut file| io::copy(&mut file, &mut hasher))
                .map(|_| hasher)
                .map_err(|source| StorageError::io("hashing", &key, source)),
        })
        .await
    }

    /// Makes an upload the blob that it is. The caller has checked the digest.
    pub async fn commit_upload(&self, id: &str, digest: &Digest) -> Result<(), StorageError> {
        let (local, id, key) = (self.clone(), id.to_owned(), keys::blob(digest));
        blocking(move || {
            let path = local.upload_file(&id);
            let finish = || {
                // An upload without bytes is the empty blob.
                let file = std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&path)?;
                if local.0.sync {
                    file.sync_data()?;
                }
                // A rename keeps the time; leases count from now.
                file.set_modified(SystemTime::now())
            };
            finish().map_err(|source| StorageError::io("finishing", &key, source))?;
            local.rename(&path, &key)?;
            local.remove_upload_now(&id)
        })
        .await
    }

    /// Forgets an upload.
    pub async fn remove_upload(&self, id: &str) -> Result<(), StorageError> {
        let (local, id) = (self.clone(), id.to_owned());
        blocking(move || local.remove_upload_now(&id)).await
    }

    fn remove_upload_now(&self, id: &str) -> Result<(), StorageError> {
        let key = keys::upload(id);
        match std::fs::remove_dir_all(self.0.root.join(&key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("removing", &key, error))
            }
            _ => Ok(()),
        }
    }

    /// Moves a file to another name in the store.
    pub async fn move_to(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let (local, from, to) = (self.clone(), from.to_owned(), to.to_owned());
        blocking(move || local.rename(&local.0.root.join(&from), &to)).await
    }

    /// Removes what writers that were killed left behind, and directories without content.
    pub async fn tidy(&self, older_than: std::time::Duration) -> Result<(), StorageError> {
        let local = self.clone();
        blocking(move || {
            let tmp = local.0.root.join(TMP);
            let mut entries = Vec::new();
            walk(&tmp, "", &mut entries)
                .map_err(|source| StorageError::io("listing", TMP, source))?;
            for entry in entries.iter().filter(|entry| entry.stat.age() > older_than) {
                let _ = std::fs::remove_file(tmp.join(&entry.name));
            }
            remove_empty(&local.0.root.join("repos"), 0);
            Ok(())
        })
        .await
    }
}

impl AsFd for Local {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.dir.as_fd()
    }
}

fn time(seconds: i64, nanos: impl TryInto<u32>) -> SystemTime {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    SystemTime::UNIX_EPOCH + std::time::Duration::new(seconds, nanos.try_into().unwrap_or(0))
}

/// Does something to a name, after making its directory if that was missing.
fn with_parent(target: &Path, mut act: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    // Garbage collection removes empty directories, perhaps right now, also between the steps of making one.
    for _ in 0..10 {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match std::fs::create_dir_all(target.parent().unwrap_or(target)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    act()
}

fn walk(dir: &Path, below: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
    let listing = match std::fs::read_dir(dir) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        listing => listing?,
    };
    for found in listing {
        let found = found?;
        let Ok(name) = found.file_name().into_string() else {
            continue;
        };
        let name = format!("{below}{name}");
        if found.file_type()?.is_dir() {
            walk(&found.path(), &format!("{name}/"), entries)?;
            continue;
        }
        // Files come and go while we look.
        let Ok(meta) = found.metadata() else { continue };
        entries.push(Entry {
            name,
            stat: Stat {
                size: meta.len(),
                modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            },
        });
    }
    Ok(())
}

fn remove_empty(dir: &Path, depth: usize) {
    let Ok(listing) = std::fs::read_dir(dir) else {
        return;
    };
    for found in listing.flatten() {
        if found.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&found.path(), depth + 1);
        }
    }
    let modified = std::fs::metadata(dir).and_then(|meta| meta.modified());
    let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > EMPTY_FOR));
    if depth > 0 && old {
        // Fails for one that is not empty.
        let _ = std::fs::remove_dir(dir);
    }
}

/// Runs on the pool for calls that wait for disks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
