//! `RUN --mount`: what is mounted into the container of a step, and what of it must not stay behind.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use wharf_api::container::{HostConfig, ImageOptions, Mount as ApiMount, TmpfsOptions};
use wharf_build::copy::Layer;
use wharf_build::dockerfile::instruction::{Mount, MountKind, Sharing};
use wharf_build::files::Files;
use wharf_build::solve::{BuildError, RunMount};
use wharf_store::Store;

use super::agents::AgentSocket;
use super::worker::EngineWorker;
use crate::{Error, blocking, ids};

/// Who uses which cache.
#[derive(Debug, Default)]
pub(crate) struct CacheLocks(Mutex<HashMap<PathBuf, Arc<tokio::sync::RwLock<()>>>>);

/// Mounts that are ready. Dropping it removes what was made for them.
pub(super) struct Prepared {
    /// Variables that secrets become: they go into no record.
    pub(super) secrets: Vec<String>,
    /// Other variables.
    pub(super) environment: Vec<String>,
    /// Sockets of the client's agents.
    agents: Vec<AgentSocket>,
    /// Directories and files made for this step.
    made: Vec<PathBuf>,
    /// Caches in use.
    _locks: Vec<tokio::sync::OwnedRwLockReadGuard<()>>,
    _exclusive: Vec<tokio::sync::OwnedRwLockWriteGuard<()>>,
    /// Mount points, which the container makes where they are missing.
    targets: Vec<String>,
    /// The files before the step.
    base: Arc<dyn Files>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for path in &self.made {
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "left-over mount of a build");
            }
        }
    }
}

impl Prepared {
    /// Gets all mounts of a step ready and adds them to its container's.
    pub(super) async fn make(
        worker: &EngineWorker,
        image: Option<&str>,
        mounts: Vec<RunMount>,
        host: &mut HostConfig,
    ) -> Result<Prepared, BuildError> {
        use wharf_build::solve::Worker as _;
        let mut prepared = Prepared {
            secrets: Vec::new(),
            environment: Vec::new(),
            agents: Vec::new(),
            made: Vec::new(),
            _locks: Vec::new(),
            _exclusive: Vec::new(),
            targets: Vec::new(),
            base: worker.files(image).await?,
        };
        for mount in mounts {
            match mount.mount.kind {
                MountKind::Bind => prepared.bind(worker, mount, host).await?,
                MountKind::Cache => prepared.cache(worker, mount, host).await?,
                MountKind::Tmpfs => prepared.tmpfs(&mount.mount, host),
                MountKind::Secret => prepared.secret(worker, &mount.mount, host)?,
                MountKind::Ssh => prepared.agent(worker, &mount.mount, host)?,
            }
        }
        Ok(prepared)
    }

    fn add(&mut self, host: &mut HostConfig, source: &Path, target: &str, read_only: bool) {
        self.targets.push(target.to_owned());
        host.mounts.push(ApiMount {
            kind: "bind".to_owned(),
            source: source.display().to_string(),
            target: target.to_owned(),
            read_only,
            ..ApiMount::default()
        });
    }

    /// A socket that leads to an agent of the client. One that is not there and not required is left out, as BuildKit does.
    fn agent(
        &mut self,
        worker: &EngineWorker,
        mount: &Mount,
        host: &mut HostConfig,
    ) -> Result<(), BuildError> {
        let id = if mount.id.is_empty() {
            "default"
        } else {
            &mount.id
        };
        let Some(token) = worker.options.extras.agents.get(id) else {
            if mount.required {
                return Err(BuildError::invalid(format!(
                    "no SSH key {id:?} forwarded from the client"
                )));
            }
            return Ok(());
        };
        let target = if mount.target.is_empty() {
            format!("/run/buildkit/ssh_agent.{}", self.agents.len())
        } else {
            absolute(&mount.target)?
        };
        let path = worker
            .engine
            .config
            .exec_root
            .join(format!("agent-{}", &ids::random()[..16]));
        self.made.push(path.clone());
        let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let mode = mount.mode.unwrap_or(0o600);
        let socket = AgentSocket::listen(&worker.engine, token, &path, mode, owner)
            .map_err(|error| internal(Error::caused("listen for an agent", error)))?;
        if self.agents.is_empty() {
            self.environment.push(format!("SSH_AUTH_SOCK={target}"));
        }
        self.add(host, &socket.path, &target, false);
        self.agents.push(socket);
        Ok(())
    }

