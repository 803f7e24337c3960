//! Waiting for a container, under every condition.

use std::time::Duration;

use serde_json::json;
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

#[test]
fn the_cli_prints_the_exit_code() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sh", "-c", "sleep 0.2; exit 17"]);
    assert_eq!(engine.docker_ok(&["wait", &id]), "17");
    assert_eq!(
        engine.docker_ok(&["wait", &id]),
        "17",
        "and again once it has ended"
    );
}

#[test]
fn a_created_container_is_not_running() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", BUSYBOX, "true"]);
    let answer = engine
        .api()
        .post_empty(&format!("/containers/{id}/wait?condition=not-running"))
        .expect(200)
        .json();
    assert_eq!(answer["StatusCode"], json!(0));
}

#[test]
fn next_exit_waits_for_a_run_that_is_still_to_come() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", BUSYBOX, "sh", "-c", "exit 5"]);
    let (head, mut body) = engine.api().stream(
        "POST",
        &format!("/containers/{id}/wait?condition=next-exit"),
    );
    assert_eq!(head.status, 200, "headers come before the container ends");
    engine.docker_ok(&["start", &id]);
    let answer: serde_json::Value =
        serde_json::from_str(&body.line().expect("an answer")).expect("JSON");
    assert_eq!(answer["StatusCode"], json!(5));
}

#[test]
fn removed_answers_after_auto_remove() {
    let engine = Engine::start();
    let id = engine.create(&json!({"Image": BUSYBOX, "Cmd": ["sh", "-c", "exit 6"], "HostConfig": {"AutoRemove": true, "NetworkMode": "none"}}));
    let (_, mut body) = engine
        .api()
        .stream("POST", &format!("/containers/{id}/wait?condition=removed"));
    let _ = engine
        .api()
        .post_empty(&format!("/containers/{id}/start"))
        .expect(204);
    let answer: serde_json::Value =
        serde_json::from_str(&body.line().expect("an answer")).expect("JSON");
    assert_eq!(answer["StatusCode"], json!(6));
    assert_eq!(
        engine.api().get(&format!("/containers/{id}/json")).status(),
        404
    );
}

#[test]
fn removed_answers_when_someone_removes_it() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    let (_, mut body) = engine
        .api()
        .stream("POST", &format!("/containers/{id}/wait?condition=removed"));
    body.set_read_timeout(Duration::from_secs(60));
    engine.docker_ok(&["rm", "-f", &id]);
    let answer: serde_json::Value =
        serde_json::from_str(&body.line().expect("an answer")).expect("JSON");
    assert_eq!(answer["StatusCode"], json!(137));
}

#[test]
fn an_unknown_condition_is_refused() {
    let engine = Engine::start();
    if engine.is_reference() {
        return; // Debian's dockerd 20.10 takes any word
    }
    let id = engine.docker_ok(&["create", BUSYBOX, "true"]);
    let answer = engine
        .api()
        .post_empty(&format!("/containers/{id}/wait?condition=tomorrow"));
    assert_eq!(
        (answer.status(), answer.message()),
        (400, "invalid condition: \"tomorrow\"".to_owned())
    );
}

#[test]
fn an_unknown_container_is_404() {
    let engine = Engine::start();
    let answer = engine.api().post_empty("/containers/nope/wait");
    assert_eq!(
        (answer.status(), answer.message()),
        (404, "No such container: nope".to_owned())
    );
}
