//! `spec`

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::{Context, Done, features};
use crate::failure::{Context as _, Failure};
use crate::options::{Flag, Parsed, switch, valued};

/// runc's.
pub const FLAGS: &[Flag] = &[
    valued("bundle", "DIR", "where to write it").short('b'),
    switch("rootless", "for a user who is not root"),
];

/// Writes a `config.json` to begin with.
pub fn run(_context: &Context, parsed: &Parsed) -> Done {
    let dir = parsed
        .text("bundle")
        .filter(|b| !b.is_empty())
        .unwrap_or(".");
    let file = Path::new(dir).join("config.json");
    let what = || format!("write {}", file.display());
    let mut value = template();
    if parsed.on("rootless") {
        make_rootless(&mut value);
    }
    let mut file = match fs::File::create_new(&file) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::new(
                "File config.json exists. Remove it first".to_string(),
            ));
        }
        made => made.context(what)?,
    };
    writeln!(file, "{value:#}").context(what)?;
    Ok(0)
}

fn template() -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": features::SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "wharf",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "/dev/pts",
                "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount(
                "/sys/fs/cgroup",
                "cgroup",
                &["nosuid", "noexec", "nodev", "relatime", "ro"],
            ),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

/// One's own ids, the host's network, no limits.
fn make_rootless(value: &mut Value) {
    let own = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let linux = &mut value["linux"];
    linux["uidMappings"] = own(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = own(rustix::process::getegid().as_raw());
    linux["resources"] = Value::Null;
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|ns| ns["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    if let Some(mounts) = value["mounts"].as_array_mut() {
        // Group 5 and a new sysfs are the host's root's.
        for mount in mounts.iter_mut() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|o| o != "gid=5");
            }
            if mount["destination"] == "/sys" {
                *mount = json!({
                    "destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::runtime::Spec;

    #[test]
    fn templates_are_specs() {
        let mut value = template();
        serde_json::from_value::<Spec>(value.clone()).expect("valid");
        make_rootless(&mut value);
        let spec: Spec = serde_json::from_value(value).expect("valid");
        let linux = spec.linux().as_ref().expect("there");
        assert!(linux.resources().is_none());
        assert!(linux.uid_mappings().is_some());
    }
}
