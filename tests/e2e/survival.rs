//! The daemon may be killed at any moment: no container notices, and the next daemon finds everything.

use std::io::{Read, Write};

use serde_json::json;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind, frames, leftovers};

/// Nothing to compare with: containers of the reference daemon survive it only with `--live-restore`, and lose their output.
fn surviving() -> Option<Engine> {
    (Kind::from_env() == Kind::Wharf).then(Engine::start)
}

#[test]
fn containers_keep_running_and_the_next_daemon_finds_them() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let id = engine.run_detached(&["--name", "ss"], &["sleep", "1000"]);
    let pid = engine.inspect("ss", "{{.State.Pid}}");
    engine.kill_daemon();
    assert!(
        leftovers::state_and_parent(pid.parse().expect("a pid"))
            .is_some_and(|(state, _)| state != 'Z')
    );
    engine.start_daemon();
    assert_eq!(
        engine.inspect("ss", "{{.State.Running}} {{.State.Pid}} {{.Id}}"),
        format!("true {pid} {id}")
    );
    assert_eq!(
        engine.docker_ok(&["exec", "ss", "echo", "reached"]),
        "reached"
    );
    engine.docker_ok(&["stop", "-t", "0", "ss"]);
    assert_eq!(engine.inspect("ss", "{{.State.ExitCode}}"), "137");
}

#[test]
fn another_parent_of_control_groups_does_not_lose_running_containers() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let id = engine.run_detached(&["--name", "ss"], &["sleep", "1000"]);
    engine.kill_daemon();
    let parent = format!("/{}/other", engine.cgroup_parent());
    engine.set_flags(&["--cgroup-parent", &parent]);
    engine.start_daemon();
    engine.docker_ok(&["update", "--memory", "64m", "--memory-swap", "64m", "ss"]);
    let stats = engine
        .api()
        .get(&format!("/containers/{id}/stats?stream=0"));
    assert_eq!(stats.json()["memory_stats"]["limit"], 64 << 20);
    engine.docker_ok(&["pause", "ss"]);
    engine.docker_ok(&["unpause", "ss"]);
    engine.docker_ok(&["exec", "ss", "true"]);
    // A new run is where this daemon puts it.
    engine.docker_ok(&["restart", "-t", "0", "ss"]);
    let pid = engine.inspect("ss", "{{.State.Pid}}");
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a live process");
    assert!(groups.contains(&format!("{parent}/{id}")), "{groups}");
    engine.docker_ok(&["rm", "-f", "ss"]);
    for root in leftovers::cgroup_parents(engine.cgroup_parent()) {
        let _ = std::fs::remove_dir(root.join("other"));
    }
}

#[test]
fn logging_goes_on_without_the_daemon() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let script = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); sleep 0.02; done";
    let id = engine.run_detached(&[], &["sh", "-c", script]);
    engine.kill_daemon();
    let pid_gone = || {
        !engine
            .processes()
            .iter()
            .any(|p| leftovers::describe(*p).contains("sh -c i=0"))
    };
    wait_until("the end of the container", LONG, pid_gone);
    engine.start_daemon();
    engine.wait_inspect(&id, "{{.State.Status}}", "exited");
    let expected: Vec<String> = (0..100).map(|i| format!("line {i}")).collect();
    assert_eq!(engine.docker_ok(&["logs", &id]), expected.join("\n"));
}

/// Kills the daemon, waits until the container has ended and starts another daemon.
fn end_without_daemon(engine: &mut Engine, id: &str) {
    let pid: u32 = engine.inspect(id, "{{.State.Pid}}").parse().expect("a pid");
    engine.kill_daemon();
    wait_until("the end of the container", LONG, || {
        leftovers::state_and_parent(pid).is_none_or(|(state, _)| state == 'Z')
    });
    engine.start_daemon();
}

#[test]
fn exit_codes_of_the_meantime_are_found() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let id = engine.run_detached(&["-i"], &["sh", "-c", "sleep 0.5; exit 23"]);
    end_without_daemon(&mut engine, &id);
    engine.wait_inspect(&id, "{{.State.Status}} {{.State.ExitCode}}", "exited 23");
}

