//! Security options: system call filters, devices by name, parameters, shared and private namespaces.

use wharf_e2e::Engine;
use wharf_e2e::images::{BUSYBOX, archive};

fn profile(engine: &Engine, name: &str, text: &str) -> String {
    let path = engine.dir().join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// Everything but `mkdir`, which fails with EDOM (33); `rmdir` only on other architectures and old kernels; `chmod` to 0700 only without
/// a capability; nothing about `sync`.
const PROFILE: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33},
        {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["s390x"]}},
        {"names": ["unlink"], "action": "SCMP_ACT_ERRNO", "excludes": {"minKernel": "3.0"}},
        {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 448, "op": "SCMP_CMP_EQ"}],
         "excludes": {"caps": ["CAP_SYS_TIME"]}}
    ]
}"#;

#[test]
fn a_profile_of_ones_own_is_obeyed() {
    let engine = Engine::start();
    let option = format!("seccomp={}", profile(&engine, "p.json", PROFILE));
    let script = "mkdir /a 2>&1; cd /tmp; touch f && rm f && echo removed; touch f; chmod 700 f 2>/dev/null || echo no; chmod 701 f && echo yes";
    assert_eq!(
        engine.run(&["--security-opt", &option], &["sh", "-c", script]),
        "mkdir: can't create directory '/a': Numerical argument out of domain\nremoved\nno\nyes"
    );
    let busybox_uses_fchmodat = "touch /f; chmod 700 /f";
    let with_time = ["--security-opt", &option, "--cap-add", "SYS_TIME"];
    assert_eq!(
        engine.run(&with_time, &["sh", "-c", busybox_uses_fchmodat]),
        ""
    );
}

#[test]
fn bad_profiles_are_refused() {
    let engine = Engine::start();
    for (text, expected) in [
        (
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            "SCMP_ACT_NOTIFY is not supported",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ERRNO"}]}"#,
            "both 'name' and 'names'",
        ),
        (r#"{"defaultAction":7}"#, "Decoding seccomp profile failed"),
    ] {
        let option = format!("seccomp={}", profile(&engine, "p.json", text));
        let answer = engine.docker(&["run", "--rm", "--security-opt", &option, BUSYBOX, "true"]);
        assert!(
            answer.code == 125 && answer.stderr.contains(expected),
            "{answer:?}"
        );
    }
}

#[test]
fn the_daemon_can_have_a_profile_for_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p.json");
    std::fs::write(&path, PROFILE).expect("written");
    let engine = Engine::options()
        .flag("--seccomp-profile")
        .flag(path.to_str().expect("text"))
        .flag("--no-new-privileges")
        .start();
    engine.load_bytes(&archive("busybox.tar"));
    let script =
        "mkdir /a 2>/dev/null || echo refused; grep NoNewPrivs /proc/self/status | cut -f2";
    assert_eq!(engine.run(&[], &["sh", "-c", script]), "refused\n1");
    let own = [
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "no-new-privileges=false",
    ];
    assert_eq!(engine.run(&own, &["sh", "-c", script]), "0");
    assert_eq!(
        engine.run(&["--privileged"], &["sh", "-c", "mkdir /a && echo made"]),
        "made"
    );
    let info = engine.docker_ok(&["info", "--format", "{{.SecurityOptions}}"]);
    assert!(
        info.contains(&format!("profile={}", path.display())),
        "{info}"
    );
}

const VENDOR: &str = "cdiVersion: 0.6.0
kind: nvidia.com/gpu
containerEdits:
  env: [ALL=1]
devices:
  - name: all
    containerEdits:
      env: [WHICH=all]
      deviceNodes: [{path: /dev/thing, hostPath: /dev/kmsg, permissions: r}]
      mounts: [{hostPath: /etc/hostname, containerPath: /lib/thing, options: [ro, rbind]}]
  - name: '0'
    containerEdits: {env: [WHICH=0]}
";

#[test]
fn devices_have_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("text");
    let engine = Engine::options().flag("--cdi-spec-dir").flag(path).start();
    engine.load_bytes(&archive("busybox.tar"));
    let missing = engine.docker(&["run", "--rm", "--gpus", "all", BUSYBOX, "true"]);
    assert!(
        missing
            .stderr
            .contains("could not select device driver \"\" with capabilities: [[gpu]]"),
        "{missing:?}"
    );
    // No restart is needed for a new file.
    std::fs::write(dir.path().join("vendor.yaml"), VENDOR).expect("written");
    let script = "echo $ALL $WHICH; test -c /dev/thing && echo node; cat /lib/thing >/dev/null && echo mount; (echo x >/lib/thing) 2>/dev/null || echo read-only";
    for flags in [["--device", "nvidia.com/gpu=all"], ["--gpus", "all"]] {
        assert_eq!(
            engine.run(&flags, &["sh", "-c", script]),
            "1 all\nnode\nmount\nread-only"
        );
    }
    assert_eq!(
        engine.run(&["--gpus", "1"], &["sh", "-c", "echo $WHICH"]),
        "0"
    );
    let unknown = engine.docker(&[
        "run",
        "--rm",
        "--device",
        "nvidia.com/gpu=7",
        BUSYBOX,
        "true",
    ]);
    assert!(
        unknown
            .stderr
            .contains("unresolvable CDI devices nvidia.com/gpu=7"),
        "{unknown:?}"
    );
}

