//! From a container's configuration to an OCI runtime spec: one maker per topic, in the order of moby's `daemon/oci_linux.go`.
//!
//! Pure but for device nodes, whose numbers only the host knows. The engine's idea of a container ends here; the runtime
//! crate plans from the spec.

pub mod capabilities;
pub mod devices;
pub mod environment;
pub mod mounts;
pub mod namespaces;
pub mod resources;
pub mod security;
pub mod tmpfs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use wharf_runtime::plan::{HookState, Mappings, OciExtra, PlanExtra, UserSpec};
use wharf_spec::rootfs::RootfsMount;
use wharf_spec::runtime::{
    Linux, LinuxBuilder, LinuxResourcesBuilder, LinuxTimeOffset, Mount, PosixRlimit,
    PosixRlimitBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
};

use super::files::Files;
use super::idmap::Idmap;
use super::record::{MountRecord, Record};
use crate::userns::UserNamespace;
use crate::{EngineConfig, Error, Result};

/// Everything a spec is made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The container.
    pub record: &'a Record,
    /// Daemon settings.
    pub engine: &'a EngineConfig,
    /// AppArmor is active on the host.
    pub apparmor: bool,
    /// Files mounted over `/etc`.
    pub files: &'a Files,
    /// Namespaces of other containers to join.
    pub joined: Joined,
    /// Host directory for `/dev/shm` when it is not a tmpfs of the container's own.
    pub shm: Option<PathBuf>,
    /// Mounts with their sources ready.
    pub mounts: &'a [MountRecord],
    /// Whose ids it has.
    pub userns: &'a UserNamespace,
}

/// Paths of namespaces that belong to other containers, and what else comes from those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// Network.
    pub net: Option<PathBuf>,
    /// IPC.
    pub ipc: Option<PathBuf>,
    /// Processes.
    pub pid: Option<PathBuf>,
    /// Variables that linked containers add.
    pub linked: Vec<String>,
}

/// Makes the spec. With it come groups that the process needs for devices it was given.
pub fn make(inputs: &Inputs<'_>) -> Result<(Spec, Vec<u32>)> {
    let record = inputs.record;
    let mut annotations = HashMap::new();
    annotations.extend(record.host_config.annotations.clone());
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(record.host_config.readonly_rootfs)
        .build()
        .map_err(unbuildable)?;
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .process(process(inputs)?)
        .mounts(mounts::make(inputs)?)
        .annotations(annotations)
        .linux(linux(inputs)?)
        .build()
        .map_err(unbuildable)?;
    if record.host_config.uts_mode != "host" {
        spec.set_hostname(Some(record.config.hostname.clone()));
        if !record.config.domainname.is_empty() {
            spec.set_domainname(Some(record.config.domainname.clone()));
        }
    } else {
        spec.set_hostname(None);
    }
    let requests = record.host_config.device_requests.iter().flatten();
    let requests: Vec<_> = requests.cloned().collect();
    let groups = crate::cdi::fulfil(&mut spec, &requests, &inputs.engine.cdi_spec_dirs)?;
    Ok((spec, groups))
}

/// What the runtime needs beyond the spec.
pub fn extra(
    inputs: &Inputs<'_>,
    spec: &Spec,
    rootfs: RootfsMount,
    groups: &[u32],
) -> Result<PlanExtra> {
    let Record {
        config,
        host_config: host,
        ..
    } = inputs.record;
    let mut additional_groups = host.group_add.clone().unwrap_or_default();
    additional_groups.extend(groups.iter().map(u32::to_string));
    let init = host.pid_mode.is_empty() && host.init.unwrap_or(inputs.engine.init);
    Ok(PlanExtra {
        rootfs,
        user: Some(UserSpec {
            user: config.user.clone(),
            additional_groups,
        }),
        create_cwd: true,
        init,
        seccomp: security::seccomp(host, inputs.engine),
        oci: OciExtra {
            rootfs_mappings: inputs.userns.mappings.clone(),
            mount_mappings: mount_mappings(inputs, spec)?,
            state: HookState {
                oci_version: spec.version().clone(),
                id: inputs.record.id.clone(),
                annotations: host.annotations.clone().into_iter().collect(),
                bundle: bundle_of(inputs),
            },
            systemd: inputs.engine.cgroup_driver == "systemd",
            ..OciExtra::default()
        },
    })
}

/// Where hooks find `config.json`.
pub fn bundle_of(inputs: &Inputs<'_>) -> PathBuf {
    inputs.engine.monitor_dir(&inputs.record.id).join("bundle")
}

/// With ids of its own a container owns its volumes and its files in `/etc`, not what is bound from the host, unless that is asked for.
fn mount_mappings(inputs: &Inputs<'_>, spec: &Spec) -> Result<Vec<Mappings>> {
    let own = &inputs.userns.mappings;
    let asked = |mount: &&MountRecord| !mount.idmap.is_empty();
    if own.uids.is_empty() && !inputs.mounts.iter().any(|mount| asked(&mount)) {
        return Ok(Vec::new());
    }
    let files = [
        &inputs.files.hosts,
        &inputs.files.hostname,
        &inputs.files.resolv_conf,
    ];
    let is_own = |mount: &Mount| {
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        let volume = inputs.mounts.iter().find(|record| {
            record.kind == "volume" && Path::new(&record.destination) == mount.destination()
        });
        volume.is_some() || files.iter().any(|file| *file == source)
    };
    let mounts = spec.mounts().iter().flatten();
    mounts
        .map(|mount| {
            let mut asking = inputs.mounts.iter().filter(asked);
            let record =
                asking.find(|record| Path::new(&record.destination) == mount.destination());
            match record {
                Some(record) => Idmap::parse(&record.idmap)?.mappings(own),
                None if is_own(mount) => Ok(own.clone()),
                None => Ok(Mappings::default()),
            }
        })
        .collect()
}

