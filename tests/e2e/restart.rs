//! Restart policies, and stopping what has no use for the stop signal.

use std::time::{Duration, Instant};

use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind};

#[test]
fn on_failure_gives_up_after_its_count() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--restart", "on-failure:2"], &["sh", "-c", "exit 3"]);
    engine.wait_inspect(
        &id,
        "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}",
        "exited 2 3",
    );
    let good = engine.run_detached(&["--restart", "on-failure"], &["true"]);
    engine.wait_inspect(&good, "{{.State.Status}} {{.RestartCount}}", "exited 0");
}

#[test]
fn the_waits_between_restarts_grow() {
    let engine = Engine::start();
    let started = Instant::now();
    let id = engine.run_detached(&["--restart", "on-failure:4"], &["false"]);
    engine.wait_inspect(&id, "{{.State.Status}} {{.RestartCount}}", "exited 4");
    // 100 + 200 + 400 + 800 ms.
    assert!(started.elapsed() >= Duration::from_millis(1500));
}

#[test]
fn a_signal_that_is_meant_to_end_it_ends_the_policy() {
    let engine = Engine::start();
    for signal in ["KILL", "TERM"] {
        let id = engine.run_detached(
            &["--restart", "always"],
            &[
                "sh",
                "-c",
                "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done",
            ],
        );
        wait_until("the trap to be set", LONG, || {
            engine.docker_ok(&["logs", &id]).contains("ready")
        });
        engine.docker_ok(&["kill", "-s", signal, &id]);
        engine.wait_inspect(&id, "{{.State.Status}} {{.RestartCount}}", "exited 0");
    }
}

#[test]
fn another_signal_leaves_the_policy_alone() {
    let engine = Engine::start();
    let script = "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done";
    let id = engine.run_detached(
        &["--restart", "always", "--stop-signal", "INT"],
        &["sh", "-c", script],
    );
    wait_until("the trap to be set", LONG, || {
        engine.docker_ok(&["logs", &id]).contains("ready")
    });
    engine.docker_ok(&["kill", "-s", "USR1", &id]);
    engine.wait_inspect(&id, "{{.State.Status}} {{.RestartCount}}", "running 1");
}

#[test]
fn a_restart_by_hand_counts_anew() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &["--restart", "always"],
        &[
            "sh",
            "-c",
            "test -f /again && exec sleep 1000; touch /again; exit 1",
        ],
    );
    engine.wait_inspect(&id, "{{.State.Status}} {{.RestartCount}}", "running 1");
    engine.docker_ok(&["restart", "-t", "0", &id]);
    assert_eq!(
        engine.inspect(&id, "{{.State.Status}} {{.RestartCount}}"),
        "running 0"
    );
}

#[test]
fn a_waiting_restart_can_be_stopped_and_removed() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--restart", "always"], &["false"]);
    wait_until("a long wait", LONG, || {
        engine
            .inspect(&id, "{{.RestartCount}}")
            .parse::<u32>()
            .is_ok_and(|n| n >= 3)
    });
    engine.docker_ok(&["stop", &id]);
    assert_eq!(engine.inspect(&id, "{{.State.Status}}"), "exited");
    engine.docker_ok(&["start", &id]);
    engine.docker_ok(&["rm", "-f", &id]);
    assert!(engine.container_ids().is_empty());
}

#[test]
fn after_a_restart_of_the_daemon_policies_decide_who_runs() {
    let mut engine = Engine::start();
    let run = |name: &str, policy: &str| {
        engine.run_detached(&["--name", name, "--restart", policy], &["sleep", "1000"])
    };
    for (name, policy) in [
        ("always-up", "always"),
        ("always-stopped", "always"),
        ("unless-up", "unless-stopped"),
        ("unless-stopped", "unless-stopped"),
        ("failure-up", "on-failure"),
        ("failure-stopped", "on-failure"),
        ("no-up", "no"),
    ] {
        run(name, policy);
        if name.ends_with("-stopped") {
            engine.docker_ok(&["stop", "-t", "0", name]);
        }
    }
    engine.docker_ok(&[
        "create",
        "--name",
        "never",
        "--restart",
        "always",
        BUSYBOX,
        "true",
    ]);
    engine.stop_daemon();
    engine.start_daemon();
    for name in [
        "always-up",
        "always-stopped",
        "unless-up",
        "failure-up",
        "failure-stopped",
    ] {
        engine.wait_inspect(name, "{{.State.Status}}", "running");
    }
    for (name, status) in [
        ("unless-stopped", "exited"),
        ("no-up", "exited"),
        ("never", "created"),
    ] {
        assert_eq!(engine.inspect(name, "{{.State.Status}}"), status, "{name}");
    }
}

#[test]
fn nobody_waits_for_a_process_that_got_no_signal() {
    let engine = Engine::start();
    if engine.kind() == Kind::Reference {
        return;
    }
    for command in [
        &["sleep", "1000"][..],
        &[
            "sh",
            "-c",
            "trap '' TERM; echo ready; while :; do sleep 0.05; done",
        ],
    ] {
        let id = engine.run_detached(&[], command);
        if command.len() > 2 {
            wait_until("the trap to be set", LONG, || {
                engine.docker_ok(&["logs", &id]).contains("ready")
            });
        }
        let started = Instant::now();
        engine.docker_ok(&["stop", &id]);
        assert!(started.elapsed() < Duration::from_secs(5), "{command:?}");
        assert_eq!(engine.inspect(&id, "{{.State.ExitCode}}"), "137");
    }
}

#[test]
fn a_handler_has_its_grace_period() {
    let engine = Engine::start();
    let script = "trap 'sleep 1; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    for flags in [&[][..], &["--init"]] {
        let id = engine.run_detached(flags, &["sh", "-c", script]);
        wait_until("the trap to be set", LONG, || {
            engine.docker_ok(&["logs", &id]).contains("ready")
        });
        engine.docker_ok(&["stop", &id]);
        assert_eq!(engine.inspect(&id, "{{.State.ExitCode}}"), "7");
    }
}