    /// An image's directory as it is, or a copy of the files: writes to it are lost, as they should be.
    async fn bind(
        &mut self,
        worker: &EngineWorker,
        mount: RunMount,
        host: &mut HostConfig,
    ) -> Result<(), BuildError> {
        let Some((files, path)) = mount.files else {
            return Ok(());
        };
        let target = absolute(&mount.mount.target)?;
        let is_directory = files.entry(&path).is_ok_and(|found| {
            found.is_some_and(|node| node.entry.kind == wharf_archive::tar::Kind::Directory)
        });
        if let Some(image) = mount
            .image
            .filter(|_| mount.mount.read_only && is_directory)
        {
            self.targets.push(target.clone());
            host.mounts.push(ApiMount {
                kind: "image".to_owned(),
                source: image,
                target,
                read_only: true,
                image_options: (!path.is_empty()).then(|| ImageOptions {
                    subpath: String::from_utf8_lossy(&path).into_owned(),
                }),
                ..ApiMount::default()
            });
            return Ok(());
        }
        let directory = self.directory(worker)?;
        let into = directory.clone();
        let single = blocking(move || copy_out(&*files, &path, &into))
            .await
            .map_err(internal)?;
        let source = match single {
            Some(name) => directory.join(name),
            None => directory,
        };
        self.add(host, &source, &target, mount.mount.read_only);
        Ok(())
    }

    /// A directory that goes with the step; a killed daemon's go at its next start.
    fn directory(&mut self, worker: &EngineWorker) -> Result<PathBuf, BuildError> {
        let name = format!("build-{}", &ids::random()[..16]);
        let path = worker.engine.config.data_root.join("trash").join(name);
        std::fs::create_dir_all(&path)
            .map_err(|error| internal(Error::caused("make a directory", error)))?;
        self.made.push(path.clone());
        Ok(path)
    }

    async fn cache(
        &mut self,
        worker: &EngineWorker,
        mount: RunMount,
        host: &mut HostConfig,
    ) -> Result<(), BuildError> {
        let RunMount { mount, files, .. } = mount;
        let target = absolute(&mount.target)?;
        let scope = worker.cache_scope();
        let id = if mount.id.is_empty() {
            &target
        } else {
            &mount.id
        };
        let id = &format!("{scope}{id}");
        let home = cache_home(&worker.engine.config.data_root);
        let name = cache_name(id);
        let locks = &worker.engine.builds.locks;
        let path = match mount.sharing.unwrap_or(Sharing::Shared) {
            Sharing::Shared => {
                let path = home.join(&name);
                self._locks.push(locks.of(&path).read_owned().await);
                path
            }
            Sharing::Locked => {
                let path = home.join(&name);
                self._exclusive.push(locks.of(&path).write_owned().await);
                path
            }
            Sharing::Private => {
                let mut number = 0;
                loop {
                    let path = home.join(format!("{name}-{number}"));
                    if let Ok(guard) = locks.of(&path).try_write_owned() {
                        self._exclusive.push(guard);
                        break path;
                    }
                    number += 1;
                }
            }
        };
        let (into, owner, id) = (path.clone(), mount.clone(), id.clone());
        blocking(move || make_cache(&into, &owner, &id, files))
            .await
            .map_err(internal)?;
        self.add(host, &path.join("data"), &target, mount.read_only);
        Ok(())
    }