#[test]
fn kernel_parameters_of_namespaces_can_be_set_and_no_others() {
    let engine = Engine::start();
    let set = |key: &str, flags: &[&str]| {
        let body = serde_json::json!({
            "Image": BUSYBOX, "Cmd": ["cat", format!("/proc/sys/{}", key.replace('.', "/"))],
            "HostConfig": {"Sysctls": {key: "1"}, "NetworkMode": flags.first().unwrap_or(&"bridge")}
        });
        let id = engine.create(&body);
        let output = engine.docker(&["start", "--attach", &id]);
        if output.code == 0 {
            output.stdout.trim().to_owned()
        } else {
            output.stderr
        }
    };
    assert_eq!(set("net.ipv4.ip_forward", &[]), "1");
    assert_eq!(set("kernel.msgmax", &[]), "1");
    assert_eq!(set("fs.mqueue.queues_max", &[]), "1");
    for (key, flags) in [
        ("net.ipv4.ip_forward", &["host"][..]),
        ("kernel.pid_max", &[]),
        ("vm.swappiness", &[]),
        ("kernel.hostname", &[]),
    ] {
        assert!(set(key, flags).contains("sysctl"), "{key}");
    }
}

#[test]
fn ipc_can_be_shared_by_consent_only() {
    let engine = Engine::start();
    let ns = |mode: &str| {
        engine.run(
            &["--ipc", mode],
            &[
                "sh",
                "-c",
                "readlink /proc/self/ns/ipc; ls /dev/shm 2>/dev/null",
            ],
        )
    };
    engine.run_detached(
        &["--name", "donor", "--ipc", "shareable"],
        &["sh", "-c", "touch /dev/shm/there; sleep 1000"],
    );
    engine.run_detached(&["--name", "private"], &["sleep", "1000"]);
    let donor = engine.docker_ok(&["exec", "donor", "readlink", "/proc/self/ns/ipc"]);
    assert_eq!(ns("container:donor"), format!("{donor}\nthere"));
    let host = std::fs::read_link("/proc/self/ns/ipc").expect("ours");
    assert_eq!(ns("host").lines().next(), host.to_str());
    let refused = engine.docker(&["run", "--rm", "--ipc", "container:private", BUSYBOX, "true"]);
    assert!(refused.stderr.contains("non-shareable IPC"), "{refused:?}");
    assert_eq!(
        engine.run(
            &["--ipc", "none"],
            &["sh", "-c", "grep -c /dev/shm /proc/mounts; true"]
        ),
        "0"
    );
}

#[test]
fn process_and_host_name_namespaces_can_be_shared() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--name", "owner"], &["sleep", "1234"]);
    let joined = format!("container:{id}");
    let seen = engine.run(
        &["--pid", &joined],
        &["sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '"],
    );
    assert_eq!(seen.trim(), "sleep 1234");
    let uts = engine.run(&["--uts", "host"], &["readlink", "/proc/self/ns/uts"]);
    assert_eq!(
        std::fs::read_link("/proc/self/ns/uts")
            .expect("ours")
            .to_str(),
        Some(uts.as_str())
    );
}

#[test]
fn masks_and_read_only_paths_can_be_chosen() {
    let engine = Engine::start();
    let off = engine.run(
        &["--security-opt", "systempaths=unconfined"],
        &[
            "sh",
            "-c",
            "grep -c -E ' /proc/(kcore|sys) ' /proc/mounts; true",
        ],
    );
    assert_eq!(off, "0");
    let body = serde_json::json!({
        "Image": BUSYBOX, "Cmd": ["sh", "-c", "wc -c </etc/passwd; (echo x >/etc/group) 2>&1 | grep -o Read-only"],
        "HostConfig": {"MaskedPaths": ["/etc/passwd"], "ReadonlyPaths": ["/etc/group"]}
    });
    let id = engine.create(&body);
    assert_eq!(
        engine.docker_ok(&["start", "--attach", &id]),
        "0\nRead-only"
    );
}