fn process(inputs: &Inputs<'_>) -> Result<Process> {
    let record = inputs.record;
    let host = &record.host_config;
    let mut args = vec![record.path.clone()];
    args.extend(record.args.iter().cloned());
    let cwd = if record.config.working_dir.is_empty() {
        "/"
    } else {
        &record.config.working_dir
    };
    let mut process = ProcessBuilder::default()
        .terminal(record.config.tty)
        .args(args)
        .env(environment::of(&record.config, &inputs.joined.linked))
        .cwd(cwd)
        .capabilities(capabilities::make(host)?)
        .rlimits(rlimits(inputs)?)
        .no_new_privileges(security::no_new_privileges(host, inputs.engine))
        .oom_score_adj(i32::try_from(host.oom_score_adj).unwrap_or(0))
        .build()
        .map_err(unbuildable)?;
    process.set_selinux_label(Some(record.process_label.clone()).filter(|label| !label.is_empty()));
    process.set_apparmor_profile(security::apparmor(host, inputs.apparmor));
    Ok(process)
}

fn rlimits(inputs: &Inputs<'_>) -> Result<Vec<PosixRlimit>> {
    let own = inputs.record.host_config.ulimits.iter().flatten();
    let named: Vec<&str> = own.clone().map(|limit| limit.name.as_str()).collect();
    let defaults = inputs
        .engine
        .ulimits
        .values()
        .filter(|limit| !named.contains(&limit.name.as_str()));
    own.chain(defaults)
        .map(|limit| {
            let kind = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
            let kind = kind
                .parse()
                .map_err(|_| Error::invalid(format!("invalid ulimit type: {}", limit.name)))?;
            PosixRlimitBuilder::default()
                .typ::<wharf_spec::runtime::PosixRlimitType>(kind)
                .soft(unlimited(limit.soft))
                .hard(unlimited(limit.hard))
                .build()
                .map_err(unbuildable)
        })
        .collect()
}

/// -1 is the kernel's "no limit".
fn unlimited(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn linux(inputs: &Inputs<'_>) -> Result<Linux> {
    let host = &inputs.record.host_config;
    let (devices, device_rules) = devices::make(host)?;
    let mut resources = LinuxResourcesBuilder::default()
        .devices(device_rules)
        .build()
        .map_err(unbuildable)?;
    resources::fill(&mut resources, host)?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces::make(
            host,
            &inputs.joined,
            inputs.userns.path.as_deref(),
        ))
        .devices(devices)
        .resources(resources)
        .sysctl(sysctls(inputs))
        .cgroups_path(cgroups_path(inputs))
        .masked_paths(host.masked_paths.clone().unwrap_or_default())
        .readonly_paths(host.readonly_paths.clone().unwrap_or_default())
        .build()
        .map_err(unbuildable)?;
    linux.set_rootfs_propagation(mounts::rootfs_propagation(inputs.mounts));
    linux.set_seccomp(None);
    let label = &inputs.record.mount_label;
    linux.set_mount_label(Some(label.clone()).filter(|label| !label.is_empty()));
    linux.set_time_offsets(time_offsets(&host.wharf.time_offsets)?);
    Ok(linux)
}

/// Clocks ahead of the host's by so many seconds (time_namespaces(7)).
fn time_offsets(
    offsets: &std::collections::BTreeMap<String, i64>,
) -> Result<Option<HashMap<String, LinuxTimeOffset>>> {
    if offsets.is_empty() {
        return Ok(None);
    }
    let mut clocks = HashMap::new();
    for (clock, secs) in offsets {
        let offset = serde_json::from_value(serde_json::json!({"secs": secs, "nanosecs": 0}))
            .map_err(|error| Error::caused("build spec", error))?;
        clocks.insert(clock.clone(), offset);
    }
    Ok(Some(clocks))
}

fn sysctls(inputs: &Inputs<'_>) -> HashMap<String, String> {
    let host = &inputs.record.host_config;
    let mut values = HashMap::new();
    let private_network =
        host.network_mode != "host" && !host.network_mode.starts_with("container:");
    if private_network {
        // Most of these groups have no meaning under other ids.
        if inputs.userns.path.is_none() {
            values.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
        }
        values.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    }
    values.extend(host.sysctls.clone());
    values
}

/// Where the container's control group goes: `<parent>/<id>`, or systemd's `slice:prefix:name`.
pub fn cgroups_path(inputs: &Inputs<'_>) -> PathBuf {
    cgroups_path_of(inputs.record, inputs.engine)
}

/// See [`cgroups_path`].
pub fn cgroups_path_of(record: &Record, engine: &EngineConfig) -> PathBuf {
    let systemd = engine.cgroup_driver == "systemd";
    let own = &record.host_config.cgroup_parent;
    let parent = if own.is_empty() {
        engine
            .cgroup_parent
            .as_deref()
            .unwrap_or(if systemd { "system.slice" } else { "/docker" })
    } else {
        own
    };
    if systemd {
        PathBuf::from(format!("{parent}:docker:{}", record.id))
    } else {
        Path::new(parent).join(&record.id)
    }
}

fn unbuildable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused("build spec", error)
}
