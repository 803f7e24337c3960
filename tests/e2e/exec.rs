//! Further processes in a running container.

use serde_json::json;
use wharf_e2e::cli::Running;
use wharf_e2e::deadline::{LONG, wait_for, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind, frames, leftovers};

fn with_sleeper() -> (Engine, String) {
    let engine = Engine::start();
    let id = engine.run_detached(&["--network", "none", "--name", "xx"], &["sleep", "1000"]);
    (engine, id)
}

#[test]
fn output_and_exit_code_come_back() {
    let (engine, _) = with_sleeper();
    let output = engine.docker(&["exec", "xx", "sh", "-c", "echo out; echo err >&2; exit 11"]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (11, "out\n", "err\n")
    );
}

#[test]
fn input_is_passed_on() {
    let (engine, _) = with_sleeper();
    let output = engine.docker_with_input(&["exec", "-i", "xx", "cat"], b"through exec");
    assert_eq!((output.code, output.stdout.as_str()), (0, "through exec"));
}

#[test]
fn environment_user_and_directory_can_be_set() {
    let (engine, _) = with_sleeper();
    let script = "echo $V; id -un; pwd; echo $HOME";
    let out = engine.docker_ok(&[
        "exec", "-e", "V=1", "-u", "app", "-w", "/usr/bin", "xx", "sh", "-c", script,
    ]);
    assert_eq!(out, "1\napp\n/usr/bin\n/home/app");
}

#[test]
fn it_inherits_the_containers_environment_and_user() {
    let engine = Engine::start();
    engine.run_detached(
        &["--name", "yy", "-e", "K=v", "-u", "1000", "-w", "/home"],
        &["sleep", "1000"],
    );
    assert_eq!(
        engine.docker_ok(&["exec", "yy", "sh", "-c", "echo $K $(id -u) $PWD"]),
        "v 1000 /home"
    );
}

#[test]
fn it_shares_the_containers_namespaces_and_confinement() {
    let (engine, _) = with_sleeper();
    let script = "for n in mnt pid net ipc uts cgroup; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] && echo $n; done; grep -E 'CapEff|Seccomp:' /proc/self/status";
    let out = engine.docker_ok(&["exec", "xx", "sh", "-c", script]);
    let inside = engine.run(&[], &["grep", "-E", "CapEff|Seccomp:", "/proc/self/status"]);
    assert_eq!(out, format!("mnt\npid\nnet\nipc\nuts\ncgroup\n{inside}"));
}

#[test]
fn it_is_counted_in_the_containers_cgroup() {
    let (engine, id) = with_sleeper();
    let cgroup = engine.docker_ok(&[
        "exec",
        "xx",
        "sh",
        "-c",
        "cat /proc/self/cgroup | sort; cat /proc/1/cgroup | sort",
    ]);
    let lines: Vec<&str> = cgroup.lines().collect();
    assert_eq!(
        lines[..lines.len() / 2],
        lines[lines.len() / 2..],
        "container {id}"
    );
}

#[test]
fn detached_runs_on_after_the_cli() {
    let (engine, _) = with_sleeper();
    assert_eq!(
        engine.docker_ok(&["exec", "-d", "xx", "sh", "-c", "sleep 0.2; touch /done"]),
        ""
    );
    wait_until("the detached command's work", LONG, || {
        engine.docker(&["exec", "xx", "test", "-e", "/done"]).code == 0
    });
}

#[test]
fn privileged_has_all_capabilities() {
    let (engine, _) = with_sleeper();
    if engine.is_reference() {
        return; // runc refuses where the machine itself lacks a capability
    }
    let plain = engine.docker_ok(&["exec", "xx", "grep", "CapEff", "/proc/self/status"]);
    let privileged = engine.docker_ok(&[
        "exec",
        "--privileged",
        "xx",
        "grep",
        "CapEff",
        "/proc/self/status",
    ]);
    assert_eq!(plain, "CapEff:\t00000000a80425fb");
    assert_ne!(privileged, plain);
}