#[test]
fn read_only_binds_are_read_only_to_the_bottom() {
    let engine = Engine::start();
    let outer = engine.dir().join("outer");
    let inner = outer.join("inner");
    std::fs::create_dir_all(&inner).expect("made");
    rustix::mount::mount(
        "tmpfs",
        &inner,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .expect("mounted");
    let write = "(echo x >/b/inner/x) 2>/dev/null && echo written || echo refused";
    let mount = |more: &str| {
        format!(
            "type=bind,source={},target=/b,readonly{more}",
            outer.display()
        )
    };
    let deep = engine.run(&["--mount", &mount("")], &["sh", "-c", write]);
    let shallow = engine.run(
        &["--mount", &mount(",bind-recursive=writable")],
        &["sh", "-c", write],
    );
    rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    assert_eq!((deep.as_str(), shallow.as_str()), ("refused", "written"));
}

/// Ids of process 1 on the host: user, group.
fn host_ids(engine: &Engine, id: &str) -> (u32, u32) {
    let pid = engine.inspect(id, "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    let first = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|n| n.parse().ok()).expect("an id")
    };
    (first("Uid:"), first("Gid:"))
}

#[test]
fn containers_can_have_ranges_of_ids_of_their_own() {
    let engine = Engine::start();
    let start = || {
        let body = serde_json::json!({
            "Image": BUSYBOX, "Cmd": ["sleep", "1000"],
            "HostConfig": {"UsernsMode": "auto", "Binds": ["shared:/data"]}
        });
        let id = engine.create(&body);
        engine.docker_ok(&["start", &id]);
        id
    };
    let (one, two) = (start(), start());
    let (first, second) = (host_ids(&engine, &one).0, host_ids(&engine, &two).0);
    assert!(
        first >= 1 << 31 && second >= first + 65_536,
        "{first} {second}"
    );
    // Root inside, with its files its own, and a network it may configure.
    let script = "id -u; stat -c %u /bin/busybox /data; touch /data/$HOSTNAME /root/x && echo wrote; ping -c1 -w2 127.0.0.1 >/dev/null && echo pinged; cat /proc/self/uid_map | tr -s ' '";
    let seen = engine.docker_ok(&["exec", &one, "sh", "-c", script]);
    let expected = format!("0\n0\n0\nwrote\npinged\n 0 {first} 65536");
    assert_eq!(seen, expected);
    // The volume is the same for containers with other ids, and for those with none.
    engine.docker_ok(&["exec", &two, "rm", &format!("/data/{}", &one[..12])]);
    assert_eq!(
        engine.run(&["-v", "shared:/data"], &["stat", "-c", "%u", "/data"]),
        "0"
    );
    engine.docker_ok(&["restart", "-t", "0", &one]);
    assert_eq!(host_ids(&engine, &one).0, first, "the range stays");
}

#[test]
fn all_containers_can_have_other_ids() {
    let engine = Engine::options()
        .flag("--userns-remap")
        .flag("default")
        .start();
    engine.load_bytes(&archive("busybox.tar"));
    let subuid = std::fs::read_to_string("/etc/subuid").expect("made");
    let line = subuid
        .lines()
        .find(|line| line.starts_with("dockremap:"))
        .expect("a range");
    let first: u32 = line
        .split(':')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    assert_eq!(host_ids(&engine, &id).0, first);
    assert_eq!(
        engine.docker_ok(&["exec", &id, "sh", "-c", "id -u; touch /x; stat -c %u /x"]),
        "0\n0"
    );
    let host = engine.run_detached(&["--userns", "host"], &["sleep", "1000"]);
    assert_eq!(host_ids(&engine, &host).0, 0);
    let joined = engine.docker_ok(&[
        "run",
        "--rm",
        "--network",
        &format!("container:{id}"),
        BUSYBOX,
        "readlink",
        "/proc/self/ns/user",
    ]);
    assert_eq!(
        joined,
        engine.docker_ok(&["exec", &id, "readlink", "/proc/self/ns/user"])
    );
    for flags in [
        ["--privileged", "--rm"],
        ["--pid", "host"],
        ["--network", "host"],
    ] {
        let refused = engine.docker(&[&["run"], &flags[..], &[BUSYBOX, "true"]].concat());
        assert_eq!(refused.code, 125, "{refused:?}");
    }
    assert!(
        engine
            .docker_ok(&["info", "--format", "{{.SecurityOptions}}"])
            .contains("name=userns")
    );
}

#[test]
fn clocks_can_be_ahead() {
    let engine = Engine::start();
    let body = serde_json::json!({
        "Image": BUSYBOX, "Cmd": ["cut", "-d.", "-f1", "/proc/uptime"],
        "HostConfig": {"Wharf": {"TimeOffsets": {"boottime": 1_000_000_000}}}
    });
    let id = engine.create(&body);
    let uptime: u64 = engine
        .docker_ok(&["start", "--attach", &id])
        .parse()
        .expect("seconds");
    assert!(uptime > 1_000_000_000, "{uptime}");
}
