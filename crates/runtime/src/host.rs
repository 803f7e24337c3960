//! What this host can do, read once per daemon.

mod probe;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Facts about the host that plans depend on. Constant while the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Which control group hierarchies are mounted where.
    pub cgroup: CgroupLayout,
    /// `(major, minor)` of the running kernel.
    pub kernel: (u32, u32),
    /// What that kernel offers.
    pub features: KernelFeatures,
    /// Capabilities a container can get at most: our own bounding set, bit `n` is capability number `n`.
    pub cap_bounding: u64,
    /// Machine architecture.
    pub arch: Arch,
    /// Where shares of cache and memory bandwidth are managed, if anywhere.
    #[serde(default)]
    pub resctrl: Option<PathBuf>,
}

/// Kernel features, probed by use where a version number would lie (backports, configuration).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFeatures {
    /// Overlay takes one `lowerdir+` per layer through `fsconfig` (Linux 6.8).
    pub overlay_lowerdir_append: bool,
    /// `mount_setattr(2)` (Linux 5.12).
    pub mount_setattr: bool,
    /// `clone3(2)` with `CLONE_INTO_CGROUP` (Linux 5.7).
    pub clone_into_cgroup: bool,
    /// Seccomp filters.
    pub seccomp: bool,
    /// AppArmor is the active security module.
    pub apparmor: bool,
    /// SELinux is there.
    pub selinux: bool,
    /// User namespaces may be created.
    pub user_namespaces: bool,
    /// Cgroup namespaces (Linux 4.6).
    pub cgroup_namespaces: bool,
    /// `/proc/kcore` exists.
    pub kcore: bool,
    /// Memory cgroups account swap.
    pub swap_accounting: bool,
}

/// Architectures that a seccomp table exists for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// How control groups are laid out. Mixed layouts count as v1 when any controller sits in a v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupLayout {
    /// One hierarchy per controller set.
    V1 {
        /// The mounted hierarchies, the unified one last.
        hierarchies: Vec<V1Hierarchy>,
    },
    /// The unified hierarchy only.
    V2 {
        /// Where it is mounted.
        mount: PathBuf,
        /// Our own cgroup in it, `/`-rooted.
        own: String,
        /// Names in the root's `cgroup.controllers`.
        controllers: Vec<String>,
    },
}

/// One mounted v1 hierarchy, or beside such ones the unified one, which then has no controllers (systemd's hybrid layout).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V1Hierarchy {
    /// Its controllers, e.g. `["cpu", "cpuacct"]`; a named one has one entry such as `name=systemd`, the unified one has none.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Our own cgroup in it, `/`-rooted.
    pub own: String,
}

/// Why the host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file that every Linux has could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: &'static str,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// No control group hierarchy is mounted.
    #[error("no cgroup mount found")]
    NoCgroups,
    /// We have no system call table for this machine.
    #[error("unsupported architecture {0}")]
    Arch(String),
}

impl HostFacts {
    /// Reads the host. Blocking, well under a millisecond; once per daemon.
    pub fn probe() -> Result<HostFacts, HostError> {
        probe::probe()
    }
}

impl CgroupLayout {
    /// Docker's `CgroupVersion`: `"1"` or `"2"`.
    pub fn version(&self) -> &'static str {
        match self {
            CgroupLayout::V1 { .. } => "1",
            CgroupLayout::V2 { .. } => "2",
        }
    }

    /// Whether a controller can be used for containers.
    pub fn has(&self, controller: &str) -> bool {
        match self {
            CgroupLayout::V1 { hierarchies } => hierarchies
                .iter()
                .any(|h| h.controllers.iter().any(|c| c == controller)),
            CgroupLayout::V2 { controllers, .. } => controllers.iter().any(|c| c == controller),
        }
    }
}
