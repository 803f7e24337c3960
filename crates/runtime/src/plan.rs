//! `plan(spec, extra, host)`: a pure function from an OCI spec to a value that leaves no choices.
//!
//! Everything [`crate::launch`] does is written down here first: the value can be printed, compared, and sent to
//! the monitor whole. What depends on the image's own files (user names, the search path) is the only thing
//! left to launch time, because only the mounted root can answer it.

pub mod capability;
mod devices;
mod hooks;
mod mappings;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod scheduling;
#[cfg(test)]
mod tests;

pub use mounts::SUBPATH;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharf_spec::rootfs::RootfsMount;
use wharf_spec::runtime::Spec;

use crate::cgroup::CgroupPath;
use crate::host::HostFacts;
use crate::resctrl::{ResctrlPlan, plan_resctrl};
use crate::seccomp::SeccompProgram;
use crate::systemd::Scope;

pub use hooks::{Hook, HookState, Hooks};
pub use mappings::{IdRange, Mappings};
pub use scheduling::{ExecCpus, MemoryPolicy, SchedulerPlan, Scheduling};

/// Everything [`crate::launch`] needs to make one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// The root file system to build before `pivot_root`.
    pub rootfs: RootfsMount,
    /// Give overlay its layers one by one instead of in one string of options.
    pub layers_one_by_one: bool,
    /// Remount the root read-only at the end (`--read-only`).
    pub rootfs_readonly: bool,
    /// Propagation of the host's mounts into the new mount namespace, and of the finished root.
    pub rootfs_propagation: Option<Propagation>,
    /// Namespaces to create or join.
    pub namespaces: Namespaces,
    /// Mounts inside the root, in order.
    pub mounts: Vec<MountStep>,
    /// Device nodes to make (or bind, where making is not allowed).
    pub devices: Vec<DeviceNode>,
    /// Symbolic links to make in the root: `(path, target)`.
    pub links: Vec<(String, String)>,
    /// Paths hidden behind `/dev/null` or an empty read-only directory.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// The container's control group.
    pub cgroup: CgroupPlan,
    /// Kernel parameters, `(path below /proc/sys, value)`.
    pub sysctls: Vec<(String, String)>,
    /// Host name, when the UTS namespace is the container's own.
    pub hostname: Option<String>,
    /// NIS domain name, likewise.
    pub domainname: Option<String>,
    /// Create the working directory when the image lacks it (Docker does, owned by root).
    pub create_cwd: bool,
    /// PID 1 is our own small reaper and the program its child (`--init`).
    pub init: bool,
    /// Ids of the container's own user namespace; empty where it makes none.
    pub mappings: Mappings,
    /// The root file system shows ids mapped by these; empty shows them as they are stored.
    pub rootfs_mappings: Mappings,
    /// Clocks of the container's own time namespace, `(number of clock_gettime(2), seconds, nanoseconds)` ahead of the host's.
    pub time_offsets: Vec<(u32, i64, u32)>,
    /// Programs to run at points of its life.
    pub hooks: Hooks,
    /// Enter the root by `MS_MOVE` and `chroot` where `pivot_root` is impossible (an initial RAM disk).
    pub no_pivot: bool,
    /// We may not be allowed to manage control groups: then go on without, unless something was limited.
    pub cgroup_optional: bool,
    /// The program.
    pub process: ProcessPlan,
    /// Its share of cache and memory bandwidth.
    pub resctrl: Option<Box<ResctrlPlan>>,
    /// Another OCI runtime makes the container.
    pub foreign: Option<Box<ForeignPlan>>,
}

/// An OCI runtime that is a program of its own, and what it is told about one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignPlan {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub args: Vec<String>,
    /// Where it keeps its state.
    pub root: PathBuf,
    /// Directory for `config.json`, the mounted root and what else is needed; gone with the container.
    pub bundle: PathBuf,
    /// The container's id.
    pub id: String,
    /// Our own binary, where process 1 is to be `docker-init`.
    pub init: Option<PathBuf>,
    /// `config.json` but for what is only known at the start: user ids, root, network namespace.
    pub config: String,
}