    fn tmpfs(&mut self, mount: &Mount, host: &mut HostConfig) {
        self.targets.push(mount.target.clone());
        host.mounts.push(ApiMount {
            kind: "tmpfs".to_owned(),
            target: mount.target.clone(),
            tmpfs_options: Some(TmpfsOptions {
                size_bytes: i64::try_from(mount.size).unwrap_or(0),
                ..TmpfsOptions::default()
            }),
            ..ApiMount::default()
        });
    }

    fn secret(
        &mut self,
        worker: &EngineWorker,
        mount: &Mount,
        host: &mut HostConfig,
    ) -> Result<(), BuildError> {
        let id = [&mount.id, &mount.source]
            .into_iter()
            .find(|text| !text.is_empty())
            .cloned()
            .unwrap_or_else(|| last(&mount.target).to_owned());
        let Some(value) = worker.secrets.get(&id) else {
            if mount.required {
                return Err(BuildError::invalid(format!("secret {id}: not found")));
            }
            return Ok(());
        };
        if let Some(name) = &mount.env {
            let name = if name.is_empty() { &id } else { name };
            self.secrets
                .push(format!("{name}={}", String::from_utf8_lossy(value)));
            if mount.target.is_empty() {
                return Ok(());
            }
        }
        let target = if mount.target.is_empty() {
            format!("/run/secrets/{id}")
        } else {
            absolute(&mount.target)?
        };
        let path = worker
            .engine
            .config
            .exec_root
            .join(format!("secret-{}", &ids::random()[..16]));
        self.made.push(path.clone());
        write_secret(&path, value, mount)
            .map_err(|error| internal(Error::caused("keep a secret", error)))?;
        self.add(host, &path, &target, true);
        Ok(())
    }

    /// Takes mount points away that the container made and nothing was written to.
    pub(super) fn clean(&self, store: &Store, container: &str) -> Result<(), BuildError> {
        if self.targets.is_empty() {
            return Ok(());
        }
        let written = store
            .written_dir(container)
            .map_err(super::worker::stored)?;
        for target in &self.targets {
            let relative = target.trim_matches('/');
            let mut path = Some(Path::new(relative));
            while let Some(part) = path.filter(|part| !part.as_os_str().is_empty()) {
                let text = part.as_os_str().as_encoded_bytes();
                let was_there = self.base.entry(text).is_ok_and(|found| found.is_some());
                if was_there || !remove_empty(&written.join(part)) {
                    break;
                }
                path = part.parent();
            }
        }
        Ok(())
    }
}

/// Removes an empty file or directory; `false` if it is something else.
fn remove_empty(path: &Path) -> bool {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return false;
    };
    if metadata.is_dir() {
        return std::fs::remove_dir(path).is_ok();
    }
    metadata.is_file() && metadata.len() == 0 && std::fs::remove_file(path).is_ok()
}

fn internal(error: Error) -> BuildError {
    super::worker::failed(&error)
}

