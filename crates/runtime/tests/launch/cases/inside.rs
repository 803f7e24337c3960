//! The world as the program sees it.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use serde_json::json;
use wharf_runtime::launch::{LaunchStdio, launch};
use wharf_runtime::plan::{SeccompPolicy, UserSpec};

use super::sh;
use crate::bed::{Bed, pipes, wait};

pub fn it_has_its_own_names() {
    let mut bed = Bed::new(&[]);
    bed.spec["domainname"] = json!("example.test");
    let seen = sh(
        &mut bed,
        "hostname; cat /proc/sys/kernel/domainname; echo $$; echo /proc/[0-9]*; pwd",
    );
    assert_eq!(seen, "testhost\nexample.test\n1\n/proc/1\n/");
}

pub fn dev_is_dockers() {
    let mut bed = Bed::new(&[]);
    let seen = sh(
        &mut bed,
        "cd /dev; for f in *; do stat -c '%n %F %a %t:%T %N' $f; done",
    );
    let expected = "\
fd symbolic link 777 0:0 'fd' -> '/proc/self/fd'
full character special file 666 1:7 full
mqueue directory 1777 0:0 mqueue
null character special file 666 1:3 null
ptmx symbolic link 777 0:0 'ptmx' -> 'pts/ptmx'
pts directory 755 0:0 pts
random character special file 666 1:8 random
shm directory 1777 0:0 shm
stderr symbolic link 777 0:0 'stderr' -> '/proc/self/fd/2'
stdin symbolic link 777 0:0 'stdin' -> '/proc/self/fd/0'
stdout symbolic link 777 0:0 'stdout' -> '/proc/self/fd/1'
tty character special file 666 5:0 tty
urandom character special file 666 1:9 urandom
zero character special file 666 1:5 zero";
    let without_core: Vec<&str> = seen.lines().filter(|l| !l.starts_with("core ")).collect();
    assert_eq!(without_core.join("\n"), expected);
}

pub fn capabilities_are_those_planned() {
    let mut bed = Bed::new(&[]);
    let show = "grep ^Cap /proc/self/status | cut -f2 | while read c; do echo -n \"$c \"; done";
    let (default, none) = ("00000000a80425fb", "0000000000000000");
    assert_eq!(
        sh(&mut bed, show),
        format!("{none} {default} {default} {default} {none}")
    );
    // A user who is not root loses all but the bounding set at execve.
    bed.extra.user = Some(UserSpec {
        user: "worker".into(),
        additional_groups: vec![],
    });
    assert_eq!(
        sh(&mut bed, show),
        format!("{none} {none} {none} {default} {none}")
    );
    // But keeps ambient ones.
    let one = "0000000000000400";
    for set in ["inheritable", "ambient"] {
        bed.spec["process"]["capabilities"][set] = json!(["CAP_NET_BIND_SERVICE"]);
    }
    assert_eq!(
        sh(&mut bed, show),
        format!("{one} {one} {one} {default} {one}")
    );
}

pub fn the_filter_is_in_force() {
    let mut bed = Bed::new(&[]);
    assert_eq!(
        sh(&mut bed, "grep ^Seccomp: /proc/self/status"),
        "Seccomp:\t2"
    );
    let refused = "unshare -m true 2>/dev/null || echo refused; mkdir /x; mount -t tmpfs x /x 2>/dev/null || echo refused";
    assert_eq!(sh(&mut bed, refused), "refused\nrefused");
    bed.extra.seccomp = SeccompPolicy::Unconfined;
    assert_eq!(
        sh(&mut bed, "grep ^Seccomp: /proc/self/status"),
        "Seccomp:\t0"
    );
    let denies_mkdir = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],
        "action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#;
    bed.extra.seccomp = SeccompPolicy::Profile(denies_mkdir.into());
    bed.spec["process"]["args"] = json!(["mkdir", "/y"]);
    assert_eq!(
        bed.run().stderr,
        "mkdir: can't create directory '/y': Operation not supported\n"
    );
}

pub fn no_new_privs_is_set() {
    let mut bed = Bed::new(&[]);
    let show = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
    assert_eq!(sh(&mut bed, show), "NoNewPrivs:\t0\nSeccomp:\t2");
    bed.spec["process"]["noNewPrivileges"] = json!(true);
    assert_eq!(sh(&mut bed, show), "NoNewPrivs:\t1\nSeccomp:\t2");
}

pub fn users_are_resolved_in_the_image() {
    let mut bed = Bed::new(&[]);
    let show = "id; echo $HOME; touch /tmp/f && stat -c %u:%g /tmp/f; echo hi > /dev/stdout";
    for (user, groups, expected) in [
        (
            "",
            &[][..],
            "uid=0(root) gid=0(root) groups=0(root)\n/root\n0:0\nhi",
        ),
        (
            "worker",
            &[],
            "uid=1000(worker) gid=1000(worker) groups=1000(worker),2000(extra)\n/home/worker\n1000:1000\nhi",
        ),
        (
            "1000:extra",
            &["77"],
            "uid=1000(worker) gid=2000(extra) groups=77,2000(extra)\n/home/worker\n1000:2000\nhi",
        ),
        (
            "4242",
            &[],
            "uid=4242 gid=0(root) groups=0(root)\n/\n4242:0\nhi",
        ),
    ] {
        let additional_groups = groups.iter().map(|g: &&str| (*g).to_string()).collect();
        bed.extra.user = Some(UserSpec {
            user: user.into(),
            additional_groups,
        });
        assert_eq!(sh(&mut bed, show), expected);
        std::fs::remove_file(bed.dir.join("upper/tmp/f")).expect("made by the script");
    }
}

