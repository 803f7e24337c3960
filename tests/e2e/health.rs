//! Health checks.

use serde_json::json;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind};

const TOGGLED: [&str; 6] = [
    "--health-cmd",
    "printf seen; test ! -f /bad",
    "--health-interval",
    "200ms",
    "--health-retries",
    "2",
];

#[test]
fn health_follows_the_check_and_is_told() {
    let engine = Engine::start();
    let id = engine.run_detached(&TOGGLED, &["sleep", "1000"]);
    engine.wait_inspect(&id, "{{.State.Health.Status}}", "healthy");
    engine.docker_ok(&["exec", &id, "touch", "/bad"]);
    engine.wait_inspect(&id, "{{.State.Health.Status}}", "unhealthy");
    engine.docker_ok(&["exec", &id, "rm", "/bad"]);
    engine.wait_inspect(
        &id,
        "{{.State.Health.Status}} {{.State.Health.FailingStreak}}",
        "healthy 0",
    );
    wait_until("five results", LONG, || {
        engine.inspect(&id, "{{len .State.Health.Log}}") == "5"
    });
    assert_eq!(
        engine.inspect(&id, "{{(index .State.Health.Log 4).Output}}"),
        "seen"
    );
    let now = engine.docker_ok(&["info", "--format", "{{.SystemTime}}"]);
    let told = engine.docker_ok(&[
        "events",
        "--since",
        "1",
        "--until",
        &now,
        "--filter",
        "event=health_status",
        "--format",
        "{{.Action}}",
    ]);
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [
            "health_status: healthy",
            "health_status: unhealthy",
            "health_status: healthy"
        ]
    );
}

#[test]
fn a_container_nobody_asks_is_unhealthy() {
    let engine = Engine::start();
    let id = engine.run_detached(&TOGGLED, &["sleep", "1000"]);
    let healthy = || engine.wait_inspect(&id, "{{.State.Health.Status}}", "healthy");
    let is_not = || assert_eq!(engine.inspect(&id, "{{.State.Health.Status}}"), "unhealthy");
    healthy();
    engine.docker_ok(&["pause", &id]);
    is_not();
    engine.docker_ok(&["unpause", &id]);
    healthy();
    engine.docker_ok(&["stop", "-t", "0", &id]);
    is_not();
    engine.docker_ok(&["start", &id]);
    healthy();
}

#[test]
fn a_check_that_takes_too_long_is_killed() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &[
            "--health-cmd",
            "printf begun; exec sleep 77",
            "--health-interval",
            "100ms",
            "--health-timeout",
            "1s",
            "--health-retries",
            "1",
        ],
        &["sleep", "1000"],
    );
    engine.wait_inspect(&id, "{{.State.Health.Status}}", "unhealthy");
    let result = engine.inspect(
        &id,
        "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}",
    );
    assert_eq!(result, "-1 Health check exceeded timeout (1s): begun");
    wait_until("no more than the present check", LONG, || {
        let table = engine.docker_ok(&["top", &id, "-o", "pid,args"]);
        table.matches("sleep 77").count() <= 1
    });
}

#[test]
fn failures_of_the_start_period_are_forgiven() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &[
            "--health-cmd",
            "test -f /good",
            "--health-interval",
            "1h",
            "--health-start-period",
            "1h",
            "--health-start-interval",
            "100ms",
            "--health-retries",
            "1",
        ],
        &["sleep", "1000"],
    );
    wait_until("some failures", LONG, || {
        engine.inspect(&id, "{{len .State.Health.Log}}") == "3"
    });
    assert_eq!(
        engine.inspect(
            &id,
            "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"
        ),
        "starting 0"
    );
    engine.docker_ok(&["exec", &id, "touch", "/good"]);
    engine.wait_inspect(&id, "{{.State.Health.Status}}", "healthy");
}

#[test]
fn a_check_can_be_switched_off() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--no-healthcheck"], &["sleep", "1000"]);
    assert_eq!(engine.inspect(&id, "{{json .State.Health}}"), "null");
    assert_eq!(
        engine.inspect(&id, "{{json .Config.Healthcheck.Test}}"),
        "[\"NONE\"]"
    );
}

/// An extension.
#[test]
fn what_becomes_unhealthy_is_killed_restarted_or_stopped() {
    let engine = Engine::start();
    if engine.kind() == Kind::Reference {
        return;
    }
    let start = |action: &str, policy: &str| {
        let id = engine.create(&json!({
            "Image": BUSYBOX, "Cmd": ["sleep", "1000"],
            "Healthcheck": {"Test": ["CMD-SHELL", "test -f /again || { touch /again; false; }"], "Interval": 300_000_000, "Retries": 1},
            "HostConfig": {"RestartPolicy": {"Name": policy}, "Wharf": {"HealthOnFailure": action}},
        }));
        let _ = engine
            .api()
            .post_empty(&format!("/containers/{id}/start"))
            .expect(204);
        id
    };
    let (killed, back) = (start("kill", "no"), start("kill", "always"));
    let (restarted, stopped) = (start("restart", "no"), start("stop", "always"));
    engine.wait_inspect(
        &killed,
        "{{.State.Status}} {{.State.ExitCode}}",
        "exited 137",
    );
    engine.wait_inspect(
        &back,
        "{{.State.Health.Status}} {{.RestartCount}}",
        "healthy 1",
    );
    engine.wait_inspect(
        &restarted,
        "{{.State.Health.Status}} {{.RestartCount}}",
        "healthy 0",
    );
    engine.wait_inspect(&stopped, "{{.State.Status}}", "exited");
    let refused = engine.api().post(
        "/containers/create",
        &json!({"Image": BUSYBOX, "HostConfig": {"Wharf": {"HealthOnFailure": "pray"}}}),
    );
    assert_eq!(refused.status(), 400);
    let cli = engine.wharf(&["create", "--health-on-failure", "kill", BUSYBOX, "true"]);
    assert_eq!(cli.code, 0, "{}", cli.stderr);
    assert_eq!(
        engine
            .api()
            .get(&format!("/containers/{}/json", cli.stdout.trim()))
            .json()["HostConfig"]["Wharf"],
        json!({"HealthOnFailure": "kill"})
    );
}
