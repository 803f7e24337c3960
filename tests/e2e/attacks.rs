//! Ways out of a container that once worked somewhere. Each test tries the attack and looks at the host.

use std::path::Path;

use wharf_e2e::Engine;
use wharf_e2e::archive::{Image, TarFile, sha256};
use wharf_e2e::images::BUSYBOX;

/// A file of the host's root only: what reads it from inside is out.
fn marker(engine: &Engine) -> std::path::PathBuf {
    let path = engine.dir().join("host-only");
    std::fs::write(&path, "the host's").expect("written");
    path
}

/// An image of busybox with more or other entries in a layer on top.
fn load_with(engine: &Engine, tag: &str, change: impl FnOnce(TarFile) -> TarFile) {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static");
    let base = TarFile::new()
        .dir("bin")
        .dir("etc")
        .dir("tmp")
        .file_mode("bin/busybox", 0o755, &busybox)
        .symlink("bin/sh", "busybox")
        .symlink("bin/cat", "busybox")
        .symlink("bin/ls", "busybox")
        .symlink("bin/sleep", "busybox");
    let image = Image::new(tag, vec![change(base).finish()]);
    engine.load_bytes(&image.docker_archive());
}

/// CVE-2019-5736: a process that enters the container runs the engine's program; through its `/proc/<pid>/exe` the program on the
/// host could be overwritten.
#[test]
fn the_engines_program_cannot_be_overwritten_through_proc() {
    let engine = Engine::start();
    let program = wharf_e2e::engine::wharf_program();
    let before = sha256(&std::fs::read(&program).expect("the program"));
    let attack = "while :; do for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in */busybox|'') ;; *) echo $p $(readlink $p/exe) >>/tmp/seen; (echo owned >$p/exe) 2>/dev/null && echo $p >>/tmp/written;; esac
        done; done";
    engine.run_detached(&["--name", "box"], &["sh", "-c", attack]);
    engine.docker_ok(&[
        "exec",
        "box",
        "sh",
        "-c",
        "echo '#!/proc/self/exe' >/evil; chmod +x /evil",
    ]);
    for _ in 0..20 {
        // The script's interpreter is whatever program executes it.
        let _ = engine.docker(&["exec", "box", "/evil"]);
        engine.docker_ok(&["exec", "box", "true"]);
    }
    let written = engine.docker_ok(&[
        "exec",
        "box",
        "sh",
        "-c",
        "cat /tmp/written 2>/dev/null; true",
    ]);
    assert_eq!(written, "");
    assert_eq!(
        sha256(&std::fs::read(&program).expect("the program")),
        before
    );
}

