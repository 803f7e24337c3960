//! A container's file system as its processes see it, for work of the daemon: a thread that has moved into the container's mount
//! namespace or, when the container does not run, into one made for it with the same volumes, binds and files.
//!
//! Work gets a [`Root`]: the kernel resolves paths inside it. The thread must never follow a path of the host by name.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use tokio::sync::OwnedMutexGuard;
use wharf_archive::pack::Owners;
use wharf_archive::root::{Descriptors, Root};
use wharf_runtime::launch::LaunchError;
use wharf_runtime::plan::{
    AttrChange, IdRange, Mappings, MountIdmap, MountSource, MountStep, Propagation, PropagationKind,
};
use wharf_runtime::view;
use wharf_spec::rootfs::RootfsMount;
use wharf_store::Store;

use super::files::Files;
use super::idmap::Idmap;
use super::record::{MountRecord, Record};
use super::{Container, Live};
use crate::{Engine, Error, Result};

/// `MOUNT_ATTR_RDONLY` of `linux/mount.h`.
const READ_ONLY: u64 = 1;

type Job = Box<dyn FnOnce(&Root) + Send>;

/// An entered file system. Dropping it ends the thread, and takes apart what was mounted for it.
#[derive(Debug)]
pub struct FileSystem {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    stopped: Option<Stopped>,
    /// The container's own ids, while it runs: its mounts show those of the host. Empty where nothing is mapped.
    pub(super) ids: Mappings,
}

/// A container that does not run must not be started while its layer is mounted here.
#[derive(Debug)]
struct Stopped {
    store: Arc<Store>,
    id: String,
    _guard: OwnedMutexGuard<()>,
}

impl Engine {
    /// Enters a container's file system.
    pub(crate) async fn enter(&self, container: &Arc<Container>) -> Result<FileSystem> {
        if let Some(live) = container.live()
            && let Some(namespace) = namespace_of(&live)
        {
            return FileSystem::of_running(&live, namespace).await;
        }
        let guard = container.lifecycle.clone().lock_owned().await;
        if let Some(live) = container.live()
            && let Some(namespace) = namespace_of(&live)
        {
            drop(guard);
            return FileSystem::of_running(&live, namespace).await;
        }
        let record = container.record();
        let rootfs = self.store.rootfs(&container.id)?;
        let (engine, mounts) = (self.handle(), record.clone());
        let engine = engine.ok_or_else(|| Error::internal("the daemon is shutting down"))?;
        let steps = crate::blocking(move || engine.stopped_mounts(&mounts)).await?;
        let host = self.host.clone();
        let stopped = Stopped {
            store: self.store.clone(),
            id: container.id.clone(),
            _guard: guard,
        };
        let entered =
            FileSystem::start(Some(stopped), move || enter_stopped(&rootfs, &steps, &host)).await;
        // Mounted there or not, the volumes are no longer needed where the host sees them.
        let engine = self.handle();
        crate::blocking(move || {
            if let Some(engine) = engine {
                engine.release_volumes(&record);
            }
            Ok(())
        })
        .await?;
        entered
    }

    /// Volumes, binds and the engine's own files. What a container keeps in memory is gone when it does not run.
    fn stopped_mounts(&self, record: &Record) -> Result<Vec<MountStep>> {
        let files = Files::in_dir(&self.files_dir(record));
        let own = [
            ("/etc/resolv.conf", files.resolv_conf),
            ("/etc/hostname", files.hostname),
            ("/etc/hosts", files.hosts),
        ];
        let mounts = self.ready_mounts(record)?;
        // What a container has of an image is seen while it runs.
        let shown = mounts
            .iter()
            .filter(|mount| matches!(mount.kind.as_str(), "bind" | "volume"));
        let ids = self.user_namespace_of(record).mappings;
        let steps: Result<Vec<MountStep>> = shown.map(|mount| step(mount, &ids)).collect();
        let mut steps = steps?;
        for (target, path) in own {
            let taken = mounts.iter().any(|mount| mount.destination == target);
            if !taken && path.exists() {
                steps.push(bind(target, path, record.host_config.readonly_rootfs, true));
            }
        }
        steps.sort_by_key(|step| step.target.matches('/').count());
        Ok(steps)
    }
}

fn enter_stopped(
    rootfs: &RootfsMount,
    steps: &[MountStep],
    host: &wharf_runtime::host::HostFacts,
) -> Result<OwnedFd, LaunchError> {
    view::enter(rootfs, steps, host)
}

