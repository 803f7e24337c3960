//! Everything mounted in a container: Docker's defaults, then what the user asked for, shorter paths first.

use std::path::{Path, PathBuf};

use wharf_api::container::HostConfig;
use wharf_runtime::plan::SUBPATH;
use wharf_spec::rootfs::RootfsMount;
use wharf_spec::runtime::{Mount, MountBuilder};

use super::{Inputs, tmpfs};
use crate::container::record::MountRecord;
use crate::{Error, Result};

/// The mounts, in the order they have to be made.
pub fn make(inputs: &Inputs<'_>) -> Result<Vec<Mount>> {
    let host = &inputs.record.host_config;
    let mut user = user_mounts(inputs)?;
    user.sort_by_key(|mount| mount.destination().components().count());
    let taken: Vec<PathBuf> = user
        .iter()
        .map(|mount| mount.destination().clone())
        .collect();
    let own_dev = taken.iter().any(|path| path.as_os_str() == "/dev");
    let mut mounts: Vec<Mount> = defaults(host)
        .into_iter()
        .filter(|mount| {
            let below_dev = mount.destination().starts_with("/dev/");
            let replaced = taken.contains(mount.destination()) || (own_dev && below_dev);
            !replaced
        })
        .collect();
    if host.readonly_rootfs {
        mounts.iter_mut().for_each(make_read_only);
    }
    mounts.extend(user);
    Ok(mounts)
}

/// With a read-only root what the image's own file systems show is read-only too.
fn make_read_only(mount: &mut Mount) {
    const WRITABLE: [&str; 5] = ["/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"];
    let destination = mount.destination().to_string_lossy().into_owned();
    let options = mount.options_mut().get_or_insert_default();
    if !WRITABLE.contains(&destination.as_str()) && !options.iter().any(|option| option == "ro") {
        options.push("ro".into());
    }
}

fn defaults(host: &HostConfig) -> Vec<Mount> {
    let sys: &[&str] = if host.privileged {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let cgroup: &[&str] = if super::security::writable_cgroups(host) {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["ro", "nosuid", "noexec", "nodev"]
    };
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/sys", "sysfs", "sysfs", sys),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
    ];
    if host.ipc_mode != "none" {
        let size = format!("size={}", host.shm_size);
        mounts.push(mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &size],
        ));
    }
    mounts
}

fn user_mounts(inputs: &Inputs<'_>) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for (destination, options) in &inputs.record.host_config.tmpfs {
        mounts.push(tmpfs_mount(destination, options)?);
    }
    for record in inputs.mounts {
        if record.kind == "tmpfs" {
            let options = tmpfs::of_mount(record.tmpfs.as_ref(), !record.rw);
            mounts.push(tmpfs_mount(&record.destination, &options)?);
        } else if let Some(RootfsMount::Overlay {
            lower,
            upper,
            work,
            options,
        }) = &record.overlay
        {
            let overlay = Overlay {
                lower,
                upper,
                work,
                options,
            };
            mounts.push(overlay.mount(record));
        } else {
            mounts.push(bind(record)?);
        }
    }
    if let Some(shm) = &inputs.shm
        && !is_taken(&mounts, "/dev/shm")
    {
        mounts.push(mount(
            "/dev/shm",
            "bind",
            &shm.to_string_lossy(),
            &["rbind", "rprivate"],
        ));
    }
    let files = inputs.files;
    for (path, source) in [
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
        ("/etc/hosts", &files.hosts),
    ] {
        if !is_taken(&mounts, path) {
            let writable = !inputs.record.host_config.readonly_rootfs;
            let options: &[&str] = if writable {
                &["rbind", "rprivate"]
            } else {
                &["rbind", "ro", "rprivate"]
            };
            mounts.push(mount(path, "bind", &source.to_string_lossy(), options));
        }
    }
    Ok(mounts)
}

fn is_taken(mounts: &[Mount], path: &str) -> bool {
    mounts
        .iter()
        .any(|mount| mount.destination().as_os_str() == path)
}

fn tmpfs_mount(destination: &str, options: &str) -> Result<Mount> {
    let options = tmpfs::merge(options)?;
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Ok(mount(destination, "tmpfs", "tmpfs", &options))
}

fn bind(record: &MountRecord) -> Result<Mount> {
    let mut options = vec![if record.non_recursive {
        "bind"
    } else {
        "rbind"
    }];
    if !record.rw {
        if record.read_only_non_recursive && record.read_only_force_recursive {
            return Err(Error::invalid(
                "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive",
            ));
        }
        options.push(if record.read_only_non_recursive {
            "ro"
        } else {
            "rro"
        });
    } else if record.read_only_non_recursive || record.read_only_force_recursive {
        return Err(Error::invalid(
            "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive",
        ));
    }
    if !record.propagation.is_empty() {
        options.push(&record.propagation);
    }
    let subpath = format!("{SUBPATH}{}", record.subpath);
    if !record.subpath.is_empty() {
        options.push(&subpath);
    }
    Ok(mount(&record.destination, "bind", &record.source, &options))
}

/// An image's layers, mounted as a container's root is.
struct Overlay<'a> {
    lower: &'a [PathBuf],
    upper: &'a Path,
    work: &'a Path,
    options: &'a [String],
}

impl Overlay<'_> {
    fn mount(&self, record: &MountRecord) -> Mount {
        let layers = self
            .lower
            .iter()
            .map(|layer| format!("lowerdir+={}", layer.display()));
        let mut options: Vec<String> = layers.collect();
        options.push(format!("upperdir={}", self.upper.display()));
        options.push(format!("workdir={}", self.work.display()));
        options.extend(self.options.iter().cloned());
        if !record.rw {
            options.push("ro".to_owned());
        }
        if !record.subpath.is_empty() {
            options.push(format!("{SUBPATH}{}", record.subpath));
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        mount(&record.destination, "overlay", "overlay", &options)
    }
}

/// Mount events of the host reach the container only when one of its mounts asks for it.
pub fn rootfs_propagation(mounts: &[MountRecord]) -> Option<String> {
    let has = |names: [&str; 2]| {
        mounts
            .iter()
            .any(|mount| names.contains(&mount.propagation.as_str()))
    };
    if has(["shared", "rshared"]) {
        Some("shared".into())
    } else if has(["slave", "rslave"]) {
        Some("rslave".into())
    } else {
        None
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(
            options
                .iter()
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
        .expect("every field has a default")
}
