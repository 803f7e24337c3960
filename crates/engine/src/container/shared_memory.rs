//! `/dev/shm` that other containers may join (`--ipc shareable`): a tmpfs of the host, mounted while its owner runs.
//!
//! Every other container has a tmpfs of its own inside its mount namespace, which nobody else could reach.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::record::Record;
use crate::{Engine, Error, Result};

const SHAREABLE: &str = "shareable";

impl Engine {
    /// Host directory of `/dev/shm`, where it is not the container's own tmpfs.
    pub(crate) fn shared_memory(&self, record: &Record) -> Result<Option<PathBuf>> {
        let mode = record.host_config.ipc_mode.as_str();
        if let Some(owner) = mode.strip_prefix("container:") {
            return self.memory_of(owner).map(Some);
        }
        Ok(match mode {
            "host" => Some(PathBuf::from("/dev/shm")),
            SHAREABLE => Some(self.memory_dir(&record.id)),
            _ => None,
        })
    }

    fn memory_of(&self, owner: &str) -> Result<PathBuf> {
        let owner = self.containers.get(owner)?;
        let mode = owner.record().host_config.ipc_mode.clone();
        match mode.as_str() {
            SHAREABLE => Ok(self.memory_dir(&owner.id)),
            "host" => Ok(PathBuf::from("/dev/shm")),
            _ => Err(Error::conflict(format!(
                "can't join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                owner.id
            ))),
        }
    }

    fn memory_dir(&self, id: &str) -> PathBuf {
        self.config.container_dir(id).join("mounts/shm")
    }

    /// Mounts what a shareable container is about to use.
    pub(crate) fn mount_shared_memory(&self, record: &Record) -> Result<()> {
        if record.host_config.ipc_mode != SHAREABLE {
            return Ok(());
        }
        let dir = self.memory_dir(&record.id);
        mount_tmpfs(&dir, record.host_config.shm_size).map_err(|error| {
            Error::caused(&format!("mounting shm tmpfs on {}", dir.display()), error)
        })
    }

    /// Unmounts it once the container has ended. Containers that joined keep it. Safe to repeat.
    pub(crate) fn unmount_shared_memory(&self, record: &Record) {
        if record.host_config.ipc_mode != SHAREABLE {
            return;
        }
        if let Err(error) = unmount(self.memory_dir(&record.id), UnmountFlags::DETACH) {
            // Not mounted: a start that failed before it was.
            tracing::debug!(container = record.id, %error, "shm not unmounted");
        }
    }
}

fn mount_tmpfs(dir: &Path, size: i64) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let options = CString::new(format!("mode=1777,size={size}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", dir, "tmpfs", flags, Some(options.as_c_str()))?;
    Ok(())
}