/// Everything needed to start a further process in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// The control group to join.
    pub cgroup: CgroupPath,
    /// The container's. Those of the host are nobody's to join: the process is in them.
    pub namespaces: Namespaces,
    /// As [`ContainerPlan::cgroup_optional`].
    pub cgroup_optional: bool,
    /// The program.
    pub process: ProcessPlan,
    /// Another OCI runtime made the container.
    pub foreign: Option<Box<ForeignPlan>>,
}

/// A program and the attributes it runs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// `argv`; the first is looked up in the `PATH` of `env`, inside the container.
    pub args: Vec<String>,
    /// `KEY=value`. `HOME` is added at launch when absent.
    pub env: Vec<String>,
    /// Working directory, absolute inside the container.
    pub cwd: String,
    /// Who it runs as.
    pub user: UserPlan,
    /// Capabilities.
    pub caps: CapSets,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// The filter; `None` is unconfined.
    pub seccomp: Option<SeccompProgram>,
    /// AppArmor profile to change to at `execve`.
    pub apparmor: Option<String>,
    /// `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// File mode creation mask.
    pub umask: u32,
    /// SELinux label to change to at `execve`.
    pub selinux: Option<String>,
    /// How the kernel schedules it.
    pub scheduling: Scheduling,
    /// That many descriptors from 3 on are the program's.
    pub preserve_fds: u32,
    /// Stay in the caller's session keyring.
    pub keep_keyring: bool,
}

/// Who a program runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserPlan {
    /// Numbers, taken as they are (OCI).
    Ids {
        /// User.
        uid: u32,
        /// Primary group.
        gid: u32,
        /// Further groups.
        groups: Vec<u32>,
    },
    /// Names or numbers to be resolved in the container's `/etc/passwd` and `/etc/group` (Docker).
    Lookup(UserSpec),
}

/// A user as Docker writes it, resolved inside the container's root: `name|uid[:group|gid]`, plus `--group-add` entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// `""` means root.
    pub user: String,
    /// Names or numbers of further groups.
    pub additional_groups: Vec<String>,
}