/// CVE-2016-9962: a process on its way into the container holds descriptors and memory of the host.
#[test]
fn processes_on_their_way_in_cannot_be_looked_into() {
    let engine = Engine::start();
    let attack = "while :; do for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in */busybox) ;; *) for f in $p/fd/* $p/cwd $p/root; do l=$(readlink $f) && echo $f $l >>/tmp/seen; done; head -c 1 $p/mem >>/tmp/mem 2>/dev/null;; esac
        done; done 2>/dev/null";
    engine.run_detached(&["--name", "box"], &["sh", "-c", attack]);
    for _ in 0..20 {
        engine.docker_ok(&["exec", "box", "true"]);
    }
    // A process may have become busybox between the two looks: then these are the container's own files.
    let seen = engine.docker_ok(&["exec", "box", "sh", "-c", "cat /tmp/seen 2>/dev/null; true"]);
    let foreign: Vec<&str> = seen
        .lines()
        .filter(|line| {
            let target = line.split(' ').nth(1).unwrap_or_default();
            !target.starts_with("pipe:")
                && !matches!(target, "/" | "/dev/null")
                && !target.is_empty()
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// CVE-2024-21626: a working directory that is a descriptor leaked by the engine leads to the host.
#[test]
fn no_working_directory_leads_to_the_host() {
    let engine = Engine::start();
    let marker = marker(&engine);
    let look = format!("cat ../../../../../../../..{}", marker.display());
    engine.run_detached(&["--name", "box"], &["sleep", "1000"]);
    for number in 3..16 {
        let cwd = format!("/proc/self/fd/{number}");
        for args in [
            vec!["run", "--rm", "--workdir", &cwd, BUSYBOX, "sh", "-c", &look],
            vec!["exec", "--workdir", &cwd, "box", "sh", "-c", &look],
        ] {
            let output = engine.docker(&args);
            assert_ne!(output.code, 0, "{args:?}: {output:?}");
            assert!(!output.stdout.contains("the host's"), "{args:?}");
        }
    }
}

/// The same by links that the image, or a running container, puts where the directory is expected.
#[test]
fn links_in_working_directories_stay_inside() {
    let engine = Engine::start();
    let marker = marker(&engine);
    let look = format!("cat ../../../../../../../..{}", marker.display());
    engine.run_detached(&["--name", "box"], &["sleep", "1000"]);
    for target in [
        "/proc/1/cwd",
        "/proc/1/root",
        "/proc/self/fd/5",
        "../../../../../../..",
    ] {
        engine.docker_ok(&["exec", "box", "ln", "-sfn", target, "/link"]);
        let output = engine.docker(&["exec", "--workdir", "/link", "box", "sh", "-c", &look]);
        assert!(
            !output.stdout.contains("the host's"),
            "{target}: {output:?}"
        );
    }
}

/// Mount points that are links must be found inside the root, whatever they point to.
#[test]
fn mount_points_that_are_links_stay_inside() {
    let engine = Engine::start();
    let victim = engine.dir().join("victim");
    std::fs::create_dir(&victim).expect("made");
    let up = format!("../../../../../../../..{}", victim.display());
    load_with(&engine, "links:latest", |layer| {
        layer
            .symlink("absolute", victim.to_str().expect("text"))
            .symlink("relative", &up)
    });
    for link in ["/absolute", "/relative"] {
        let volume = format!("vol:{link}/made");
        let file = format!("/etc/hostname:{link}/file");
        let out = engine.docker_ok(&[
            "run",
            "--rm",
            "-v",
            &volume,
            "-v",
            &file,
            "links:latest",
            "/bin/ls",
            link,
        ]);
        assert_eq!(out, "file\nmade");
        assert_eq!(
            std::fs::read_dir(&victim).expect("there").count(),
            0,
            "{link}"
        );
    }
}

/// CVE-2021-30465: a container exchanges a directory for a link while another one's mount point is looked up in the same volume.
#[test]
fn mount_points_cannot_be_exchanged_under_way() {
    let engine = Engine::start();
    let victim = engine.dir().join("victim");
    std::fs::create_dir(&victim).expect("made");
    let swap = format!(
        "mkdir -p /v/dir; ln -sfn ../../../../../../../..{} /v/link; while :; do mv /v/dir /v/x; mv /v/link /v/dir; mv /v/dir /v/link; mv /v/x /v/dir; done",
        victim.display()
    );
    engine.run_detached(&["-v", "shared:/v"], &["sh", "-c", &swap]);
    for _ in 0..10 {
        // May fail when the directory is away for a moment; must never touch the host.
        let _ = engine.docker(&[
            "run",
            "--rm",
            "-v",
            "shared:/v",
            "-v",
            "inner:/v/dir/made",
            BUSYBOX,
            "true",
        ]);
    }
    assert_eq!(std::fs::read_dir(&victim).expect("there").count(), 0);
}

/// Switches of the host's kernel that a container's root could turn if the file were writable.
#[test]
fn the_kernels_switches_are_out_of_reach() {
    let engine = Engine::start();
    let files = "/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hotplug \
        /proc/sys/vm/panic_on_oom /proc/sys/fs/binfmt_misc/register /proc/irq/default_smp_affinity /proc/bus/pci \
        /sys/kernel/uevent_helper /sys/kernel/vmcoreinfo /sys/power/state /sys/module/kernel/parameters/panic \
        /sys/class/net/lo/mtu /sys/fs/cgroup/memory/release_agent";
    let script = format!(
        "for f in {files}; do (echo 1 >$f) 2>/dev/null && echo written: $f; done; head -c 1 /proc/kcore | wc -c"
    );
    assert_eq!(engine.run(&[], &["sh", "-c", &script]), "0");
    // Masks must not come off either.
    let off =
        "umount /proc/kcore 2>/dev/null || mount -o remount,rw /proc/sys 2>/dev/null || echo kept";
    assert_eq!(engine.run(&[], &["sh", "-c", off]), "kept");
}

/// CVE-2025-31133, CVE-2025-52565: masks and the console are mounted from what lies at `/dev/null` and `/dev/pts/0`; with a `/dev` of
/// the attacker's own these are links to a file of procfs, which would become writable.
#[test]
fn a_false_null_device_is_not_used_for_masks() {
    let engine = Engine::start();
    let dev = engine.dir().join("dev");
    std::fs::create_dir_all(dev.join("pts")).expect("made");
    for name in ["null", "console", "pts/0", "ptmx"] {
        std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", dev.join(name)).expect("link");
    }
    let bind = format!("{}:/dev", dev.display());
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("there");
    for tty in ["-i", "-t"] {
        let attack = "for f in /dev/console /proc/kcore /proc/sys/kernel/core_pattern; do (echo '|/owned' >$f) 2>/dev/null; done";
        let _ = engine.docker(&["run", "--rm", tty, "-v", &bind, BUSYBOX, "sh", "-c", attack]);
        let now = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("there");
        assert_eq!(now, before, "{tty}");
    }
}

/// CVE-2019-16884, CVE-2019-19921: procfs mounted where the image's link points, so that what is written "to /proc" goes elsewhere.
#[test]
fn proc_and_sys_that_are_links_are_not_followed() {
    let engine = Engine::start();
    for name in ["proc", "sys"] {
        let tag = format!("false-{name}:latest");
        load_with(&engine, &tag, |layer| layer.symlink(name, "/tmp"));
        let output = engine.docker(&["run", "--rm", &tag, "/bin/cat", "/proc/mounts"]);
        // Either refused, or a real directory in the link's place.
        let there = format!(" /{name} ");
        assert!(
            output.code != 0 || output.stdout.contains(&there),
            "{output:?}"
        );
        assert!(!output.stdout.contains(" /tmp "), "{output:?}");
    }
}

/// CVE-2025-52881: a false `/proc` in which the engine would write labels and parameters.
#[test]
fn nothing_can_be_mounted_over_proc() {
    let engine = Engine::start();
    let dir = engine.dir().join("false-proc");
    std::fs::create_dir_all(dir.join("self/attr")).expect("made");
    let dir = dir.display();
    for target in [
        "/proc",
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/bin/../proc/1",
    ] {
        let bind = format!("{dir}:{target}");
        let output = engine.docker(&["run", "--rm", "-v", &bind, BUSYBOX, "true"]);
        assert_ne!(output.code, 0, "{target}: {output:?}");
    }
    // Where lxcfs and its like mount is not dangerous.
    let file = Path::new("/etc/hostname:/proc/uptime:ro");
    engine.docker_ok(&[
        "run",
        "--rm",
        "-v",
        file.to_str().expect("text"),
        BUSYBOX,
        "true",
    ]);
}

/// CVE-2022-0492: the kernel runs a v1 hierarchy's `release_agent` as the host's root.
#[test]
fn no_release_agent_can_be_set() {
    let engine = Engine::start();
    let by_mount = "mkdir /tmp/c; for o in memory cpu pids none,name=x; do mount -t cgroup -o $o x /tmp/c 2>/dev/null && echo mounted; done; true";
    assert_eq!(engine.run(&[], &["sh", "-c", by_mount]), "");
    let by_namespace = "unshare -UrmC sh -c 'mkdir /tmp/c; for o in memory cpu pids none,name=x; do mount -t cgroup -o $o x /tmp/c 2>/dev/null && (echo /owned >/tmp/c/release_agent) 2>/dev/null && echo set; done' 2>/dev/null; true";
    for flags in [&[][..], &["--security-opt", "seccomp=unconfined"]] {
        assert_eq!(engine.run(flags, &["sh", "-c", by_namespace]), "");
    }
}

/// The host's environment and keys are not the container's.
#[test]
fn nothing_of_the_engines_environment_is_inside() {
    let engine = Engine::options().env("ENGINES_SECRET", "x").start();
    engine.load_bytes(&wharf_e2e::images::archive("busybox.tar"));
    let look = "cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n' | grep -c SECRET; cat /proc/keys | wc -c";
    assert_eq!(engine.run(&[], &["sh", "-c", look]), "0\n0");
}