pub fn limits_mask_and_score_are_set() {
    let mut bed = Bed::new(&[]);
    bed.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    bed.spec["process"]["oomScoreAdj"] = json!(321);
    let seen = sh(
        &mut bed,
        "ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj",
    );
    assert_eq!(seen, "100\n200\n0022\n321");
}

pub fn sysctls_are_the_containers() {
    let mut bed = Bed::new(&[]);
    bed.spec["linux"]["sysctl"] =
        json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"});
    let seen = sh(
        &mut bed,
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced",
    );
    assert_eq!(seen, "1\n1");
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/shm_rmid_forced")
            .expect("readable")
            .trim(),
        "0"
    );
}

pub fn loopback_is_up() {
    let mut bed = Bed::new(&[]);
    let seen = sh(
        &mut bed,
        "grep -c . /proc/net/dev; cat /sys/class/net/lo/flags",
    );
    assert_eq!(seen, "3\n0x9");
}

/// Open in the launching process, and not even close-on-exec.
pub fn no_descriptor_leaks_in() {
    let mut bed = Bed::new(&[]);
    let root = std::fs::File::open("/").expect("open");
    rustix::io::fcntl_setfd(&root, rustix::io::FdFlags::empty()).expect("inheritable");
    let high = rustix::io::fcntl_dupfd_cloexec(&root, 700).expect("dup");
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).expect("inheritable");
    assert!(root.as_raw_fd() > 2);
    assert_eq!(
        sh(
            &mut bed,
            "for f in 0 1 2 3 4 5 6 700; do [ -e /proc/1/fd/$f ] && echo $f; done"
        ),
        "0\n1\n2"
    );
}

pub fn a_terminal_is_the_containers_own() {
    let mut bed = Bed::new(&[]);
    bed.spec["process"]["args"] = json!([
        "sh",
        "-c",
        "tty; stty size; stat -c %t:%T /dev/console; echo > /dev/tty; read x; echo got $x"
    ]);
    let launched = bed
        .start(LaunchStdio::Tty { rows: 33, cols: 99 })
        .expect("launched");
    let mut console = std::fs::File::from(
        launched
            .console
            .as_ref()
            .expect("a terminal")
            .try_clone()
            .expect("dup"),
    );
    console.write_all(b"word\n").expect("writable");
    let mut seen = Vec::new();
    // The last slave closing ends a terminal with EIO.
    let _ = console.read_to_end(&mut seen);
    assert_eq!(wait(launched.pid), 0);
    let seen = String::from_utf8(seen).expect("text").replace("\r\n", "\n");
    let lines: Vec<&str> = seen
        .lines()
        .filter(|l| !l.is_empty() && *l != "word")
        .collect();
    assert_eq!(lines, ["/dev/pts/0", "33 99", "88:0", "got word"]);
}

pub fn init_reaps_and_forwards() {
    let mut bed = Bed::new(&[]);
    bed.extra.init = true;
    let script = "trap 'echo term; exit 5' TERM; cat /proc/1/comm; tr '\\0' ' ' < /proc/1/cmdline | cut -c1-26; \
                  (sh -c 'true & true' ) ; echo ready; while true; do sleep 0.02; done";
    bed.spec["process"]["args"] = json!(["sh", "-c", script]);
    let (stdio, mut streams) = pipes();
    let launched = bed.start(stdio).expect("launched");
    assert_eq!(
        streams.read_until("ready\n"),
        "docker-init\n/sbin/docker-init -- sh -c\nready\n"
    );
    rustix::process::pidfd_send_signal(&launched.pidfd, rustix::process::Signal::TERM)
        .expect("alive");
    let output = streams.finish(&launched);
    assert_eq!((output.stdout.as_str(), output.code), ("term\n", 5));
    bed.plan().cgroup.path.remove().expect("removed");
}

pub fn namespaces_can_be_joined_by_path() {
    let mut first = Bed::new(&[]);
    let init = first.start_sleeping();
    let mut second = Bed::new(&[]);
    let links = "for n in ipc net uts pid; do readlink /proc/self/ns/$n; done";
    let path = |n: &str| format!("/proc/{}/ns/{n}", init.pid);
    second.spec["linux"]["namespaces"] = json!([
        {"type": "mount"}, {"type": "cgroup"},
        {"type": "ipc", "path": path("ipc")}, {"type": "network", "path": path("net")},
        {"type": "uts", "path": path("uts")}, {"type": "pid", "path": path("pid")}
    ]);
    second.spec["hostname"] = json!("");
    let theirs: Vec<String> = ["ipc", "net", "uts", "pid"]
        .iter()
        .map(|n| {
            std::fs::read_link(path(n))
                .expect("alive")
                .display()
                .to_string()
        })
        .collect();
    assert_eq!(sh(&mut second, links), theirs.join("\n"));
    // And the launching process is where it was.
    let own = |p: &str| std::fs::read_link(p).expect("own namespace");
    assert_eq!(
        own("/proc/self/ns/pid_for_children"),
        own("/proc/self/ns/pid")
    );
    first.stop(&init);
    // A prepared network namespace arrives by descriptor.
    let third = Bed::new(&["readlink", "/proc/self/ns/net"]);
    let host = std::fs::File::open("/proc/self/ns/net").expect("own namespace");
    let (stdio, streams) = pipes();
    let launched = launch(&third.plan(), stdio, Some(host.into())).expect("launched");
    assert_eq!(
        streams.finish(&launched).stdout.trim(),
        own("/proc/self/ns/net").display().to_string()
    );
}
