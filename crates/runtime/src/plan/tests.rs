//! Whole plans from whole specs.

use serde_json::{Value, json};

use super::*;
use crate::host::{Arch, CgroupLayout, KernelFeatures, V1Hierarchy};

fn host(cgroup: CgroupLayout) -> HostFacts {
    HostFacts {
        cgroup,
        kernel: (6, 1),
        features: KernelFeatures {
            swap_accounting: true,
            overlay_lowerdir_append: true,
            ..KernelFeatures::default()
        },
        cap_bounding: 0x1ff_ffff_ffff,
        arch: Arch::X86_64,
        resctrl: None,
    }
}

fn v1() -> CgroupLayout {
    let hierarchy = |controllers: &[&str], name: &str| V1Hierarchy {
        controllers: controllers.iter().map(|c| (*c).to_string()).collect(),
        mount: Path::new("/sys/fs/cgroup").join(name),
        own: "/".into(),
    };
    CgroupLayout::V1 {
        hierarchies: vec![
            hierarchy(&["cpu", "cpuacct"], "cpu,cpuacct"),
            hierarchy(&["memory"], "memory"),
            hierarchy(&["devices"], "devices"),
            hierarchy(&["name=systemd"], "systemd"),
        ],
    }
}

fn v2() -> CgroupLayout {
    CgroupLayout::V2 {
        mount: "/sys/fs/cgroup".into(),
        own: "/".into(),
        controllers: vec!["memory".into()],
    }
}

fn spec() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "box",
        "process": {
            "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
            "args": ["sh"], "env": ["A=b"], "cwd": "/srv",
            "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
            "noNewPrivileges": true, "oomScoreAdj": -5
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {"destination": "/data", "type": "bind", "source": "/host", "options": ["rbind", "ro", "rslave"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
        ],
        "linux": {
            "cgroupsPath": "/docker/x",
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/run/netns/a"}, {"type": "uts"}],
            "resources": {
                "memory": {"limit": 100, "swap": 300},
                "cpu": {"shares": 1024, "quota": 5000, "period": 10000},
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 8, "access": "r"}]
            },
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]
        }
    })
}

fn extra() -> PlanExtra {
    PlanExtra {
        rootfs: RootfsMount::Overlay {
            lower: vec!["/l1".into(), "/l2".into()],
            upper: "/u".into(),
            work: "/w".into(),
            options: vec![],
        },
        user: None,
        create_cwd: true,
        init: false,
        seccomp: SeccompPolicy::Unconfined,
        oci: OciExtra::default(),
    }
}

fn plan_of(spec: Value, cgroup: CgroupLayout) -> Result<ContainerPlan, PlanError> {
    plan(
        &serde_json::from_value(spec).expect("a spec"),
        extra(),
        &host(cgroup),
    )
}

fn writes(plan: &ContainerPlan) -> Vec<String> {
    let show = |w: &CgroupWrite| {
        let file = w.file.strip_prefix("/sys/fs/cgroup").unwrap_or(&w.file);
        format!("{}={}", file.display(), w.value)
    };
    plan.cgroup.writes.iter().map(show).collect()
}

#[test]
fn every_field_of_the_spec_arrives() {
    let plan = plan_of(spec(), v1()).expect("plannable");
    assert!(plan.rootfs_readonly && plan.create_cwd && plan.layers_one_by_one && !plan.init);
    assert_eq!(plan.hostname.as_deref(), Some("box"));
    assert_eq!(plan.namespaces.pid, NamespaceSource::New);
    assert_eq!(
        plan.namespaces.net,
        NamespaceSource::Path("/run/netns/a".into())
    );
    assert_eq!(plan.namespaces.ipc, NamespaceSource::Host);
    assert_eq!(plan.devices.len(), 6);
    assert_eq!(plan.masked_paths, ["/proc/kcore"]);
    assert_eq!(plan.readonly_paths, ["/proc/sys"]);
    let process = &plan.process;
    assert_eq!(
        process.user,
        UserPlan::Ids {
            uid: 5,
            gid: 6,
            groups: vec![7]
        }
    );
    assert_eq!(
        process.caps,
        CapSets {
            bounding: 1,
            effective: 1,
            permitted: 1,
            ..CapSets::default()
        }
    );
    assert_eq!(
        process.rlimits,
        [Rlimit {
            resource: 7,
            soft: 1,
            hard: 2
        }]
    );
    assert_eq!(
        (process.no_new_privs, process.oom_score_adj, process.umask),
        (true, Some(-5), 0o022)
    );
    let bind = &plan.mounts[1];
    assert_eq!(
        bind.source,
        MountSource::Bind {
            path: "/host".into(),
            recursive: true
        }
    );
    assert_eq!(bind.attrs.set, attr::RDONLY);
    assert_eq!(
        bind.propagation,
        Some(Propagation {
            kind: PropagationKind::Slave,
            recursive: true
        })
    );
}

