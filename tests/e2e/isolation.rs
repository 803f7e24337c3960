//! What a container can see and do, and what it cannot.

use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

#[test]
fn every_namespace_is_its_own() {
    let engine = Engine::start();
    let script = "for n in mnt pid net ipc uts; do readlink /proc/self/ns/$n; done";
    let inside = engine.run(&[], &["sh", "-c", script]);
    for name in inside.lines() {
        assert_ne!(
            host_namespace(name.split(':').next().expect("kind:[inode]")),
            name
        );
    }
    assert_eq!(inside.lines().count(), 5);
}

fn host_namespace(kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("our namespace");
    link.to_string_lossy().into_owned()
}

/// Docker's default is `host` with cgroup v1 and `private` with v2.
#[test]
fn the_cgroup_namespace_is_as_inspect_says() {
    let engine = Engine::start();
    let own = |flags: &[&str]| {
        engine.run(flags, &["readlink", "/proc/self/ns/cgroup"]) != host_namespace("cgroup")
    };
    let id = engine.docker_ok(&["create", BUSYBOX]);
    assert_eq!(
        own(&[]),
        engine.inspect(&id, "{{.HostConfig.CgroupnsMode}}") == "private"
    );
    assert!(own(&["--cgroupns", "private"]));
    assert!(!own(&["--cgroupns", "host"]));
}

#[test]
fn the_command_is_process_one_and_sees_no_others() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(&[], &["sh", "-c", "echo $$; set -- /proc/[0-9]*; echo $#"]),
        "1\n1"
    );
}

#[test]
fn capabilities_are_dockers_default_set() {
    let engine = Engine::start();
    let caps = engine.run(&[], &["grep", "Cap", "/proc/self/status"]);
    let set = "00000000a80425fb";
    let inheritable = if engine.is_reference() {
        set
    } else {
        "0000000000000000"
    };
    let expected = format!(
        "CapInh:\t{inheritable}\nCapPrm:\t{set}\nCapEff:\t{set}\nCapBnd:\t{set}\nCapAmb:\t0000000000000000"
    );
    if !engine.is_reference() {
        assert_eq!(caps, expected);
    }
}

#[test]
fn capabilities_can_be_added_and_dropped() {
    let engine = Engine::start();
    let bounding = |flags: &[&str]| {
        engine.run(
            flags,
            &["sh", "-c", "grep CapBnd /proc/self/status | cut -f2"],
        )
    };
    assert_eq!(bounding(&["--cap-drop", "ALL"]), "0000000000000000");
    assert_eq!(
        bounding(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]),
        "0000000000001000"
    );
    assert_eq!(bounding(&["--cap-add", "CAP_SYS_TIME"]), "00000000aa0425fb");
}

#[test]
fn other_users_have_no_effective_capabilities() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(
            &["--user", "1000"],
            &[
                "sh",
                "-c",
                "grep -E 'Cap(Prm|Eff)' /proc/self/status | cut -f2"
            ]
        ),
        "0000000000000000\n0000000000000000"
    );
}

#[test]
fn seccomp_filters_by_default_and_not_when_unconfined() {
    let engine = Engine::start();
    let mode = |flags: &[&str]| {
        engine.run(
            flags,
            &["sh", "-c", "grep '^Seccomp:' /proc/self/status | cut -f2"],
        )
    };
    assert_eq!(mode(&[]), "2");
    assert_eq!(mode(&["--security-opt", "seccomp=unconfined"]), "0");
    if !engine.is_reference() {
        // runc refuses where the machine itself lacks a capability.
        assert_eq!(mode(&["--privileged"]), "0");
    }
}

#[test]
fn seccomp_refuses_what_dockers_policy_refuses() {
    let engine = Engine::start();
    // unshare(CLONE_NEWUSER) and mount need CAP_SYS_ADMIN under the policy.
    assert_eq!(
        engine
            .docker(&["run", "--rm", BUSYBOX, "unshare", "-U", "true"])
            .code,
        1
    );
    assert_eq!(
        engine
            .docker(&[
                "run",
                "--rm",
                "--security-opt",
                "seccomp=unconfined",
                BUSYBOX,
                "unshare",
                "-U",
                "true"
            ])
            .code,
        0
    );
}

