//! What cannot be built, and builds that end early: a clear word, and nothing left.

use std::path::Path;
use std::process::Command;

use wharf_e2e::Engine;
use wharf_e2e::archive::TarFile;
use wharf_e2e::deadline::{LONG, wait_until};

use super::{directory, wharf_build, wharf_build_fails};

/// The error of a build over the API, whichever way it comes.
fn error_of(engine: &Engine, context: &[u8]) -> String {
    let answer = engine
        .api()
        .post_bytes("/build?rm=1", "application/x-tar", context);
    if answer.status() != 200 {
        return answer.message();
    }
    let lines = answer.text();
    let error = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|line| line["error"].as_str().map(str::to_owned));
    error.unwrap_or_else(|| panic!("no error: {lines}"))
}

#[test]
fn errors_say_what_is_wrong() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let rows = [
        (
            "FROM busybox\nCOPY broken /x\n",
            "file not found in build context",
        ),
        (
            "FROM busybox\nCOPY loop /x\n",
            "too many levels of symbolic links",
        ),
        (
            "FROM busybox\nCOPY ../x /x\n",
            "forbidden path outside the build context",
        ),
        (
            "FROM busybox\nCOPY link-out/passwd /x\n",
            "file not found in build context",
        ),
        (
            "FROM busybox\nADD none* /x\n",
            "no source files were specified",
        ),
        (
            "FROM busybox AS a\nCOPY --from=b /x /x\nFROM busybox AS b\nCOPY --from=a /x /x\n",
            "circular dependency detected on stage",
        ),
        (
            "FROM busybox\nWORKDIR /etc/passwd\n",
            "Cannot mkdir: /etc/passwd is not a directory",
        ),
        (
            "FROM busybox\nWORKDIR /etc/passwd/below\n",
            "not a directory",
        ),
        (
            "FROM busybox\nRUN exit 42\n",
            "returned a non-zero code: 42",
        ),
        (
            "FROM busybox\nRUN [\"/none\"]\n",
            "no such file or directory",
        ),
        (
            "FROM busybox\nCOPY --chmod=9 f /x\n",
            "invalid chmod parameter",
        ),
        (
            "FROM busybox\nCOPY --chown=nobody-here f /x\n",
            "no such user",
        ),
        (
            "FROM busybox\nRUN --mount=type=bind,source=none,target=/m true\n",
            "file not found in build context",
        ),
        (
            "FROM busybox\nRUN --mount=type=x true\n",
            "unsupported mount type",
        ),
        (
            "FROM busybox\nADD http://127.0.0.1:1/x /x\n",
            "connection refused",
        ),
        (
            "FROM busybox\nADD http://127.0.0.1:1/x.git /x\n",
            "error fetching",
        ),
        ("FROM 127.0.0.1:1/none\n", "connection refused"),
        ("FROM UPPER:x\n", "must be lowercase"),
        ("RUN true\n", "no build stage in current context"),
        ("FROM busybox\nUNKNOWN x\n", "unknown instruction"),
        ("FROM busybox\nENV\n", "ENV requires at least one argument"),
        ("FROM busybox\nRUN <<E\ntrue\n", "unterminated heredoc"),
        ("FROM --platform=what/is/this/all busybox\n", "platform"),
    ];
    for (file, expected) in rows {
        let context = TarFile::new()
            .file("Dockerfile", file.as_bytes())
            .file("f", b"x")
            .symlink("broken", "nowhere")
            .symlink("loop", "loop")
            .symlink("link-out", "/etc")
            .finish();
        let error = error_of(&engine, &context);
        assert!(error.contains(expected), "{file}: {error}");
    }
    assert!(engine.container_ids().is_empty());
    assert_eq!(engine.mounts(), Vec::<String>::new());
}

