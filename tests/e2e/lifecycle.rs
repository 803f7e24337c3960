//! From create to remove, and every step between.

use serde_json::json;
use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;

const TRAP: &str =
    "trap 'exit 3' TERM; trap 'exit 4' USR1; echo ready; while :; do sleep 0.05; done";

fn trapper(engine: &Engine, flags: &[&str]) -> String {
    let id = engine.run_detached(flags, &["sh", "-c", TRAP]);
    wait_until("the traps to be set", LONG, || {
        engine.docker_ok(&["logs", &id]).contains("ready")
    });
    id
}

#[test]
fn states_follow_each_other() {
    let engine = Engine::start();
    let status = |expected: &str| assert_eq!(engine.inspect("cc", "{{.State.Status}}"), expected);
    engine.docker_ok(&["create", "--name", "cc", BUSYBOX, "sleep", "1000"]);
    status("created");
    assert_eq!(engine.docker_ok(&["start", "cc"]), "cc");
    status("running");
    assert_eq!(engine.docker_ok(&["kill", "cc"]), "cc");
    engine.wait_inspect("cc", "{{.State.Status}}", "exited");
    assert_eq!(engine.inspect("cc", "{{.State.ExitCode}}"), "137");
    engine.docker_ok(&["start", "cc"]);
    status("running");
    assert_eq!(engine.docker_ok(&["rm", "-f", "cc"]), "cc");
    assert_eq!(engine.api().get("/containers/cc/json").status(), 404);
}

#[test]
fn starting_twice_and_stopping_twice_is_304() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    assert_eq!(
        engine
            .api()
            .post_empty(&format!("/containers/{id}/start"))
            .status(),
        304
    );
    assert_eq!(
        engine
            .api()
            .post_empty(&format!("/containers/{id}/stop?t=0"))
            .status(),
        204
    );
    assert_eq!(
        engine
            .api()
            .post_empty(&format!("/containers/{id}/stop"))
            .status(),
        304
    );
}

#[test]
fn stop_sends_sigterm_first() {
    let engine = Engine::start();
    let id = trapper(&engine, &[]);
    assert_eq!(engine.docker_ok(&["stop", &id]), id);
    assert_eq!(engine.inspect(&id, "{{.State.ExitCode}}"), "3");
}

#[test]
fn stop_kills_after_the_grace_period() {
    let engine = Engine::start();
    let script = "trap : TERM; echo ready; while :; do sleep 0.05; done";
    let id = engine.run_detached(&[], &["sh", "-c", script]);
    wait_until("the trap to be set", LONG, || {
        engine.docker_ok(&["logs", &id]).contains("ready")
    });
    engine.docker_ok(&["stop", "-t", "1", &id]);
    assert_eq!(engine.inspect(&id, "{{.State.ExitCode}}"), "137");
}

#[test]
fn stop_signal_of_the_container_is_used() {
    let engine = Engine::start();
    let id = trapper(&engine, &["--stop-signal", "USR1"]);
    engine.docker_ok(&["stop", &id]);
    assert_eq!(engine.inspect(&id, "{{.State.ExitCode}}"), "4");
}

#[test]
fn kill_takes_names_and_numbers() {
    let engine = Engine::start();
    for signal in ["USR1", "SIGUSR1", "10"] {
        let id = trapper(&engine, &[]);
        engine.docker_ok(&["kill", "-s", signal, &id]);
        assert_eq!(engine.docker_ok(&["wait", &id]), "4", "signal {signal}");
    }
}

#[test]
fn killing_a_stopped_container_is_a_conflict() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", "--name", "cc", BUSYBOX, "true"]);
    let answer = engine.api().post_empty("/containers/cc/kill");
    assert_eq!(answer.status(), 409);
    let short = format!("Cannot kill container: cc: Container {id} is not running");
    let new = format!("cannot kill container: cc: container {id} is not running");
    assert_eq!(answer.message(), engine.wording(&new, &short));
}

#[test]
fn an_unknown_signal_is_refused() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    let answer = engine
        .api()
        .post_empty(&format!("/containers/{id}/kill?signal=BOGUS"));
    assert!(
        answer
            .message()
            .to_lowercase()
            .contains("invalid signal: bogus"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.status(), 400);
}

#[test]
fn restart_gives_a_new_process() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &[],
        &[
            "sh",
            "-c",
            "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done",
        ],
    );
    wait_until("the first start", LONG, || {
        engine.docker_ok(&["logs", &id]) == "up"
    });
    let before = engine.inspect(&id, "{{.State.Pid}} {{.State.StartedAt}}");
    assert_eq!(engine.docker_ok(&["restart", &id]), id);
    wait_until("the second start", LONG, || {
        engine.docker_ok(&["logs", &id]) == "up\nup"
    });
    assert_ne!(
        engine.inspect(&id, "{{.State.Pid}} {{.State.StartedAt}}"),
        before
    );
}

