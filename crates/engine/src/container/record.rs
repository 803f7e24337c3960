//! What the engine keeps about a container: two documents, one for what it is, one for how it fares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_api::container::{Config, Health, HostConfig, MountPoint, TmpfsOptions};
use wharf_api::network::EndpointSettings;
use wharf_network::Endpoint;
use wharf_spec::rootfs::RootfsMount;

use super::status::Status;

/// What a container is: fixed at create but for rename and update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 64 hex.
    pub id: String,
    /// Name without slash.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created_ns: i64,
    /// `sha256:…` of the image.
    pub image_id: String,
    /// Program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Configuration, merged with the image's.
    pub config: Config,
    /// Host configuration as given, with Docker's defaults filled in.
    pub host_config: HostConfig,
    /// Networks asked for, by name.
    pub networks: BTreeMap<String, EndpointSettings>,
    /// Links on the default bridge.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Mounts, in the order given.
    pub mounts: Vec<MountRecord>,
    /// Storage driver.
    pub driver: String,
    /// Operating system of the image.
    pub os: String,
    /// The log driver and options the container really uses: what inspect shows plus our rotation defaults.
    pub log_options: BTreeMap<String, String>,
    /// Where its own range of user and group ids begins on the host, with `--userns auto`.
    #[serde(default)]
    pub first_id: u32,
    /// SELinux label of its processes; empty without.
    #[serde(default)]
    pub process_label: String,
    /// SELinux label of its files likewise.
    #[serde(default)]
    pub mount_label: String,
}

/// Another container under a name of one's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Its id.
    pub container: String,
    /// The name.
    pub alias: String,
}

/// One mount as resolved at create.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MountRecord {
    /// `bind`, `volume`, `image` or `tmpfs`.
    pub kind: String,
    /// Volume's name.
    pub name: String,
    /// Host path: of the bind, or of the volume's data.
    pub source: String,
    /// Absolute path in the container.
    pub destination: String,
    /// Volume driver.
    pub driver: String,
    /// Mode text as given (`ro`, `z`, `rprivate`, …).
    pub mode: String,
    /// Writable.
    pub rw: bool,
    /// Propagation of binds.
    pub propagation: String,
    /// Leave out what is mounted below the source.
    pub non_recursive: bool,
    /// Read-only only at the top.
    pub read_only_non_recursive: bool,
    /// Fail when read-only cannot be made recursive.
    pub read_only_force_recursive: bool,
    /// Make the host directory when it is missing (`-v`).
    pub create_source: bool,
    /// A volume that must not take over what the image has at the destination.
    pub no_copy: bool,
    /// A volume made for this container only, removed with it.
    pub anonymous: bool,
    /// Directory inside the volume.
    pub subpath: String,
    /// How owners of files are mapped; empty: not (extension).
    #[serde(default)]
    pub idmap: String,
    /// Options of a tmpfs.
    pub tmpfs: Option<TmpfsOptions>,
    /// An image's read-write layer in the store, which goes with the container.
    #[serde(default)]
    pub image_layer: String,
    /// How to mount that layer, while a start is prepared.
    #[serde(skip)]
    pub overlay: Option<RootfsMount>,
}

impl MountRecord {
    /// As inspect shows it.
    pub fn to_point(&self) -> MountPoint {
        MountPoint {
            kind: self.kind.clone(),
            name: self.name.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: self.propagation.clone(),
        }
    }
}

/// How a container fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// Init's pid on the host, 0 when none.
    pub pid: i32,
    /// Of the last run.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// The kernel killed the last run for memory.
    pub oom_killed: bool,
    /// Of the last run.
    pub started_ns: Option<i64>,
    /// Of the last run.
    pub finished_ns: Option<i64>,
    /// Runs begun by the restart policy.
    pub restart_count: u32,
    /// A user stopped it: no policy but `always` starts it again, and that one only with the daemon.
    pub manually_stopped: bool,
    /// It ran at least once; Docker shows some paths only then.
    pub started_before: bool,
    /// Attachments of the present run.
    pub endpoints: Vec<Endpoint>,
    /// 64 hex, per run.
    pub sandbox_id: String,
    /// Health as probed.
    pub health: Option<Health>,
    /// Why the last delete failed.
    pub removal_error: String,
    /// The daemon's control group driver at the last start, and its parent group; empty: never started. A later daemon with
    /// other settings finds the running container by them.
    #[serde(default)]
    pub cgroup_driver: String,
    /// See `cgroup_driver`.
    #[serde(default)]
    pub cgroup_parent: Option<String>,
}

impl Default for State {
    fn default() -> State {
        State {
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_ns: None,
            finished_ns: None,
            restart_count: 0,
            manually_stopped: false,
            started_before: false,
            endpoints: Vec::new(),
            sandbox_id: String::new(),
            health: None,
            removal_error: String::new(),
            cgroup_driver: String::new(),
            cgroup_parent: None,
        }
    }
}