#[test]
fn no_new_privileges_is_off_unless_asked_for() {
    let engine = Engine::start();
    let flag = |flags: &[&str]| {
        engine.run(
            flags,
            &["sh", "-c", "grep NoNewPrivs /proc/self/status | cut -f2"],
        )
    };
    assert_eq!(flag(&[]), "0");
    assert_eq!(flag(&["--security-opt", "no-new-privileges"]), "1");
}

#[test]
fn masked_files_are_empty_and_masked_directories_too() {
    let engine = Engine::start();
    let script = "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v : | grep -c .; true";
    assert_eq!(engine.run(&[], &["sh", "-c", script]), "0\n0");
}

#[test]
fn read_only_paths_refuse_writes() {
    let engine = Engine::start();
    let script = "for f in /proc/sys/kernel/hostname /proc/irq/default_smp_affinity /sys/kernel/x; do (echo x >$f) 2>&1 | grep -o 'Read-only file system'; done";
    assert_eq!(
        engine.run(&[], &["sh", "-c", script]),
        "Read-only file system\nRead-only file system\nRead-only file system"
    );
}

#[test]
fn privileged_lifts_masks_and_read_only_mounts() {
    let engine = Engine::start();
    if engine.is_reference() {
        return; // runc refuses where the machine itself lacks a capability
    }
    let script = "grep -c ' /proc/kcore ' /proc/mounts; grep -E ' /sys ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1; ls /dev | grep -c .";
    let out = engine.run(&["--privileged"], &["sh", "-c", script]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["0", "rw"]);
    let plain: u32 = engine
        .run(&[], &["sh", "-c", "ls /dev | grep -c ."])
        .parse()
        .expect("a count");
    assert!(
        lines[2].parse::<u32>().expect("a count") > plain,
        "the host's devices are there: {out}"
    );
}

#[test]
fn mounts_are_dockers_in_order_and_options() {
    let engine = Engine::start();
    let table = engine.run(&[], &["cat", "/proc/mounts"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split(' ').collect()).collect();
    let find = |point: &str| {
        rows.iter()
            .find(|r| r[1] == point)
            .unwrap_or_else(|| panic!("{point} in {table}"))
    };
    assert_eq!(find("/")[2], "overlay");
    assert_eq!(
        find("/proc")[2..4],
        ["proc", "rw,nosuid,nodev,noexec,relatime"]
    );
    assert_eq!(
        find("/dev")[2..4],
        ["tmpfs", "rw,nosuid,size=65536k,mode=755"]
    );
    assert_eq!(
        find("/dev/pts")[2..4],
        [
            "devpts",
            "rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666"
        ]
    );
    assert_eq!(
        find("/sys")[2..4],
        ["sysfs", "ro,nosuid,nodev,noexec,relatime"]
    );
    assert_eq!(
        find("/dev/mqueue")[2..4],
        ["mqueue", "rw,nosuid,nodev,noexec,relatime"]
    );
    assert_eq!(
        find("/dev/shm")[2..4],
        ["tmpfs", "rw,nosuid,nodev,noexec,relatime,size=65536k"]
    );
    for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        find(file);
    }
    let order: Vec<&str> = rows
        .iter()
        .map(|r| r[1])
        .filter(|p| {
            [
                "/",
                "/proc",
                "/dev",
                "/dev/pts",
                "/sys",
                "/dev/mqueue",
                "/dev/shm",
            ]
            .contains(p)
        })
        .collect();
    assert_eq!(
        order,
        [
            "/",
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/dev/mqueue",
            "/dev/shm"
        ]
    );
}