#[test]
fn files_survive_a_restart() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "run",
        "--name",
        "kk",
        BUSYBOX,
        "sh",
        "-c",
        "cat /kept 2>/dev/null; echo data >/kept",
    ]);
    assert_eq!(engine.docker_ok(&["start", "-a", "kk"]), "data");
}

#[test]
fn removing_a_running_container_needs_force() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--name", "rr"], &["sleep", "1000"]);
    let answer = engine.api().delete("/containers/rr");
    assert_eq!(answer.status(), 409);
    let old = format!(
        "You cannot remove a running container {id}. Stop the container before attempting removal or force remove"
    );
    let new = "cannot remove container \"rr\": container is running: stop the container before removing or force remove";
    assert_eq!(answer.message(), engine.wording(new, &old));
}

#[test]
fn rename_frees_the_old_name() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", "--name", "old", BUSYBOX, "true"]);
    engine.docker_ok(&["rename", "old", "new"]);
    assert_eq!(
        engine.inspect("new", "{{.Id}} {{.Name}}"),
        format!("{id} /new")
    );
    engine.docker_ok(&["create", "--name", "old", BUSYBOX, "true"]);
}

#[test]
fn rename_to_a_taken_name_is_a_conflict() {
    let engine = Engine::start();
    let a = engine.docker_ok(&["create", "--name", "aa", BUSYBOX, "true"]);
    engine.docker_ok(&["create", "--name", "bb", BUSYBOX, "true"]);
    let answer = engine.api().post_empty("/containers/bb/rename?name=aa");
    let expected = format!(
        "Error when allocating new name: Conflict. The container name \"/aa\" is already in use by container \"{a}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    assert_eq!((answer.status(), answer.message()), (409, expected));
}

#[test]
fn top_lists_the_containers_processes() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sh", "-c", "sleep 1000 & wait"]);
    wait_until("both processes", LONG, || {
        engine.docker_ok(&["top", &id]).lines().count() == 3
    });
    let table = engine.docker_ok(&["top", &id, "-o", "pid,args"]);
    assert!(
        table
            .lines()
            .next()
            .is_some_and(|l| l.split_whitespace().eq(["PID", "COMMAND"])),
        "{table}"
    );
    assert!(table.contains("sleep 1000"), "{table}");
}

#[test]
fn top_of_a_stopped_container_is_refused() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", BUSYBOX, "true"]);
    let answer = engine.api().get(&format!("/containers/{id}/top"));
    let old = format!("Container {id} is not running");
    let new = format!("container {id} is not running");
    assert_eq!(
        (answer.status(), answer.message()),
        (409, engine.wording(&new, &old).to_owned())
    );
}

#[test]
fn prune_removes_stopped_containers_only() {
    let engine = Engine::start();
    let running = engine.run_detached(&[], &["sleep", "1000"]);
    let stopped = engine.docker_ok(&["create", BUSYBOX, "true"]);
    let answer = engine
        .api()
        .post_empty("/containers/prune")
        .expect(200)
        .json();
    assert_eq!(answer["ContainersDeleted"], json!([stopped]));
    assert_eq!(engine.container_ids(), [running]);
}

#[test]
fn removal_deletes_every_file_of_the_container() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", BUSYBOX, "true"]);
    let upper = engine.inspect(&id, "{{.GraphDriver.Data.UpperDir}}");
    let directory = engine.data_root().join("containers").join(&id);
    assert!(directory.is_dir() && std::path::Path::new(&upper).is_dir());
    engine.docker_ok(&["rm", &id]);
    assert!(!directory.exists() && !std::path::Path::new(&upper).exists());
}

#[test]
fn a_container_whose_start_failed_can_be_started_later() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", BUSYBOX, "/late"]);
    assert_ne!(engine.docker(&["start", &id]).code, 0);
    assert_eq!(
        engine.inspect(&id, "{{.State.Status}} {{.State.ExitCode}}"),
        "created 127"
    );
    let upper = engine.inspect(&id, "{{.GraphDriver.Data.UpperDir}}");
    std::fs::write(format!("{upper}/late"), "#!/bin/sh\necho now\n")
        .expect("a file in the container");
    std::fs::set_permissions(
        format!("{upper}/late"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("chmod");
    assert_eq!(engine.docker_ok(&["start", "-a", &id]), "now");
}
