//! The event stream.

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

/// Events of one kind of object since the beginning, as (action, actor's name or id).
fn actions(engine: &Engine, kind: &str) -> Vec<String> {
    let now = engine.docker_ok(&["info", "--format", "{{.SystemTime}}"]);
    let text = engine.docker_ok(&[
        "events",
        "--since",
        "1",
        "--until",
        &now,
        "--filter",
        &format!("type={kind}"),
        "--format",
        "{{json .}}",
    ]);
    text.lines()
        .map(|l| {
            serde_json::from_str::<Value>(l).expect("JSON")["Action"]
                .as_str()
                .expect("an action")
                .to_owned()
        })
        .collect()
}

#[test]
fn a_containers_life_is_told_in_order() {
    let engine = Engine::start();
    engine.docker_ok(&["run", "--name", "cc", BUSYBOX, "true"]);
    engine.docker_ok(&["rename", "cc", "dd"]);
    engine.docker_ok(&["rm", "dd"]);
    let seen = actions(&engine, "container");
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(
        seen,
        ["create", "attach", "start", "die", "rename", "destroy"]
    );
}

#[test]
fn kill_and_stop_are_told() {
    let engine = Engine::start();
    engine.run_detached(&["--name", "kk"], &["sleep", "1000"]);
    engine.docker_ok(&["stop", "-t", "0", "kk"]);
    engine.docker_ok(&["start", "kk"]);
    engine.docker_ok(&["kill", "kk"]);
    engine.wait_inspect("kk", "{{.State.Running}}", "false");
    engine.docker_ok(&["restart", "-t", "0", "kk"]);
    let seen = actions(&engine, "container");
    let count = |action: &str| seen.iter().filter(|a| *a == action).count();
    assert_eq!(
        (
            count("create"),
            count("start"),
            count("die"),
            count("stop"),
            count("restart")
        ),
        (1, 3, 2, 1, 1),
        "{seen:?}"
    );
    assert!(count("kill") >= 2, "{seen:?}");
}

#[test]
fn networks_and_images_have_events_too() {
    let engine = Engine::start();
    engine.docker_ok(&["run", "--rm", BUSYBOX, "true"]);
    engine.docker_ok(&["tag", BUSYBOX, "other:1"]);
    engine.docker_ok(&["rmi", "other:1"]);
    wharf_e2e::deadline::wait_until("connect and disconnect", wharf_e2e::deadline::LONG, || {
        actions(&engine, "network") == ["connect", "disconnect"]
    });
    let images = actions(&engine, "image");
    for action in ["load", "tag", "untag"] {
        assert!(images.iter().any(|a| a == action), "{action} in {images:?}");
    }
}

#[test]
fn an_event_carries_actor_and_times() {
    let engine = Engine::start();
    let (head, mut body) = engine
        .api()
        .stream("GET", "/events?filters=%7B%22event%22%3A%5B%22die%22%5D%7D");
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("application/json"))
    );
    let _ = engine.docker(&[
        "run", "--name", "cc", "-l", "k=v", BUSYBOX, "sh", "-c", "exit 9",
    ]);
    let event: Value = serde_json::from_str(&body.line().expect("an event")).expect("JSON");
    let id = engine.inspect("cc", "{{.Id}}");
    assert_eq!(
        (&event["Type"], &event["Action"], &event["Actor"]["ID"]),
        (&json!("container"), &json!("die"), &json!(id))
    );
    assert_eq!(
        (
            &event["status"],
            &event["id"],
            &event["from"],
            &event["scope"]
        ),
        (&json!("die"), &json!(id), &json!(BUSYBOX), &json!("local"))
    );
    let attributes = &event["Actor"]["Attributes"];
    assert_eq!(
        (
            &attributes["exitCode"],
            &attributes["image"],
            &attributes["name"],
            &attributes["k"]
        ),
        (&json!("9"), &json!(BUSYBOX), &json!("cc"), &json!("v"))
    );
    let (seconds, nanos) = (
        event["time"].as_i64().expect("time"),
        event["timeNano"].as_i64().expect("timeNano"),
    );
    assert_eq!(nanos / 1_000_000_000, seconds);
}

