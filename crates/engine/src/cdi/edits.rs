//! What a device changes in a container's spec (CDI specification, "OCI Edits").

use wharf_spec::runtime::{
    Hook, HookBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceType, Mount,
    MountBuilder, Spec,
};

use super::document::{Bind, Edits, Node};
use crate::container::spec::{devices, environment};
use crate::{Error, Result};

/// Applies edits; gives the further groups of the process.
pub fn apply(spec: &mut Spec, edits: &Edits) -> Result<Vec<u32>> {
    add_environment(spec, &edits.env);
    for node in &edits.device_nodes {
        add_node(spec, node)?;
    }
    add_mounts(spec, &edits.mounts)?;
    for hook in &edits.hooks {
        add_hook(spec, hook)?;
    }
    Ok(edits
        .additional_gids
        .iter()
        .copied()
        .filter(|gid| *gid != 0)
        .collect())
}

fn add_environment(spec: &mut Spec, entries: &[String]) {
    if entries.is_empty() {
        return;
    }
    let process = spec.process_mut().get_or_insert_default();
    environment::override_with(process.env_mut().get_or_insert_default(), entries.iter());
}

fn add_node(spec: &mut Spec, node: &Node) -> Result<()> {
    let device = device(node)?;
    let permissions = if node.permissions.is_empty() {
        "rwm"
    } else {
        &node.permissions
    };
    let linux = spec.linux_mut().get_or_insert_default();
    if matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C) {
        let rules = linux.resources_mut().get_or_insert_default();
        let rules: &mut Vec<LinuxDeviceCgroup> = rules.devices_mut().get_or_insert_default();
        rules.push(devices::rule(
            true,
            device.typ(),
            Some(device.major()),
            Some(device.minor()),
            permissions,
        ));
    }
    let nodes = linux.devices_mut().get_or_insert_default();
    nodes.retain(|other| other.path() != device.path());
    nodes.push(device);
    Ok(())
}

/// The node, with what its file leaves open taken from the host's.
fn device(node: &Node) -> Result<LinuxDevice> {
    let host_path = if node.host_path.is_empty() {
        &node.path
    } else {
        &node.host_path
    };
    let broken = |reason: String| {
        Error::internal(format!(
            "CDI device injection failed: failed to inject device node {:?}: {reason}",
            node.path
        ))
    };
    let mut device = if node.kind.is_empty() || (node.major.is_none() && node.kind != "p") {
        let path = std::path::Path::new(host_path);
        let path = std::fs::canonicalize(path).map_err(|error| broken(error.to_string()))?;
        devices::node(&path, node.path.clone().into())
            .ok_or_else(|| broken(format!("{host_path} is not a device node")))?
    } else {
        let kind = match node.kind.as_str() {
            "b" => LinuxDeviceType::B,
            "c" | "u" => LinuxDeviceType::C,
            "p" => LinuxDeviceType::P,
            other => return Err(broken(format!("invalid type {other:?}"))),
        };
        LinuxDeviceBuilder::default()
            .path(node.path.as_str())
            .typ(kind)
            .major(node.major.unwrap_or(0))
            .minor(node.minor.unwrap_or(0))
            .file_mode(0o666_u32)
            .build()
            .map_err(|error| broken(error.to_string()))?
    };
    if node.file_mode.is_some() {
        device.set_file_mode(node.file_mode.map(|mode| mode & 0o7777));
    }
    if node.uid.is_some() {
        device.set_uid(node.uid);
    }
    if node.gid.is_some() {
        device.set_gid(node.gid);
    }
    Ok(device)
}

fn add_mounts(spec: &mut Spec, binds: &[Bind]) -> Result<()> {
    let mut more: Vec<Mount> = binds.iter().map(mount).collect::<Result<_>>()?;
    // Parents first.
    more.sort_by_key(|mount| mount.destination().components().count());
    let mounts = spec.mounts_mut().get_or_insert_default();
    mounts.retain(|old| {
        more.iter()
            .all(|new| new.destination() != old.destination())
    });
    mounts.extend(more);
    Ok(())
}

fn mount(bind: &Bind) -> Result<Mount> {
    let kind = if bind.kind.is_empty() {
        "bind"
    } else {
        &bind.kind
    };
    MountBuilder::default()
        .source(bind.host_path.as_str())
        .destination(bind.container_path.as_str())
        .typ(kind)
        .options(bind.options.clone())
        .build()
        .map_err(|error| Error::caused("CDI device injection failed", error))
}

fn add_hook(spec: &mut Spec, hook: &super::document::Hook) -> Result<()> {
    let failed = |error| Error::caused("CDI device injection failed", error);
    let mut built: Hook = HookBuilder::default()
        .path(hook.path.as_str())
        .build()
        .map_err(failed)?;
    built.set_args((!hook.args.is_empty()).then(|| hook.args.clone()));
    built.set_env((!hook.env.is_empty()).then(|| hook.env.clone()));
    built.set_timeout(hook.timeout);
    let hooks = spec.hooks_mut().get_or_insert_default();
    // `prestart` is deprecated in the runtime spec, but what vendors' files have.
    #[allow(deprecated)]
    let list = match hook.hook_name.as_str() {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        "poststop" => hooks.poststop_mut(),
        other => {
            return Err(Error::internal(format!(
                "CDI device injection failed: unknown hook name {other:?}"
            )));
        }
    };
    list.get_or_insert_default().push(built);
    Ok(())
}
