//! A real distribution instead of a busybox.

use wharf_e2e::Engine;
use wharf_e2e::images::DEBIAN;

fn with_debian() -> Engine {
    let engine = Engine::empty();
    engine.load("debian.tar");
    engine
}

#[test]
fn apt_id_devices_and_mounts_are_as_under_docker() {
    let engine = with_debian();
    let out = engine.docker_ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        DEBIAN,
        "bash",
        "-c",
        "apt-get --version && id && ls -l /dev && mount",
    ]);
    let has = |line: &str| assert!(out.lines().any(|l| l == line), "{line:?} in\n{out}");
    // Not every kernel has every file that is masked.
    let has_if_there = |path: &str, line: &str| {
        if std::path::Path::new(path).exists() {
            has(line);
        }
    };
    assert!(out.starts_with("apt 2.6"), "{out}");
    has("uid=0(root) gid=0(root) groups=0(root)");
    has("proc on /proc type proc (rw,nosuid,nodev,noexec,relatime)");
    has("tmpfs on /dev type tmpfs (rw,nosuid,size=65536k,mode=755)");
    has("devpts on /dev/pts type devpts (rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666)");
    has("sysfs on /sys type sysfs (ro,nosuid,nodev,noexec,relatime)");
    has("mqueue on /dev/mqueue type mqueue (rw,nosuid,nodev,noexec,relatime)");
    has("shm on /dev/shm type tmpfs (rw,nosuid,nodev,noexec,relatime,size=65536k)");
    has("proc on /proc/bus type proc (ro,nosuid,nodev,noexec,relatime)");
    has("proc on /proc/fs type proc (ro,nosuid,nodev,noexec,relatime)");
    has("proc on /proc/irq type proc (ro,nosuid,nodev,noexec,relatime)");
    has("proc on /proc/sys type proc (ro,nosuid,nodev,noexec,relatime)");
    has_if_there(
        "/proc/sysrq-trigger",
        "proc on /proc/sysrq-trigger type proc (ro,nosuid,nodev,noexec,relatime)",
    );
    has_if_there(
        "/proc/kcore",
        "tmpfs on /proc/kcore type tmpfs (rw,nosuid,size=65536k,mode=755)",
    );
    has_if_there(
        "/proc/keys",
        "tmpfs on /proc/keys type tmpfs (rw,nosuid,size=65536k,mode=755)",
    );
    has_if_there(
        "/proc/timer_list",
        "tmpfs on /proc/timer_list type tmpfs (rw,nosuid,size=65536k,mode=755)",
    );
    has_if_there(
        "/sys/firmware",
        "tmpfs on /sys/firmware type tmpfs (ro,relatime)",
    );
    // The kernel lists layers one by one ("lowerdir+=") when they were given so.
    assert!(
        out.lines()
            .any(|l| l.starts_with("overlay on / type overlay (rw,relatime,lowerdir")),
        "{out}"
    );
}

#[test]
fn dpkg_writes_into_the_top_layer() {
    let engine = with_debian();
    let script = "echo 'probe hold' | dpkg --set-selections; useradd -m someone && id someone && su someone -c 'whoami; pwd'";
    let out = engine.docker_ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-w",
        "/",
        DEBIAN,
        "bash",
        "-c",
        script,
    ]);
    assert_eq!(
        out,
        "uid=1000(someone) gid=1000(someone) groups=1000(someone)\nsomeone\n/"
    );
}

#[test]
fn it_survives_save_and_load() {
    let engine = with_debian();
    let id = engine.docker_ok(&["image", "inspect", "-f", "{{.Id}}", DEBIAN]);
    let file = engine.dir().join("debian.tar");
    let path = file.to_str().expect("a plain path");
    engine.docker_ok(&["save", "-o", path, DEBIAN]);
    engine.docker_ok(&["rmi", DEBIAN]);
    assert_eq!(
        engine.docker_ok(&["load", "-q", "-i", path]),
        format!("Loaded image: {DEBIAN}")
    );
    assert_eq!(
        engine.docker_ok(&["image", "inspect", "-f", "{{.Id}}", DEBIAN]),
        id
    );
}
