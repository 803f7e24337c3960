//! Full disks and killed daemons: the store stays clean, and volumes never lose data.

use std::fs;
use std::time::Duration;

use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind, cli::Running};

/// The reference promises none of this.
fn engine() -> Option<Engine> {
    (Kind::from_env() == Kind::Wharf).then(Engine::start)
}

/// Layers on disk, but for the shared init layer and the short names.
fn layers(engine: &Engine) -> usize {
    let entries = fs::read_dir(engine.data_root().join("overlay2")).expect("there");
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| !["l", "init", "new"].contains(&name.as_str()) && !name.ends_with("-init"))
        .count()
}

/// An image with many files.
fn many(engine: &Engine) {
    let script = "mkdir /many; cd /many; i=0; while [ $i -lt 1500 ]; do echo $i >f$i; i=$((i+1)); done; dd if=/dev/zero of=/many/large bs=1M count=40 2>/dev/null";
    engine.docker_ok(&[
        "run",
        "--name",
        "maker",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    engine.docker_ok(&["commit", "maker", "many"]);
}

/// Starts a command and kills the daemon some time into it.
fn killed_after(engine: &mut Engine, args: &[&str], delay: u64) {
    let mut command = engine.docker_command(args);
    let running = Running::start(&mut command);
    // No event marks the middle of the work; each round stops at another point of it.
    std::thread::sleep(Duration::from_millis(delay));
    engine.kill_daemon();
    let _ = running.finish();
    engine.start_daemon();
}

#[test]
fn a_killed_commit_leaves_nothing() {
    let Some(mut engine) = engine() else { return };
    many(&engine);
    let before = layers(&engine);
    for round in 0..6 {
        killed_after(&mut engine, &["commit", "maker", "again"], 20 + round * 25);
        let _ = engine.docker(&["rmi", "-f", "again"]);
        wait_until("the store to be clean", LONG, || layers(&engine) == before);
    }
    engine.docker_ok(&["commit", "maker", "again"]);
    assert_eq!(
        engine.docker_ok(&["run", "--rm", "again", "sh", "-c", "ls /many | wc -l"]),
        "1501"
    );
}

#[test]
fn an_interrupted_copy_up_is_finished_by_the_next_container() {
    let Some(mut engine) = engine() else { return };
    many(&engine);
    for round in 0..6 {
        let volume = format!("filled-{round}");
        let mount = format!("{volume}:/many");
        killed_after(
            &mut engine,
            &["create", "-v", &mount, "many"],
            15 + round * 25,
        );
        let count = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &mount,
            "many",
            "sh",
            "-c",
            "ls -A /many | wc -l; stat -c %s /many/large",
        ];
        assert_eq!(engine.docker_ok(&count), "1501\n41943040", "round {round}");
    }
}

#[test]
fn a_volume_is_removed_whole_or_not_at_all() {
    let Some(mut engine) = engine() else { return };
    many(&engine);
    for round in 0..6 {
        let mount = "doomed:/many";
        engine.docker_ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            mount,
            "many",
            "true",
        ]);
        killed_after(&mut engine, &["volume", "rm", "doomed"], round * 4);
        if engine.docker_ok(&["volume", "ls", "-q", "-f", "name=doomed"]) == "doomed" {
            let count = [
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                "doomed:/d",
                BUSYBOX,
                "sh",
                "-c",
                "ls -A /d | wc -l",
            ];
            assert_eq!(engine.docker_ok(&count), "1501", "round {round}");
            engine.docker_ok(&["volume", "rm", "doomed"]);
        }
    }
}

#[test]
fn a_full_disk_refuses_and_stays_clean() {
    if Kind::from_env() == Kind::Reference {
        return;
    }
    let disk = std::env::temp_dir().join(format!("wharf-e2e-disk-{}", std::process::id()));
    fs::create_dir_all(&disk).expect("created");
    let options = c"size=48m";
    rustix::mount::mount(
        "small",
        &disk,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(options),
    )
    .expect("mounted");
    {
        let engine = Engine::options().data_root(&disk.join("data")).start();
        engine.load("busybox.tar");
        let large = engine.dir().join("large");
        fs::write(&large, vec![1; 64 << 20]).expect("written");
        engine.docker_ok(&["create", "--name", "other", BUSYBOX]);
        engine.docker_ok(&[
            "create",
            "--name",
            "full",
            BUSYBOX,
            "sh",
            "-c",
            "dd if=/dev/zero of=/half bs=1M count=25 2>/dev/null",
        ]);
        let message =
            engine.docker_fails(&["cp", large.to_str().expect("plain"), "full:/large"], 1);
        assert!(message.contains("no space left on device"), "{message}");
        let output = engine.docker(&["cp", "full:/large", "-"]);
        assert_eq!(output.code, 0, "what was written before stays");
        engine.docker_ok(&["rm", "full"]);
        engine.docker_ok(&[
            "run",
            "--name",
            "half",
            "--network",
            "none",
            BUSYBOX,
            "sh",
            "-c",
            "dd if=/dev/urandom of=/half bs=1M count=25 2>/dev/null",
        ]);
        let before = layers(&engine);
        let message = engine.docker_fails(&["commit", "half", "toolarge"], 1);
        assert!(message.contains("no space left on device"), "{message}");
        wait_until("the store to be clean", LONG, || layers(&engine) == before);
        engine.docker_ok(&["rm", "half"]);
        engine.docker_ok(&["commit", "other", "small"]);
    }
    rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    fs::remove_dir_all(&disk).expect("removed");
}
