//! The hijacked stdio stream.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, frames};

fn created(engine: &Engine, tty: bool, command: &[&str]) -> String {
    engine.create(&json!({
        "Image": BUSYBOX, "Cmd": command, "Tty": tty, "OpenStdin": true, "StdinOnce": true, "AttachStdin": true,
        "AttachStdout": true, "AttachStderr": true, "HostConfig": {"NetworkMode": "none"},
    }))
}

fn start(engine: &Engine, id: &str) {
    let _ = engine
        .api()
        .post_empty(&format!("/containers/{id}/start"))
        .expect(204);
}

#[test]
fn upgrade_is_answered_with_101_and_frames_follow() {
    let engine = Engine::start();
    let id = created(&engine, false, &["sh", "-c", "cat; echo done >&2"]);
    let mut hijacked = engine.api().hijack(
        &format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1"),
        None,
    );
    assert_eq!(hijacked.head.status, 101);
    assert_eq!(hijacked.head.header("upgrade"), Some("tcp"));
    start(&engine, &id);
    hijacked.write_all(b"hello").expect("input");
    hijacked.close_write();
    assert_eq!(
        frames::split(&hijacked.read_all()),
        ("hello".to_owned(), "done\n".to_owned())
    );
}

#[test]
fn content_type_tells_whether_frames_come() {
    let engine = Engine::start();
    if engine.is_reference() {
        return; // since API 1.42
    }
    for (tty, expected) in [
        (false, "application/vnd.docker.multiplexed-stream"),
        (true, "application/vnd.docker.raw-stream"),
    ] {
        let id = created(&engine, tty, &["true"]);
        let hijacked = engine.api().hijack(
            &format!("/v1.42/containers/{id}/attach?stream=1&stdout=1"),
            None,
        );
        assert_eq!(hijacked.head.header("content-type"), Some(expected));
        let old = engine.api().hijack(
            &format!("/v1.41/containers/{id}/attach?stream=1&stdout=1"),
            None,
        );
        assert_eq!(
            old.head.header("content-type"),
            Some("application/vnd.docker.raw-stream")
        );
    }
}

#[test]
fn without_upgrade_the_answer_is_200() {
    let engine = Engine::start();
    let id = created(&engine, false, &["echo", "x"]);
    let hijacked = engine.api().hijack_with(
        &format!("/containers/{id}/attach?stream=1&stdout=1"),
        &[],
        None,
    );
    assert_eq!(hijacked.head.status, 200);
    start(&engine, &id);
    assert_eq!(frames::split(&hijacked.read_all()).0, "x\n");
}

#[test]
fn a_tty_stream_is_raw() {
    let engine = Engine::start();
    let id = created(&engine, true, &["echo", "x"]);
    let hijacked = engine
        .api()
        .hijack(&format!("/containers/{id}/attach?stream=1&stdout=1"), None);
    start(&engine, &id);
    assert_eq!(hijacked.read_all(), b"x\r\n");
}

#[test]
fn several_clients_see_the_same() {
    let engine = Engine::start();
    let id = created(&engine, false, &["sh", "-c", "read go; seq 1 1000"]);
    let target = format!("/containers/{id}/attach?stream=1&stdout=1");
    let watchers: Vec<_> = (0..3).map(|_| engine.api().hijack(&target, None)).collect();
    let mut writer = engine
        .api()
        .hijack(&format!("/containers/{id}/attach?stream=1&stdin=1"), None);
    start(&engine, &id);
    writer.write_all(b"go\n").expect("input");
    let expected: String = (1..=1000).map(|i| format!("{i}\n")).collect();
    for watcher in watchers {
        assert_eq!(frames::split(&watcher.read_all()).0, expected);
    }
}

#[test]
fn logs_parameter_replays_what_was_written_before() {
    let engine = Engine::start();
    let id = engine.run_detached(&["-i"], &["sh", "-c", "echo before; read go; echo after"]);
    wait_until("the first line", LONG, || {
        engine.docker_ok(&["logs", &id]).contains("before")
    });
    let mut hijacked = engine.api().hijack(
        &format!("/containers/{id}/attach?logs=1&stream=1&stdin=1&stdout=1"),
        None,
    );
    hijacked.write_all(b"go\n").expect("input");
    assert_eq!(frames::split(&hijacked.read_all()).0, "before\nafter\n");
}