#[test]
fn a_stopped_container_refuses() {
    let (engine, id) = with_sleeper();
    engine.docker_ok(&["kill", "xx"]);
    engine.wait_inspect("xx", "{{.State.Running}}", "false");
    let stderr = engine.docker_fails(&["exec", "xx", "true"], 1);
    let expected = engine
        .wording(
            &format!("Error response from daemon: container {id} is not running"),
            &format!("Error response from daemon: Container {id} is not running"),
        )
        .to_owned();
    assert_eq!(stderr.trim_end(), expected);
}

#[test]
fn missing_commands_end_with_127_and_unusable_ones_with_126() {
    let (engine, _) = with_sleeper();
    assert_eq!(
        engine.docker(&["exec", "xx", "no-such-command"]).code,
        engine
            .wording("127", "126")
            .parse::<i32>()
            .expect("a number")
    );
    assert_eq!(engine.docker(&["exec", "xx", "/etc/passwd"]).code, 126);
}

/// Creates an exec in the container and returns its id.
fn create_exec(engine: &Engine, id: &str, body: &serde_json::Value) -> String {
    engine
        .api()
        .post(&format!("/containers/{id}/exec"), body)
        .expect(201)
        .json()["Id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

#[test]
fn a_missing_command_is_named() {
    let (engine, _) = with_sleeper();
    let output = engine.docker(&["exec", "xx", "no-such-command"]);
    let all = output.stdout + &output.stderr;
    assert!(all.contains("OCI runtime exec failed: exec failed: unable to start container process: exec: \"no-such-command\": executable file not found in $PATH"), "{all}");
}

#[test]
fn inspect_tells_state_and_exit_code() {
    let (engine, id) = with_sleeper();
    let body = json!({"Cmd": ["sh", "-c", "exit 21"], "AttachStdout": true, "Env": ["A=b"], "User": "app"});
    let exec = create_exec(&engine, &id, &body);
    let before = engine
        .api()
        .get(&format!("/exec/{exec}/json"))
        .expect(200)
        .json();
    assert_eq!(before["Running"], json!(false));
    assert_eq!(before["ExitCode"], json!(null));
    assert_eq!(before["ContainerID"], json!(id));
    assert_eq!(before["ProcessConfig"]["entrypoint"], json!("sh"));
    assert_eq!(
        before["ProcessConfig"]["arguments"],
        json!(["-c", "exit 21"])
    );
    assert_eq!(before["ProcessConfig"]["user"], json!("app"));
    let _ = engine
        .api()
        .post(&format!("/exec/{exec}/start"), &json!({"Detach": true}))
        .expect(200);
    let after = wait_for("the end of the exec", LONG, || {
        let now = engine.api().get(&format!("/exec/{exec}/json")).json();
        (now["Running"] == json!(false) && now["ExitCode"] != json!(null)).then_some(now)
    });
    assert_eq!(after["ExitCode"], json!(21));
}

#[test]
fn starting_an_exec_twice_is_refused() {
    let (engine, id) = with_sleeper();
    let exec = create_exec(&engine, &id, &json!({"Cmd": ["sleep", "1000"]}));
    let _ = engine
        .api()
        .post(&format!("/exec/{exec}/start"), &json!({"Detach": true}))
        .expect(200);
    let again = engine
        .api()
        .post(&format!("/exec/{exec}/start"), &json!({"Detach": true}));
    assert_eq!(again.status(), 409, "{}", again.text());
}

#[test]
fn the_stream_is_framed_like_attach() {
    let (engine, id) = with_sleeper();
    let body = json!({"Cmd": ["sh", "-c", "echo o; echo e >&2"], "AttachStdout": true, "AttachStderr": true});
    let exec = create_exec(&engine, &id, &body);
    let hijacked = engine
        .api()
        .hijack(&format!("/exec/{exec}/start"), Some(&json!({})));
    assert_eq!(hijacked.head.status, 101);
    assert_eq!(
        frames::split(&hijacked.read_all()),
        ("o\n".to_owned(), "e\n".to_owned())
    );
}

#[test]
fn exec_ids_are_listed_while_they_run() {
    let (engine, id) = with_sleeper();
    assert_eq!(engine.inspect("xx", "{{json .ExecIDs}}"), "null");
    engine.docker_ok(&["exec", "-d", "xx", "sleep", "1000"]);
    let ids = engine.api().get(&format!("/containers/{id}/json")).json()["ExecIDs"]
        .as_array()
        .map_or(0, Vec::len);
    assert_eq!(ids, 1);
}

#[test]
fn unknown_containers_and_execs_are_404() {
    let engine = Engine::start();
    let no_container = engine
        .api()
        .post("/containers/nope/exec", &json!({"Cmd": ["true"]}));
    assert_eq!(
        (no_container.status(), no_container.message()),
        (404, "No such container: nope".to_owned())
    );
    let no_exec = engine.api().get("/exec/nope/json");
    assert_eq!(
        (no_exec.status(), no_exec.message()),
        (
            404,
            engine
                .wording("No such exec instance: nope", "No such exec instance: nope")
                .to_owned()
        )
    );
}

#[test]
fn an_exec_without_command_is_refused() {
    let (engine, id) = with_sleeper();
    let answer = engine
        .api()
        .post(&format!("/containers/{id}/exec"), &json!({}));
    assert_eq!(
        (answer.status(), answer.message().to_lowercase()),
        (400, "no exec command specified".to_owned())
    );
}

#[test]
fn execs_end_with_their_container() {
    let (engine, _) = with_sleeper();
    let running = engine.docker_start(&["exec", "xx", "sleep", "2000"]);
    wait_until("the exec to run", LONG, || {
        engine.docker_ok(&["top", "xx"]).contains("sleep 2000")
    });
    engine.docker_ok(&["kill", "xx"]);
    assert_eq!(running.wait().code, 137);
}

#[test]
fn twenty_at_once_all_answer() {
    let (engine, _) = with_sleeper();
    let all: Vec<_> = (0..20)
        .map(|i| engine.docker_start(&["exec", "xx", "echo", &i.to_string()]))
        .collect();
    for (i, one) in all.into_iter().enumerate() {
        assert_eq!(one.finish().stdout, format!("{i}\n"));
    }
    assert_eq!(
        engine.docker(&["ps", "-q"]).stdout.lines().count(),
        1,
        "image {BUSYBOX}"
    );
}

/// An exec whose container does not let it begin (here its processes are frozen behind the engine's back) holds up nobody.
#[test]
fn one_that_cannot_begin_is_nobody_elses_problem() {
    if engine_is_reference() {
        return;
    }
    let engine = Engine::start();
    let id = engine.run_detached(&["--network", "none", "-t", "--name", "xx"], &["cat"]);
    let groups = leftovers::cgroup_parents(engine.cgroup_parent());
    let switch = groups.iter().find_map(|parent| {
        let (v1, v2) = (
            parent.join(&id).join("freezer.state"),
            parent.join(&id).join("cgroup.freeze"),
        );
        if v1.exists() {
            Some((v1, "FROZEN", "THAWED"))
        } else {
            v2.exists().then_some((v2, "1", "0"))
        }
    });
    let (file, frozen, thawed) = switch.expect("a freezer");
    std::fs::write(&file, frozen).expect("frozen");
    let mut exec = Running::start(&mut engine.docker_command(&["exec", "xx", "echo", "late"]));
    // The monitor has it when the engine lists it.
    wait_until("the exec to be under way", LONG, || {
        engine.inspect("xx", "{{len .ExecIDs}}") == "1"
    });
    let begin = std::time::Instant::now();
    for rows in 20..24 {
        let answer = engine
            .api()
            .post_empty(&format!("/containers/{id}/resize?h={rows}&w=80"));
        assert_eq!(answer.status(), 200);
    }
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    assert!(exec.is_running());
    std::fs::write(&file, thawed).expect("thawed");
    assert_eq!(exec.finish().stdout, "late\n");
}

fn engine_is_reference() -> bool {
    Kind::from_env() == Kind::Reference
}