#[test]
fn an_attached_client_goes_on_undisturbed() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let id = engine.create(&json!({
        "Image": BUSYBOX, "Cmd": ["sh", "-c", "while read line; do echo got $line; done; exit 4"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true,
        "AttachStdout": true, "AttachStderr": true, "HostConfig": {"NetworkMode": "none"},
    }));
    let mut hijacked = engine.api().hijack(
        &format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1"),
        None,
    );
    let _ = engine
        .api()
        .post_empty(&format!("/containers/{id}/start"))
        .expect(204);
    let mut talk = |word: &str| {
        hijacked
            .write_all(format!("{word}\n").as_bytes())
            .expect("input");
        let frame = frames::read_frame(&mut hijacked)
            .expect("a readable stream")
            .expect("a frame");
        assert_eq!(
            String::from_utf8_lossy(&frame.data),
            format!("got {word}\n")
        );
    };
    talk("before");
    engine.kill_daemon();
    talk("without");
    engine.start_daemon();
    talk("after");
    hijacked.close_write();
    let mut rest = Vec::new();
    hijacked.read_to_end(&mut rest).expect("the end");
    assert!(rest.is_empty());
    engine.wait_inspect(&id, "{{.State.Status}} {{.State.ExitCode}}", "exited 4");
}

#[test]
fn auto_remove_happens_even_if_the_end_came_in_between() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let id = engine.run_detached(&["--rm"], &["sleep", "0.3"]);
    end_without_daemon(&mut engine, &id);
    wait_until("the removal", LONG, || engine.container_ids().is_empty());
}

#[test]
fn running_containers_keep_their_addresses() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    let address = engine.inspect(&id, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(
        engine.inspect(&id, "{{.NetworkSettings.Networks.bridge.IPAddress}}"),
        address
    );
    let second = engine.run_detached(&[], &["sleep", "1000"]);
    assert_ne!(
        engine.inspect(&second, "{{.NetworkSettings.Networks.bridge.IPAddress}}"),
        address
    );
    assert_eq!(
        engine
            .docker(&["exec", &second, "ping", "-c1", "-W5", &address])
            .code,
        0
    );
}

#[test]
fn a_kill_in_the_middle_of_many_starts_leaves_a_consistent_state() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let starts: Vec<_> = (0..12)
        .map(|i| {
            engine.docker_start(&[
                "run",
                "-d",
                "--name",
                &format!("c{i}"),
                BUSYBOX,
                "sleep",
                "1000",
            ])
        })
        .collect();
    wait_until("some of them to run", LONG, || {
        engine.docker(&["ps", "-q"]).stdout.lines().count() >= 3
    });
    engine.kill_daemon();
    for start in starts {
        let _ = start.finish();
    }
    engine.start_daemon();
    // Whatever state each is in, the engine agrees with the kernel and can remove it: the harness checks that nothing stays.
    for id in engine.container_ids() {
        let state = engine.inspect(&id, "{{.State.Status}} {{.State.Pid}}");
        let (status, pid) = state.split_once(' ').expect("two words");
        let alive = leftovers::state_and_parent(pid.parse().expect("a number")).is_some();
        assert_eq!(status == "running", pid != "0" && alive, "{id}: {state}");
    }
}

#[test]
fn ten_kills_in_a_row_lose_nothing() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let id = engine.run_detached(
        &[],
        &[
            "sh",
            "-c",
            "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done",
        ],
    );
    for _ in 0..10 {
        engine.kill_daemon();
        engine.start_daemon();
        assert_eq!(engine.inspect(&id, "{{.State.Running}}"), "true");
    }
    engine.docker_ok(&["kill", &id]);
    let log = engine.docker_ok(&["logs", &id]);
    let numbers: Vec<u32> = log
        .lines()
        .map(|l| l.parse().expect("whole lines"))
        .collect();
    assert!(
        numbers
            .iter()
            .copied()
            .eq(1..=u32::try_from(numbers.len()).expect("few")),
        "each line once"
    );
}

#[test]
fn after_kill_of_everything_the_next_daemon_tidies_up() {
    let Some(mut engine) = surviving() else {
        return;
    };
    let id = engine.run_detached(&["--name", "cc"], &["sleep", "1000"]);
    engine.run_detached(&["--rm", "--name", "rr"], &["sleep", "1000"]);
    engine.kill_daemon();
    for pid in engine.processes() {
        wharf_e2e::engine::kill(pid);
    }
    wait_until("every process to be gone", LONG, || {
        engine.processes().is_empty()
    });
    engine.start_daemon();
    engine.wait_inspect("cc", "{{.State.Status}}", "exited");
    wait_until("the removal of the other", LONG, || {
        engine.container_ids() == [id.clone()]
    });
    engine.docker_ok(&["start", "cc"]);
    assert_eq!(engine.inspect("cc", "{{.State.Running}}"), "true");
}
