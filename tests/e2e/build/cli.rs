//! `docker build` as users type it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use wharf_e2e::Engine;
use wharf_e2e::deadline::wait_until;

fn context(engine: &Engine, files: &[(&str, &str)]) -> String {
    let dir = engine.dir().join("context");
    std::fs::create_dir_all(&dir).expect("a directory");
    for (name, content) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }
    dir.display().to_string()
}

fn classic(command: &mut Command) -> wharf_e2e::cli::Output {
    wharf_e2e::cli::Running::start(command.env("DOCKER_BUILDKIT", "0")).finish()
}

#[test]
fn the_stock_client_builds_and_names() {
    let engine = Engine::start();
    let dir = context(
        &engine,
        &[
            ("Dockerfile", "FROM busybox\nCOPY a /a\nRUN cat /a\n"),
            ("a", "content\n"),
        ],
    );
    let output = classic(&mut engine.docker_command(&["build", "-t", "one", "-t", "two:3", &dir]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    for line in [
        "Step 3/3 : RUN cat /a\n",
        "content\n",
        "Successfully tagged one:latest\n",
        "Successfully tagged two:3\n",
    ] {
        assert!(output.stdout.contains(line), "{}", output.stdout);
    }
    assert_eq!(
        engine.docker_ok(&["run", "--rm", "--network", "none", "one", "cat", "/a"]),
        "content"
    );
}

#[test]
fn the_dockerfile_may_come_from_standard_input() {
    let engine = Engine::start();
    let id = engine.docker_with_input(&["build", "-q", "-"], b"FROM busybox\nLABEL a=b\n");
    assert_eq!(id.code, 0, "{}", id.stderr);
    assert!(id.stdout.starts_with("sha256:"), "{}", id.stdout);
}

#[test]
fn the_id_is_written_where_asked() {
    let engine = Engine::start();
    let dir = context(&engine, &[("Dockerfile", "FROM busybox\nLABEL a=b\n")]);
    let file = engine.dir().join("id");
    let output = classic(&mut engine.docker_command(&[
        "build",
        "--iidfile",
        &file.display().to_string(),
        &dir,
    ]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    let id = std::fs::read_to_string(file).expect("the file with the ID");
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
}

#[test]
fn a_failing_command_ends_the_client_with_its_code() {
    let engine = Engine::start();
    let dir = context(&engine, &[("Dockerfile", "FROM busybox\nRUN exit 7\n")]);
    let output = classic(&mut engine.docker_command(&["build", "--force-rm", &dir]));
    assert_eq!(output.code, 7, "{}", output.stderr);
    assert!(
        output
            .stderr
            .contains("The command '/bin/sh -c exit 7' returned a non-zero code: 7"),
        "{}",
        output.stderr
    );
    assert_eq!(engine.docker_ok(&["ps", "-aq"]), "");
}

#[test]
fn a_client_that_goes_away_ends_its_build() {
    let engine = Engine::start();
    let dir = context(&engine, &[("Dockerfile", "FROM busybox\nRUN sleep 1000\n")]);
    let running = wharf_e2e::cli::Running::start(
        engine
            .docker_command(&["build", &dir])
            .env("DOCKER_BUILDKIT", "0"),
    );
    wait_until("the command runs", Duration::from_secs(20), || {
        !engine.docker_ok(&["ps", "-q"]).is_empty()
    });
    wharf_e2e::engine::kill(running.pid());
    let _ = running.wait();
    wait_until("nothing of it is left", Duration::from_secs(20), || {
        engine.docker_ok(&["ps", "-aq"]).is_empty()
    });
}

#[test]
fn stages_without_order_run_at_the_same_time() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let slow = "RUN sleep 2\n";
    let file = format!(
        "FROM busybox AS a\n{slow}FROM busybox AS b\n{slow}RUN echo b > /b\nFROM busybox AS c\n{slow}FROM busybox\nCOPY --from=a /etc/passwd /a\n\
         COPY --from=b /b /b\nCOPY --from=c /etc/passwd /c\n"
    );
    let dir = context(&engine, &[("Dockerfile", &file)]);
    let begun = std::time::Instant::now();
    let output = classic(&mut engine.docker_command(&["build", &dir]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_killed_daemon_leaves_nothing_of_a_build() {
    let mut engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let dir = context(
        &engine,
        &[(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=tmpfs,target=/t sleep 1000\n",
        )],
    );
    let running = wharf_e2e::cli::Running::start(
        engine
            .docker_command(&["build", &dir])
            .env("DOCKER_BUILDKIT", "0"),
    );
    wait_until("the command runs", Duration::from_secs(20), || {
        !engine.docker_ok(&["ps", "-q"]).is_empty()
    });
    engine.kill_daemon();
    let _ = running.wait();
    engine.start_daemon();
    wait_until("nothing of it is left", Duration::from_secs(20), || {
        engine.docker_ok(&["ps", "-aq"]).is_empty()
    });
    let trash = engine.data_root().join("trash");
    assert!(is_empty(&trash), "{}", trash.display());
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn caches_of_commands_can_be_pruned() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let file = "FROM busybox\nRUN --mount=type=cache,target=/c dd if=/dev/zero of=/c/big bs=1024 count=1024\n";
    let dir = context(&engine, &[("Dockerfile", file)]);
    let output = classic(&mut engine.docker_command(&["build", &dir]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    let pruned = engine.docker_ok(&["builder", "prune", "-f"]);
    assert!(pruned.contains("Total reclaimed space: 1.0"), "{pruned}");
    assert_eq!(
        engine.docker_ok(&["builder", "prune", "-f"]),
        "Total reclaimed space: 0B"
    );
}