#[test]
fn a_full_disk_ends_a_build_and_no_more() {
    let room = std::env::temp_dir().join(format!("wharf-e2e-room-{}", std::process::id()));
    std::fs::create_dir_all(&room).expect("a directory");
    let mount = |words: &[&str]| {
        let done = Command::new("mount")
            .args(words)
            .arg(&room)
            .status()
            .expect("mount runs");
        assert!(done.success());
    };
    mount(&["-t", "tmpfs", "-o", "size=24m", "room"]);
    let engine = Engine::options().data_root(&room.join("data")).start();
    engine.load("busybox.tar");
    let before = engine.docker_ok(&["images", "-aq"]);
    let big = vec![b'x'; 9 << 20];
    let context = |file: &str| {
        TarFile::new()
            .file("Dockerfile", file.as_bytes())
            .file("big", &big)
            .finish()
    };
    let too_much = [
        "FROM busybox\nCOPY big /one\nCOPY big /two\nCOPY big /three\n",
        "FROM busybox\nRUN dd if=/dev/zero of=/x bs=1048576 count=30\n",
    ];
    for file in too_much {
        let error = error_of(&engine, &context(file));
        let said = error.contains("no space left on device") || error.contains("non-zero code: 1");
        assert!(said, "{error}");
    }
    let huge = TarFile::new()
        .file("Dockerfile", b"FROM busybox\n")
        .file("huge", &vec![b'x'; 30 << 20])
        .finish();
    let error = error_of(&engine, &huge);
    assert!(error.contains("No space left on device"), "{error}");
    let _ = engine.docker_ok(&["builder", "prune", "-af"]);
    assert_eq!(engine.docker_ok(&["images", "-aq"]), before);
    assert!(engine.container_ids().is_empty());
    // There is room again.
    let good = engine.api().post_bytes(
        "/build",
        "application/x-tar",
        &context("FROM busybox\nCOPY big /one\n"),
    );
    assert!(
        good.text().contains("Successfully built"),
        "{}",
        good.text()
    );
    drop(engine);
    let _ = Command::new("umount").arg("-l").arg(&room).status();
    std::fs::remove_dir_all(&room).expect("it is there");
}

#[test]
fn a_daemon_killed_in_any_step_leaves_nothing() {
    let mut engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let file = "FROM busybox\nCOPY big /big\nRUN --mount=type=cache,target=/c --mount=type=secret,id=s sleep 0.05\nCOPY big /more\nRUN sleep 0.05\n";
    let dir = directory(&engine, "context", &[("Dockerfile", file), ("s", "secret")]);
    std::fs::write(Path::new(&dir).join("big"), vec![b'y'; 8 << 20]).expect("a file");
    let secret = format!("id=s,src={dir}/s");
    for milliseconds in [5, 40, 80, 120, 200] {
        let running = wharf_e2e::cli::Running::start(&mut engine.wharf_command(&[
            "build",
            "--no-cache",
            "--secret",
            &secret,
            &dir,
        ]));
        // Wherever it is by then: every moment must do.
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        engine.kill_daemon();
        let _ = running.wait();
        engine.start_daemon();
        wait_until("nothing of it is left", LONG, || {
            engine.docker_ok(&["ps", "-aq"]).is_empty()
        });
    }
    let check = engine.wharf(&["system", "check"]);
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
    let left: Vec<String> = std::fs::read_dir(engine.exec_root())
        .expect("a directory")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("secret-") || name.starts_with("agent-"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let _ = wharf_build(&engine, &["--secret", &secret, "-t", "whole", &dir]);
}

#[test]
fn a_client_that_is_killed_ends_all_stages() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let stage = |name: &str| format!("FROM busybox AS {name}\nRUN sleep 1000\n");
    let file = format!(
        "{}{}FROM busybox\nCOPY --from=a /etc /a\nCOPY --from=b /etc /b\n",
        stage("a"),
        stage("b")
    );
    let dir = directory(&engine, "context", &[("Dockerfile", &file)]);
    let running = wharf_e2e::cli::Running::start(&mut engine.wharf_command(&["build", &dir]));
    wait_until("both stages run", LONG, || {
        engine.docker_ok(&["ps", "-q"]).lines().count() == 2
    });
    wharf_e2e::engine::kill(running.pid());
    let _ = running.wait();
    wait_until("nothing of them is left", LONG, || {
        engine.docker_ok(&["ps", "-aq"]).is_empty()
    });
    let said = wharf_build_fails(&engine, &["--target", "none", &dir]);
    assert!(
        said.contains("target stage \"none\" could not be found"),
        "{said}"
    );
}