#[test]
fn cgroups_are_visible_read_only() {
    let engine = Engine::start();
    let out = engine.run(&[], &["sh", "-c", "grep -c cgroup /proc/mounts; mkdir /sys/fs/cgroup/memory/x 2>&1 || mkdir /sys/fs/cgroup/x 2>&1; true"]);
    assert_ne!(out.lines().next(), Some("0"), "{out}");
    assert!(out.contains("Read-only file system"), "{out}");
}

#[test]
fn dev_has_dockers_devices_and_links() {
    let engine = Engine::start();
    let list = engine.run(
        &[],
        &[
            "sh",
            "-c",
            "ls -l /dev | sed 1d | sed 's/ \\{1,\\}/ /g' | cut -d' ' -f1,3,4,9-",
        ],
    );
    let mut names: Vec<&str> = list.lines().collect();
    names.sort_unstable();
    let mut expected = vec![
        "crw-rw-rw- root root full",
        "crw-rw-rw- root root null",
        "crw-rw-rw- root root random",
        "crw-rw-rw- root root tty",
        "crw-rw-rw- root root urandom",
        "crw-rw-rw- root root zero",
    ];
    expected.sort_unstable();
    for one in &expected {
        assert!(
            list.contains(one.rsplit(' ').next().expect("a name")),
            "{one} in {list}"
        );
    }
    for link in [
        "fd -> /proc/self/fd",
        "stdin -> /proc/self/fd/0",
        "stdout -> /proc/self/fd/1",
        "stderr -> /proc/self/fd/2",
        "ptmx -> pts/ptmx",
    ] {
        assert!(list.contains(link), "{link} in {list}");
    }
    for dir in ["mqueue", "pts", "shm"] {
        assert!(names.iter().any(|n| n.ends_with(dir)), "{dir} in {list}");
    }
}

#[test]
fn devices_outside_the_list_are_refused() {
    let engine = Engine::start();
    let script = "mknod /tmp/k c 1 2 && cat /tmp/k >/dev/null 2>&1 || echo refused";
    assert_eq!(engine.run(&[], &["sh", "-c", script]), "refused");
}

#[test]
fn a_device_can_be_given() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(
            &["--device", "/dev/kmsg:/dev/given:r"],
            &["sh", "-c", "test -c /dev/given && echo there"]
        ),
        "there"
    );
}

#[test]
fn the_hosts_files_cannot_be_reached_through_proc() {
    let engine = Engine::start();
    assert_eq!(engine.run(&[], &["sh", "-c", "ls /proc/1/root/work /proc/self/root/boot 2>/dev/null; ls -d /proc/1/root/bin/busybox"]), "/proc/1/root/bin/busybox");
}

#[test]
fn no_descriptors_of_the_engine_leak_into_a_container() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(&[], &["sh", "-c", "ls /proc/1/fd"]),
        "0\n1\n2\n3",
        "0 to 2 and the directory ls itself reads"
    );
    engine.run_detached(&["--name", "xx"], &["sleep", "1000"]);
    assert_eq!(
        engine.docker_ok(&["exec", "xx", "ls", "/proc/1/fd"]),
        "0\n1\n2"
    );
}

#[test]
fn the_hosts_pid_namespace_can_be_shared() {
    let engine = Engine::start();
    let inside = engine.run(&["--pid", "host"], &["readlink", "/proc/self/ns/pid"]);
    assert_eq!(
        std::fs::read_link("/proc/self/ns/pid")
            .expect("ours")
            .to_str(),
        Some(inside.as_str())
    );
}

#[test]
fn shm_size_is_applied() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(
            &["--shm-size", "16m"],
            &[
                "sh",
                "-c",
                "df -k /dev/shm | tail -1 | sed 's/ \\{1,\\}/ /g' | cut -d' ' -f2"
            ]
        ),
        "16384"
    );
}

#[test]
fn oom_score_is_the_default_and_can_be_set() {
    let engine = Engine::start();
    assert_eq!(engine.run(&[], &["cat", "/proc/self/oom_score_adj"]), "0");
    assert_eq!(
        engine.run(
            &["--oom-score-adj", "300"],
            &["cat", "/proc/self/oom_score_adj"]
        ),
        "300"
    );
}