#[test]
fn limits_become_files_of_each_version() {
    let plan = plan_of(spec(), v1()).expect("plannable");
    let seen = writes(&plan);
    let expected = [
        "memory/docker/x/memory.limit_in_bytes=100",
        "memory/docker/x/memory.memsw.limit_in_bytes=300",
        "cpu,cpuacct/docker/x/cpu.shares=1024",
        "cpu,cpuacct/docker/x/cpu.cfs_period_us=10000",
        "cpu,cpuacct/docker/x/cpu.cfs_quota_us=5000",
        "devices/docker/x/devices.deny=a",
        "devices/docker/x/devices.allow=b 8:* r",
        "devices/docker/x/devices.allow=b *:* m",
        "devices/docker/x/devices.allow=c *:* m",
        "devices/docker/x/devices.allow=c 1:3 rwm",
    ];
    assert_eq!(seen[..expected.len()], expected);
    assert!(plan.cgroup.device_program.is_empty());
    let MountSource::CgroupV1 { entries } = &plan.mounts[2].source else {
        panic!("not v1")
    };
    let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["cpu,cpuacct", "memory", "devices", "systemd"]);
    assert_eq!(
        entries[1].bind,
        Some("/sys/fs/cgroup/memory/docker/x".into())
    );

    let plan = plan_of(spec(), v2()).expect("plannable");
    let expected = [
        "docker/x/memory.max=100",
        "docker/x/memory.swap.max=200",
        "docker/x/cpu.weight=39",
        "docker/x/cpu.max=5000 10000",
    ];
    assert_eq!(writes(&plan), expected);
    assert!(!plan.cgroup.device_program.is_empty());
    assert_eq!(
        plan.mounts[2].source,
        MountSource::CgroupV2 {
            bind: Some("/sys/fs/cgroup/docker/x".into())
        }
    );
}

#[test]
fn a_plan_survives_the_way_to_the_monitor() {
    for seccomp in [SeccompPolicy::Unconfined, SeccompPolicy::Default] {
        let spec = serde_json::from_value(spec()).expect("a spec");
        let before = plan(&spec, PlanExtra { seccomp, ..extra() }, &host(v2())).expect("plannable");
        let bytes = postcard::to_stdvec(&before).expect("encodes");
        assert_eq!(
            postcard::from_bytes::<ContainerPlan>(&bytes).expect("decodes"),
            before
        );
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for (pointer, value, message) in [
        ("/process/args", json!([]), "spec has no process.args"),
        (
            "/process/args",
            json!(["a\0b"]),
            "invalid argument \"a\\0b\"",
        ),
        (
            "/process/cwd",
            json!("here"),
            "invalid working directory \"here\"",
        ),
        (
            "/mounts/0/destination",
            json!("proc"),
            "invalid mount destination \"proc\"",
        ),
        (
            "/mounts/0/destination",
            json!("/.."),
            "invalid mount destination \"/..\"",
        ),
        (
            "/mounts/1/source",
            json!("host"),
            "invalid bind source \"host\"",
        ),
        (
            "/mounts/0/options",
            json!(["idmap=uids=0-1-2"]),
            "mount option idmap=uids=0-1-2 is not supported",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "user"}]),
            "spec has no uidMappings and gidMappings for its user namespace",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}, {"type": "pid"}]),
            "invalid namespace, which is listed twice, \"pid\"",
        ),
        (
            "/linux/resources/devices/1/access",
            json!("x"),
            "invalid device rule",
        ),
    ] {
        let mut spec = spec();
        *spec.pointer_mut(pointer).expect("in the spec") = value;
        let error = plan_of(spec, v1()).expect_err(message).to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn an_exec_inherits_but_what_it_overrides() {
    let container = plan_of(spec(), v2()).expect("plannable");
    let options = ExecOptions {
        args: vec!["ls".into()],
        env: vec!["A=c".into()],
        privileged: true,
        ..ExecOptions::default()
    };
    let exec = plan_exec(&container, options, &host(v2())).expect("plannable");
    assert_eq!(exec.cgroup, container.cgroup.path);
    assert_eq!(
        (exec.process.args.join(" "), exec.process.env.join(" ")),
        ("ls".into(), "A=c".into())
    );
    assert_eq!(exec.process.caps.effective, 0x1ff_ffff_ffff);
    assert_eq!(exec.process.user, container.process.user);
    assert!(plan_exec(&container, ExecOptions::default(), &host(v2())).is_err());
}