#[test]
fn a_client_that_leaves_does_not_disturb_the_container() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &[],
        &["sh", "-c", "while :; do echo tick; sleep 0.01; done"],
    );
    let mut hijacked = engine
        .api()
        .hijack(&format!("/containers/{id}/attach?stream=1&stdout=1"), None);
    let mut some = [0; 64];
    assert!(hijacked.read(&mut some).expect("output") > 0);
    drop(hijacked);
    let lines = engine.docker_ok(&["logs", &id]).lines().count();
    wait_until("more output", LONG, || {
        engine.docker_ok(&["logs", &id]).lines().count() > lines + 20
    });
}

#[test]
fn a_slow_client_loses_nothing() {
    let engine = Engine::start();
    let id = created(&engine, false, &["sh", "-c", "seq 1 200000"]);
    let hijacked = engine
        .api()
        .hijack(&format!("/containers/{id}/attach?stream=1&stdout=1"), None);
    start(&engine, &id);
    // Nothing is read until the container has had to wait for us or has ended: the log has stopped growing.
    let mut last = 0;
    wait_until("the log to stop growing", LONG, || {
        let lines = engine.docker_ok(&["logs", &id]).lines().count();
        lines > 0 && std::mem::replace(&mut last, lines) == lines
    });
    let text = frames::split(&hijacked.read_all()).0;
    assert_eq!(text.lines().count(), 200_000);
}

#[test]
fn the_cli_refuses_to_attach_to_a_stopped_container() {
    let engine = Engine::start();
    engine.docker_ok(&["run", "--name", "ss", BUSYBOX, "true"]);
    let stderr = engine.docker_fails(&["attach", "ss"], 1);
    assert!(
        stderr
            .to_lowercase()
            .contains("you cannot attach to a stopped container, start it first"),
        "{stderr}"
    );
}

#[test]
fn stdin_stays_open_without_stdin_once() {
    let engine = Engine::start();
    let id = engine.run_detached(&["-i"], &["sh", "-c", "while read l; do echo got $l; done"]);
    for word in ["a", "b"] {
        let mut attached = engine
            .api()
            .hijack(&format!("/containers/{id}/attach?stream=1&stdin=1"), None);
        attached
            .write_all(format!("{word}\n").as_bytes())
            .expect("input");
        attached.close_write();
        wait_until("the echo", LONG, || {
            engine
                .docker_ok(&["logs", &id])
                .ends_with(&format!("got {word}"))
        });
    }
    assert_eq!(engine.inspect(&id, "{{.State.Running}}"), "true");
}

#[test]
fn docker_start_attached_shows_output_and_exit_code() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "create",
        "-i",
        "--name",
        "ss",
        BUSYBOX,
        "sh",
        "-c",
        "cat; exit 8",
    ]);
    let output = engine.docker_with_input(&["start", "-ai", "ss"], b"typed");
    assert_eq!((output.code, output.stdout.as_str()), (8, "typed"));
}

/// A client that attaches while another's start is under way belongs to that run.
#[test]
fn attaching_beside_a_start_joins_that_run() {
    let engine = Engine::start();
    for round in 0..10 {
        let id = engine.create(&json!({
            "Image": BUSYBOX, "Cmd": ["sh", "-c", "while :; do echo x; sleep 0.05; done"],
            "HostConfig": {"NetworkMode": "none"},
        }));
        std::thread::scope(|scope| {
            for client in 0..6u64 {
                let (engine, id) = (&engine, &id);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_micros(client * 700 + round * 150));
                    let path = format!("/containers/{id}/attach?stream=1&stdout=1");
                    let mut hijacked = engine.api().hijack(&path, None);
                    let frame = frames::read_frame(&mut hijacked)
                        .expect("a readable stream")
                        .expect("a frame");
                    assert_eq!(frame.data, b"x\n");
                });
            }
            let start = engine.api().post_empty(&format!("/containers/{id}/start"));
            assert_eq!(start.status(), 204);
        });
        let _ = engine.api().delete(&format!("/containers/{id}?force=1"));
    }
}