fn step(mount: &MountRecord, ids: &Mappings) -> Result<MountStep> {
    let source = PathBuf::from(&mount.source);
    let subpath = (!mount.subpath.is_empty()).then(|| mount.subpath.clone());
    let idmap = match mount.idmap.as_str() {
        "" => None,
        asked => Some(MountIdmap {
            mappings: Idmap::parse(asked)?.mappings(ids)?,
            recursive: false,
        }),
    };
    Ok(MountStep {
        subpath,
        idmap,
        ..bind(&mount.destination, source, !mount.rw, !mount.non_recursive)
    })
}

fn bind(target: &str, path: PathBuf, read_only: bool, recursive: bool) -> MountStep {
    let attrs = AttrChange {
        set: if read_only { READ_ONLY } else { 0 },
        clear: 0,
    };
    MountStep {
        target: target.to_owned(),
        source: MountSource::Bind { path, recursive },
        subpath: None,
        attrs: AttrChange::default(),
        recursive_attrs: attrs,
        propagation: Some(Propagation {
            kind: PropagationKind::Private,
            recursive: true,
        }),
        idmap: None,
        copy_up: false,
    }
}

/// The mount namespace of a process that certainly is the container's: its pid was not given to another one meanwhile.
fn namespace_of(live: &Live) -> Option<OwnedFd> {
    let path = format!("/proc/{}/ns/mnt", live.pid);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let mut ended = [PollFd::new(&live.pidfd, PollFlags::IN)];
    let now = rustix::event::Timespec::default();
    (poll(&mut ended, Some(&now)) == Ok(0)).then_some(namespace)
}

impl FileSystem {
    async fn of_running(live: &Live, namespace: OwnedFd) -> Result<FileSystem> {
        let mut fs = FileSystem::start(None, move || view::join(&namespace)).await?;
        fs.ids.clone_from(&live.plan.rootfs_mappings);
        Ok(fs)
    }

    /// `enter` runs in the new thread.
    async fn start(
        stopped: Option<Stopped>,
        enter: impl FnOnce() -> Result<OwnedFd, LaunchError> + Send + 'static,
    ) -> Result<FileSystem> {
        crate::blocking(move || {
            let failed = |error| Error::caused("enter the container's file system", error);
            let descriptors = Descriptors::open().map_err(failed)?;
            let (jobs, todo) = bounded::<Job>(1);
            let (entered, outcome) = bounded(1);
            let work = move || {
                let root = match enter() {
                    Ok(root) => Root::new(root, descriptors),
                    Err(error) => return drop(entered.send(Err(error))),
                };
                // The thread's own since it has entered: modes are those of archives.
                rustix::process::umask(Mode::empty());
                // Whoever waits is the caller below.
                let _ = entered.send(Ok(()));
                todo.iter().for_each(|job| job(&root));
            };
            let thread = std::thread::Builder::new()
                .name("files".into())
                .spawn(work)
                .map_err(failed)?;
            let fs = FileSystem {
                jobs: Some(jobs),
                thread: Some(thread),
                stopped,
                ids: Mappings::default(),
            };
            match outcome.recv() {
                Ok(Ok(())) => Ok(fs),
                Ok(Err(error)) => Err(Error::internal(error.to_string())),
                Err(_) => Err(Error::internal(
                    "the container's file system was not entered",
                )),
            }
        })
        .await
    }

    /// Runs work there and waits for it. Blocking.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> T + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::internal("the container's file system was left");
        let (done, result) = bounded(1);
        let own_root = self.own_root();
        let job: Job = Box::new(move |root| {
            let result = match own_root {
                None => Ok(work(root)),
                // Who is nobody there can make nothing.
                Some((uid, gid)) => wharf_sys::process::with_fs_ids(uid, gid, || work(root)),
            };
            // The receiver waits below.
            let _ = done.send(result);
        });
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(job).map_err(|_| gone())?;
        let result = result.recv().map_err(|_| gone())?;
        result.map_err(|error| Error::caused("become the container's root", error))
    }

    fn own_root(&self) -> Option<(u32, u32)> {
        let uid = Mappings::to_host(&self.ids.uids, 0)?;
        Some((uid, Mappings::to_host(&self.ids.gids, 0)?))
    }

    /// How owners that are found there are written into archives.
    pub(super) fn owners(&self) -> Owners {
        let back = |ranges: &[IdRange]| {
            let range = |range: &IdRange| (range.host, range.container, range.size);
            ranges.iter().map(range).collect()
        };
        Owners {
            users: back(&self.ids.uids),
            groups: back(&self.ids.gids),
        }
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        self.jobs = None;
        // Its mounts are gone before the container may be started.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // What the storage driver has made ready, too.
        if let Some(stopped) = self.stopped.take()
            && let Err(error) = stopped.store.release_rootfs(&stopped.id)
        {
            tracing::debug!(container = stopped.id, %error, "root not released");
        }
    }
}