#[test]
fn filters_by_container_label_and_event() {
    let engine = Engine::start();
    // Not hexadecimal: the filter takes beginnings of ids too.
    for (name, label) in [("xx", "k=1"), ("yy", "k=2")] {
        engine.docker_ok(&["run", "--name", name, "-l", label, BUSYBOX, "true"]);
    }
    let now = engine.docker_ok(&["info", "--format", "{{.SystemTime}}"]);
    let ask = |filters: &[&str]| {
        let mut args = vec![
            "events",
            "--since",
            "1",
            "--until",
            &now,
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}}",
        ];
        for filter in filters {
            args.extend_from_slice(&["-f", filter]);
        }
        engine.docker_ok(&args)
    };
    assert_eq!(ask(&["container=xx", "event=start"]), "start xx");
    assert_eq!(ask(&["label=k=2", "event=die"]), "die yy");
    assert_eq!(
        ask(&["event=start", "event=die", "type=container", "container=yy"]),
        "start yy\ndie yy"
    );
}

#[test]
fn exec_events_name_their_command() {
    let engine = Engine::start();
    engine.run_detached(&["--name", "xx"], &["sleep", "1000"]);
    engine.docker_ok(&["exec", "xx", "echo", "hi"]);
    let wanted = ["exec_create: echo hi", "exec_start: echo hi", "exec_die"];
    wharf_e2e::deadline::wait_until("the exec events", wharf_e2e::deadline::LONG, || {
        let seen = actions(&engine, "container");
        wanted.iter().all(|w| seen.iter().any(|s| s == w))
    });
}

#[test]
fn every_action_of_a_container_is_told() {
    let engine = Engine::start();
    engine.docker_ok(&["create", "--name", "aa", "-t", BUSYBOX, "sleep", "1000"]);
    engine.docker_ok(&["start", "aa"]);
    engine.docker_ok(&["exec", "aa", "true"]);
    engine.docker_ok(&["exec", "-d", "aa", "true"]);
    engine.docker_ok(&["pause", "aa"]);
    engine.docker_ok(&["unpause", "aa"]);
    engine.docker_ok(&["top", "aa"]);
    engine.docker_ok(&["update", "--restart", "no", "aa"]);
    let _ = engine.api().post_empty("/containers/aa/resize?h=30&w=90");
    engine.docker_ok(&["rename", "aa", "bb"]);
    engine.docker_ok(&["restart", "-t", "0", "bb"]);
    engine.docker_ok(&["stop", "-t", "0", "bb"]);
    let archive = engine.dir().join("bb.tar");
    engine.docker_ok(&["export", "-o", archive.to_str().expect("text"), "bb"]);
    engine.docker_ok(&["rm", "bb"]);
    engine.docker_ok(&["container", "prune", "-f"]);
    let seen = actions(&engine, "container");
    for action in [
        "create",
        "start",
        "exec_create: true ",
        "exec_start: true ",
        "exec_die",
        "pause",
        "unpause",
        "top",
        "update",
        "resize",
        "rename",
        "kill",
        "die",
        "restart",
        "stop",
        "export",
        "destroy",
        "prune",
    ] {
        assert!(
            seen.iter().any(|seen| seen == action),
            "{action:?} in {seen:?}"
        );
    }
}

#[test]
fn the_end_of_a_container_has_its_attributes() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "run",
        "--name",
        "dd",
        "--label",
        "colour=red",
        BUSYBOX,
        "sh",
        "-c",
        "exit 0",
    ]);
    let code = engine
        .docker(&[
            "run",
            "--name",
            "ee",
            BUSYBOX,
            "sh",
            "-c",
            "sleep 1.1; exit 7",
        ])
        .code;
    assert_eq!(code, 7);
    let now = engine.docker_ok(&["info", "--format", "{{.SystemTime}}"]);
    let told = engine.docker_ok(&[
        "events",
        "--since",
        "1",
        "--until",
        &now,
        "--filter",
        "event=die",
        "--format",
        "{{json .Actor.Attributes}}",
    ]);
    let told: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[0]["exitCode"], &told[0]["colour"], &told[0]["name"]),
        (&json!("0"), &json!("red"), &json!("dd"))
    );
    assert_eq!(told[1]["exitCode"], "7");
    if !engine.is_reference() {
        // 20.10 did not have it yet.
        assert_eq!(
            (&told[0]["execDuration"], &told[1]["execDuration"]),
            (&json!("0"), &json!("1"))
        );
    }
}