/// The five capability sets as bit masks (bit `n` is capability number `n`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapSets {
    /// Ceiling for what `execve` may give.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Kept through `execve` of capable files.
    pub inheritable: u64,
    /// Kept through `execve` by ordinary users.
    pub ambient: u64,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*` number.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Where each namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Mounts.
    pub mount: NamespaceSource,
    /// Process ids.
    pub pid: NamespaceSource,
    /// Network. `New` and a descriptor handed to `launch` means: join that one.
    pub net: NamespaceSource,
    /// System V IPC and message queues.
    pub ipc: NamespaceSource,
    /// Host name.
    pub uts: NamespaceSource,
    /// View of the control group tree.
    pub cgroup: NamespaceSource,
    /// Users and groups, and what their root may do.
    pub user: NamespaceSource,
    /// Monotonic and boot time.
    pub time: NamespaceSource,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceSource {
    /// The host's.
    Host,
    /// A new one.
    New,
    /// An existing one, by path (`/proc/<pid>/ns/<kind>` or a bind mount of it).
    Path(PathBuf),
}

/// How mount events travel, with `recursive` for the `r…` forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagation {
    /// Which kind.
    pub kind: PropagationKind,
    /// Also for everything mounted below.
    pub recursive: bool,
}

/// Kinds of mount propagation, mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PropagationKind {
    /// None.
    Private,
    /// Receives only.
    Slave,
    /// Both ways.
    Shared,
    /// None, and cannot be bind-mounted.
    Unbindable,
}

/// One mount inside the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStep {
    /// Absolute path inside the container; missing parts are created.
    pub target: String,
    /// What is mounted there.
    pub source: MountSource,
    /// Only this part of it; links in it must not lead out of the source.
    pub subpath: Option<String>,
    /// Attributes of the mount itself.
    pub attrs: AttrChange,
    /// Attributes of it and everything below (`rro`, …).
    pub recursive_attrs: AttrChange,
    /// Propagation; `None` leaves what the kernel gives.
    pub propagation: Option<Propagation>,
    /// Shows ids mapped.
    pub idmap: Option<MountIdmap>,
    /// A new tmpfs begins with a copy of what it covers (`tmpcopyup`).
    pub copy_up: bool,
}

/// An idmapped mount, mount_setattr(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountIdmap {
    /// How.
    pub mappings: Mappings,
    /// Also everything mounted below.
    pub recursive: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// With everything mounted below it (`rbind`).
        recursive: bool,
    },
    /// A new instance of a file system type.
    Filesystem {
        /// `proc`, `tmpfs`, …
        fstype: String,
        /// The source column of `/proc/mounts`.
        source: String,
        /// `key` or `key=value`.
        options: Vec<(String, Option<String>)>,
    },
    /// `/sys/fs/cgroup` with one directory per v1 hierarchy.
    CgroupV1 {
        /// The hierarchies.
        entries: Vec<CgroupV1Entry>,
    },
    /// `/sys/fs/cgroup` as the unified hierarchy.
    CgroupV2 {
        /// With the host's cgroup namespace: the container's own directory is bound instead.
        bind: Option<PathBuf>,
    },
}

/// One v1 hierarchy inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupV1Entry {
    /// Directory name, e.g. `cpu,cpuacct`.
    pub name: String,
    /// The container's own directory to bind; `None` mounts the hierarchy through the cgroup namespace.
    pub bind: Option<PathBuf>,
    /// Mount options that select the hierarchy, e.g. `cpu,cpuacct`.
    pub select: String,
    /// Further names that point here (`cpu` and `cpuacct` for `cpu,cpuacct`).
    pub links: Vec<String>,
}

/// `MOUNT_ATTR_*` bits to set and to clear, mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrChange {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear first.
    pub clear: u64,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Absolute path inside the container.
    pub path: String,
    /// Character, block or FIFO.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
}

/// A control group and the values it starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Its directories.
    pub path: CgroupPath,
    /// Values to write, in order.
    pub writes: Vec<CgroupWrite>,
    /// v2: program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, one `u64` per instruction. Empty allows all.
    pub device_program: Vec<u64>,
    /// systemd makes it.
    pub scope: Option<Box<Scope>>,
}

/// One value of a control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupWrite {
    /// Absolute host path of the file.
    pub file: PathBuf,
    /// What to write.
    pub value: String,
    /// File and value to use instead where the kernel does not have `file`.
    pub or: Option<(PathBuf, String)>,
}

/// What a plan needs beyond the OCI spec.
#[derive(Debug, Clone)]
pub struct PlanExtra {
    /// The root file system.
    pub rootfs: RootfsMount,
    /// Docker's user text; `None` takes the numbers of `spec.process.user`.
    pub user: Option<UserSpec>,
    /// Create `process.cwd` when missing.
    pub create_cwd: bool,
    /// Run our reaper as PID 1.
    pub init: bool,
    /// Where the system call filter comes from.
    pub seccomp: SeccompPolicy,
    /// What only the OCI runtime's command line gives.
    pub oci: OciExtra,
}

/// What the OCI runtime's command line and newer parts of `config.json` add to a spec.
#[derive(Debug, Clone, Default)]
pub struct OciExtra {
    /// What hooks are told.
    pub state: HookState,
    /// `uidMappings` and `gidMappings` of the mounts, by their position; missing means none.
    pub mount_mappings: Vec<Mappings>,
    /// The root file system shows ids mapped by these.
    pub rootfs_mappings: Mappings,
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub keep_keyring: bool,
    /// We may not be allowed to manage control groups.
    pub rootless: bool,
    /// Control groups are made by systemd, and `linux.cgroupsPath` is `slice:prefix:name`.
    pub systemd: bool,
}

/// Where the system call filter comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeccompPolicy {
    /// `linux.seccomp` of the spec; none there means unconfined (OCI).
    FromSpec,
    /// Docker's default policy, adapted to the container's capabilities.
    Default,
    /// The text of a profile in Docker's JSON format (`--security-opt seccomp=<file>`).
    Profile(String),
    /// No filter.
    Unconfined,
}

/// What `docker exec` may choose.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// `argv`.
    pub args: Vec<String>,
    /// Added to (and overriding) the container's environment.
    pub env: Vec<String>,
    /// Another user than the container's; groups added with `--group-add` stay.
    pub user: Option<String>,
    /// Another working directory than the container's.
    pub cwd: Option<String>,
    /// All capabilities the host has.
    pub privileged: bool,
}

/// Why no plan could be made: the request asks for something impossible.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A part of the spec that a container cannot do without is missing.
    #[error("spec has no {0}")]
    Missing(&'static str),
    /// A value makes no sense.
    #[error("invalid {what} {value:?}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The host lacks what is asked for.
    #[error("{0} is not available on this host")]
    Unavailable(&'static str),
    /// We do not do this (yet).
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A kernel parameter that would not stay inside the container; runc's text.
    #[error("{0}")]
    Sysctl(String),
    /// The kernel is too old for it.
    #[error("{what} needs Linux {}.{} or later", .version.0, .version.1)]
    Kernel {
        /// What is asked for.
        what: &'static str,
        /// Major and minor version.
        version: (u32, u32),
    },
    /// runc's text.
    #[error("selinux label is specified in config, but selinux is disabled or not supported")]
    Selinux,
    /// The seccomp profile cannot be compiled.
    #[error(transparent)]
    Seccomp(#[from] crate::seccomp::SeccompError),
}

pub(crate) use mounts::attr;
pub use resources::{is_slice, plan_update, plan_update_properties};

/// Plans a container. Pure: reads nothing but its arguments.
pub fn plan(spec: &Spec, extra: PlanExtra, host: &HostFacts) -> Result<ContainerPlan, PlanError> {
    let process = spec
        .process()
        .as_ref()
        .ok_or(PlanError::Missing("process"))?;
    let linux = spec.linux().as_ref().ok_or(PlanError::Missing("linux"))?;
    namespaces::refuse_unsupported(linux)?;
    let namespaces = namespaces::plan_namespaces(linux)?;
    let mappings = namespaces::plan_mappings(linux, &namespaces)?;
    let cgroup = resources::plan_cgroup(linux, &extra.oci, host)?;
    let mut mounts = mounts::plan_mounts(spec, &namespaces, &cgroup.path, host.features.selinux)?;
    mounts::plan_idmaps(&mut mounts, &extra.oci.mount_mappings, &mappings)?;
    let caps = capability::plan_caps(process.capabilities().as_ref(), host.cap_bounding);
    let seccomp = crate::seccomp::plan_seccomp(
        &extra.seccomp,
        linux.seccomp().as_ref(),
        caps.bounding,
        host,
    )?;
    check_selinux(process.selinux_label(), host)?;
    check_mapped_root(&extra, host)?;
    // A bound /dev is the caller's own and is used as it is (runc).
    let own_dev = !mounts::has_bound_dev(&mounts);
    let has_own_uts = namespaces.uts != NamespaceSource::Host;
    let uts_name = |name: &Option<String>| name.clone().filter(|n| !n.is_empty() && has_own_uts);
    Ok(ContainerPlan {
        rootfs_readonly: spec
            .root()
            .as_ref()
            .and_then(|r| r.readonly())
            .unwrap_or(false),
        rootfs_propagation: linux
            .rootfs_propagation()
            .as_deref()
            .filter(|p| !p.is_empty())
            .map(mounts::parse_propagation)
            .transpose()?,
        devices: if own_dev {
            devices::plan_devices(linux)?
        } else {
            Vec::new()
        },
        links: if own_dev {
            devices::plan_links(host.features.kcore)
        } else {
            Vec::new()
        },
        masked_paths: linux.masked_paths().clone().unwrap_or_default(),
        readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
        sysctls: namespaces::plan_sysctls(linux, &namespaces)?,
        hostname: uts_name(spec.hostname()),
        domainname: uts_name(spec.domainname()),
        create_cwd: extra.create_cwd,
        init: extra.init,
        process: process::plan_process(process, linux, &extra, host.cap_bounding, seccomp)?,
        time_offsets: namespaces::plan_time_offsets(linux, &namespaces)?,
        resctrl: plan_resctrl(linux, &extra.oci.state.id, host.resctrl.as_deref())?,
        hooks: hooks::plan_hooks(spec, extra.oci.state)?,
        no_pivot: extra.oci.no_pivot,
        cgroup_optional: extra.oci.rootless && linux.resources().is_none(),
        rootfs_mappings: extra.oci.rootfs_mappings,
        mappings,
        layers_one_by_one: layers_one_by_one(&extra.rootfs, host),
        rootfs: extra.rootfs,
        namespaces,
        mounts,
        cgroup,
        foreign: None,
    })
}

/// `fsconfig` takes values of up to 255 bytes.
const MAX_FSCONFIG_VALUE: usize = 255;

pub(crate) fn layers_one_by_one(rootfs: &RootfsMount, host: &HostFacts) -> bool {
    let RootfsMount::Overlay {
        lower, upper, work, ..
    } = rootfs
    else {
        return false;
    };
    let fits = |p: &PathBuf| p.as_os_str().len() <= MAX_FSCONFIG_VALUE;
    host.features.overlay_lowerdir_append && lower.iter().chain([upper, work]).all(fits)
}

/// Plans a further process in the container of `container`. Pure.
pub fn plan_exec(
    container: &ContainerPlan,
    options: ExecOptions,
    host: &HostFacts,
) -> Result<ExecPlan, PlanError> {
    Ok(ExecPlan {
        cgroup: container.cgroup.path.clone(),
        namespaces: container.namespaces.clone(),
        cgroup_optional: container.cgroup_optional,
        process: process::plan_exec_process(&container.process, options, host.cap_bounding)?,
        foreign: container.foreign.clone(),
    })
}

/// Plans a further process from an OCI description of it (`exec --process`). Pure. The container's system call filter
/// is the process's too.
pub fn plan_exec_oci(
    container: &ContainerPlan,
    process: &wharf_spec::runtime::Process,
    preserve_fds: u32,
    host: &HostFacts,
) -> Result<ExecPlan, PlanError> {
    check_selinux(process.selinux_label(), host)?;
    let mut planned = process::plan_oci_exec(&container.process, process, host.cap_bounding)?;
    planned.preserve_fds = preserve_fds;
    Ok(ExecPlan {
        cgroup: container.cgroup.path.clone(),
        namespaces: container.namespaces.clone(),
        cgroup_optional: container.cgroup_optional,
        process: planned,
        foreign: None,
    })
}

/// An overlay of layers whose ids are mapped, and which are mounted nowhere.
fn check_mapped_root(extra: &PlanExtra, host: &HostFacts) -> Result<(), PlanError> {
    const SINCE: (u32, u32) = (6, 15);
    let is_overlay = matches!(extra.rootfs, RootfsMount::Overlay { .. });
    if is_overlay && !extra.oci.rootfs_mappings.is_empty() && host.kernel < SINCE {
        return Err(PlanError::Kernel {
            what: "a container with user and group ids of its own (--userns-remap, --userns)",
            version: SINCE,
        });
    }
    Ok(())
}

fn check_selinux(label: &Option<String>, host: &HostFacts) -> Result<(), PlanError> {
    match label.as_deref() {
        None | Some("") => Ok(()),
        Some(_) if host.features.selinux => Ok(()),
        Some(_) => Err(PlanError::Selinux),
    }
}

/// A path of the spec as text: JSON has no other, and neither has `/proc/mounts`.
fn text(path: &Path, what: &'static str) -> Result<String, PlanError> {
    match path.to_str() {
        Some(text) if !text.contains('\0') => Ok(text.into()),
        _ => Err(PlanError::Invalid {
            what,
            value: path.display().to_string(),
        }),
    }
}
