//! Other OCI runtimes by name.

use std::path::Path;

use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind};

/// runc, and crun where it works: it refuses hosts whose second control group hierarchy has controllers beside those of the first.
fn installed() -> Vec<&'static str> {
    let runc = ["/usr/sbin/runc", "/usr/bin/runc"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let mut found = vec![runc.expect("runc is installed")];
    let hybrid =
        std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    if hybrid.trim().is_empty() && Path::new("/usr/bin/crun").exists() {
        found.push("/usr/bin/crun");
    }
    found
}

fn with_each(test: impl Fn(&Engine, &str)) {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    for path in installed() {
        let engine = Engine::options()
            .flag("--add-runtime")
            .flag(&format!("other={path}"))
            .start();
        engine.load("busybox.tar");
        test(&engine, path);
    }
}

#[test]
fn a_foreign_runtime_runs_a_command() {
    with_each(|engine, path| {
        let run = |flags: &[&str], command: &[&str]| {
            let args = [
                &["run", "--rm", "--runtime", "other"][..],
                flags,
                &[BUSYBOX],
                command,
            ]
            .concat();
            engine.docker(&args)
        };
        let output = run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!(
            (output.code, output.stdout.as_str(), output.stderr.as_str()),
            (7, "out\n", "err\n"),
            "{path}"
        );
        let output = run(
            &["-u", "1", "-w", "/new/dir", "-e", "A=b"],
            &[
                "sh",
                "-c",
                "id -u; pwd; echo $A; grep Seccomp: /proc/self/status",
            ],
        );
        assert_eq!(
            output.stdout, "1\n/new/dir\nb\nSeccomp:\t2\n",
            "{path} {}",
            output.stderr
        );
        let output = run(&[], &["/no/such"]);
        // crun words it so that the stock client does not recognise it; with dockerd it is the same.
        let expected: &[i32] = if path.ends_with("crun") {
            &[125, 127]
        } else {
            &[127]
        };
        assert!(
            expected.contains(&output.code),
            "{path} {} {}",
            output.code,
            output.stderr
        );
        let output = run(&["--init"], &["sh", "-c", "cat /proc/1/comm; exit 4"]);
        assert_eq!(
            (output.code, output.stdout.trim()),
            (4, "docker-init"),
            "{path} {}",
            output.stderr
        );
        let output = run(&["-m", "32m"], &["cat", "/proc/1/cgroup"]);
        assert_eq!(output.code, 0, "{path} {}", output.stderr);
        let address = run(&[], &["ip", "-4", "addr", "show", "eth0"]);
        assert!(address.stdout.contains("inet 172."), "{path} {address:?}");
    });
}

#[test]
fn a_foreign_container_lives_like_any_other() {
    with_each(|engine, path| {
        let id = engine.run_detached(
            &["--name", "ff", "--runtime", "other"],
            &[
                "sh",
                "-c",
                "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done",
            ],
        );
        assert_eq!(engine.inspect("ff", "{{.HostConfig.Runtime}}"), "other");
        wait_until("the trap to be set", LONG, || {
            engine.docker_ok(&["logs", "ff"]) == "ready"
        });
        assert_eq!(
            engine.docker_ok(&["exec", "ff", "echo", "inside"]),
            "inside",
            "{path}"
        );
        assert_eq!(
            engine.docker(&["exec", "ff", "sh", "-c", "exit 9"]).code,
            9,
            "{path}"
        );
        assert_eq!(
            engine
                .docker_ok(&["exec", "-t", "ff", "sh", "-c", "test -t 0 && echo tty"])
                .trim(),
            "tty",
            "{path}"
        );
        engine.docker_ok(&["pause", "ff"]);
        engine.docker_ok(&["unpause", "ff"]);
        engine.docker_ok(&["stop", "ff"]);
        assert_eq!(engine.inspect("ff", "{{.State.ExitCode}}"), "3", "{path}");
        engine.docker_ok(&["start", "ff"]);
        engine.docker_ok(&["kill", "ff"]);
        engine.wait_inspect("ff", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
        engine.docker_ok(&["rm", &id]);
        let state = engine.exec_root().join("runtime-other");
        let left = std::fs::read_dir(state).map_or(0, |entries| entries.count());
        assert_eq!(left, 0, "{path} keeps nothing");
    });
}

#[test]
fn a_foreign_container_survives_the_daemon() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let flag = format!("other={}", installed()[0]);
    let mut engine = Engine::options()
        .flag("--add-runtime")
        .flag(&flag)
        .flag("--default-runtime=other")
        .start();
    engine.load("busybox.tar");
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(
        engine.inspect(&id, "{{.State.Running}} {{.HostConfig.Runtime}}"),
        "true other"
    );
    assert_eq!(engine.docker_ok(&["exec", &id, "echo", "inside"]), "inside");
}

#[test]
fn unknown_runtimes_are_refused() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let answer = engine.docker_fails(&["run", "--runtime", "nope", BUSYBOX, "true"], 125);
    assert!(
        answer.contains("unknown or invalid runtime name: nope"),
        "{answer}"
    );
}

/// Those of a device (CDI), by whatever runtime.
#[test]
fn hooks_run_at_every_point_of_a_life() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let told = dir.path().join("told");
    let hook = |name: &str| {
        let script = format!(
            "s=$(cat); echo {name} $(echo \"$s\" | grep -o '\"status\": *\"[a-z]*\"' | tr -d ' ') >> {}",
            told.display()
        );
        serde_json::json!({"hookName": name, "path": "/bin/busybox", "args": ["busybox", "sh", "-c", script]})
    };
    let names = ["createRuntime", "createContainer", "poststart", "poststop"];
    let device = serde_json::json!({"cdiVersion": "0.6.0", "kind": "vendor.com/thing", "devices": [
        {"name": "one", "containerEdits": {"hooks": names.map(hook)}}
    ]});
    std::fs::write(dir.path().join("vendor.json"), device.to_string()).expect("write");
    let engine = Engine::options()
        .flag("--cdi-spec-dir")
        .flag(&dir.path().to_string_lossy())
        .flag(&format!("--add-runtime=other={}", installed()[0]))
        .start();
    engine.load("busybox.tar");
    for runtime in ["runc", "other"] {
        let _ = std::fs::remove_file(&told);
        let flags = ["--runtime", runtime, "--device", "vendor.com/thing=one"];
        engine.run(&flags, &["true"]);
        let told = std::fs::read_to_string(&told).expect("hooks ran");
        let names_told: Vec<&str> = told
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(names_told, names, "{runtime}");
        // runc 1.1 calls a container created after its start.
        if runtime == "runc" {
            let status: Vec<&str> = told
                .lines()
                .filter_map(|line| line.split('"').nth(3))
                .collect();
            assert_eq!(status, ["creating", "creating", "running", "stopped"]);
        }
    }
}