fn absolute(target: &str) -> Result<String, BuildError> {
    if target.is_empty() {
        return Err(BuildError::invalid("mount target not specified"));
    }
    Ok(wharf_build::path::clean(&format!("/{target}")))
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Where caches are kept.
pub(super) fn cache_home(data_root: &Path) -> PathBuf {
    data_root.join("buildcache")
}

/// A file name for any ID.
pub(super) fn cache_name(id: &str) -> String {
    wharf_spec::digest::Digest::of(id.as_bytes()).hex()[..32].to_owned()
}

/// `data` is what is mounted, `id` tells what it is. A new one begins with `files`.
fn make_cache(
    path: &Path,
    mount: &Mount,
    id: &str,
    files: Option<(Arc<dyn Files>, Vec<u8>)>,
) -> crate::Result<()> {
    let failed = |error: std::io::Error| Error::caused("make a cache", error);
    if path.join("data").is_dir() {
        return std::fs::write(path.join("used"), "").map_err(failed);
    }
    let part = begin_cache(path, id).map_err(failed)?;
    if let Some((files, from)) = files {
        copy_out(&*files, &from, &part)?;
    }
    std::fs::set_permissions(
        &part,
        PermissionsExt::from_mode(mount.mode.unwrap_or(0o755)),
    )
    .and_then(|()| std::os::unix::fs::chown(&part, mount.uid.or(Some(0)), mount.gid.or(Some(0))))
    .and_then(|()| std::fs::rename(part, path.join("data")))
    .map_err(failed)
}

/// The directory that becomes a cache's `data` once it is complete.
pub(super) fn begin_cache(path: &Path, id: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(path)?;
    std::fs::write(path.join("id"), id)?;
    std::fs::write(path.join("used"), "")?;
    let part = path.join("part");
    if part.exists() {
        // Of a daemon that was killed.
        std::fs::remove_dir_all(&part)?;
    }
    std::fs::create_dir_all(&part)?;
    Ok(part)
}

fn write_secret(path: &Path, value: &[u8], mount: &Mount) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(value)?;
    file.set_permissions(PermissionsExt::from_mode(mount.mode.unwrap_or(0o400)))?;
    std::os::unix::fs::fchown(&file, mount.uid.or(Some(0)), mount.gid.or(Some(0)))
}

/// Copies a directory's content, or one file, whose name comes back.
fn copy_out(files: &dyn Files, path: &[u8], into: &Path) -> crate::Result<Option<PathBuf>> {
    use wharf_archive::tar::Kind;
    use wharf_build::copy::{Options, Source, place};
    let failed = |error: std::io::Error| Error::caused("copy files for a mount", error);
    let node = files.entry(path).map_err(failed)?;
    let directory = node.is_none_or(|node| node.entry.kind == Kind::Directory);
    let scratch = wharf_build::files::Context::empty(into)
        .map_err(|error| Error::internal(error.to_string()))?;
    let mut layer = Layer::new(&scratch, 0);
    let source = Source {
        path: if directory {
            path.to_vec()
        } else {
            b"file".to_vec()
        },
        resolved: path.to_vec(),
        directory,
        pivot: 0,
    };
    place(&mut layer, files, &source, "/", &Options::default(), 0)
        .map_err(|error| Error::internal(error.to_string()))?;
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let (written, unpacked) = std::thread::scope(|scope| {
        let unpacking = scope.spawn(|| unpack_into(reader, into));
        let mut out = std::io::BufWriter::with_capacity(1 << 18, writer);
        let written = layer.write(&mut out);
        drop(out);
        (written, unpacking.join())
    });
    unpacked
        .map_err(|_| Error::internal("a thread that unpacks files panicked"))?
        .map_err(|text| Error::internal(format!("copy files for a mount: {text}")))?;
    written.map_err(failed)?;
    Ok((!directory).then(|| PathBuf::from("file")))
}

/// Unpacks a tar, plain or compressed, into a directory. The error is a text.
pub(super) fn unpack_into(archive: impl std::io::Read + Send, into: &Path) -> Result<(), String> {
    use std::io::{BufRead as _, BufReader};
    use wharf_archive::compression::{Compression, MAGIC_LEN};
    use wharf_archive::extract::{Destination, Options, extract};
    let text = |error: std::io::Error| error.to_string();
    let mut input = BufReader::with_capacity(256 << 10, archive);
    let start = input.fill_buf().map_err(text)?;
    let compression = Compression::detect(&start[..start.len().min(MAGIC_LEN)]);
    let plain = BufReader::with_capacity(256 << 10, compression.reader(input).map_err(text)?);
    let root = wharf_archive::root::Root::at(into).map_err(text)?;
    let destination = Destination {
        root: &root,
        path: b"/",
        shown: b"/",
    };
    extract(plain, &destination, Options::default(), |_| {}).map_err(|error| error.to_string())
}

impl CacheLocks {
    pub(super) fn of(&self, path: &Path) -> Arc<tokio::sync::RwLock<()>> {
        self.0.lock().entry(path.to_owned()).or_default().clone()
    }
}
