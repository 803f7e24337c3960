//! Ping, version, info, headers, the daemon's own flags and signals.

use serde_json::json;
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

#[test]
fn ping_answers_with_the_negotiation_headers() {
    let engine = Engine::empty();
    for method in ["GET", "HEAD"] {
        let answer = engine.api().request(method, "/_ping", None).expect(200);
        assert_eq!(
            answer.body,
            if method == "GET" {
                b"OK".as_slice()
            } else {
                b""
            }
        );
        let header = |name: &str| answer.head.header(name).unwrap_or_default().to_owned();
        assert_eq!(header("Api-Version"), engine.wording("1.51", "1.41"));
        assert_eq!(
            (header("Ostype"), header("Docker-Experimental")),
            ("linux".to_owned(), "false".to_owned())
        );
        assert!(
            header("Server").starts_with("Docker/"),
            "{}",
            header("Server")
        );
        assert_eq!(
            (header("Cache-Control"), header("Pragma")),
            (
                "no-cache, no-store, must-revalidate".to_owned(),
                "no-cache".to_owned()
            )
        );
        assert_eq!(header("Content-Type"), "text/plain; charset=utf-8");
        assert!(engine.is_reference() || answer.head.header("Builder-Version").is_some());
    }
}

#[test]
fn paths_work_bare_and_under_every_version() {
    let engine = Engine::empty();
    for version in ["", "/v1.24", "/v1.30", "/v1.40", "/v1.41"] {
        assert_eq!(
            engine.api().get(&format!("{version}/_ping")).status(),
            200,
            "{version}"
        );
        assert_eq!(
            engine
                .api()
                .get(&format!("{version}/containers/json"))
                .status(),
            200,
            "{version}"
        );
    }
}

#[test]
fn version_names_api_and_platform() {
    let engine = Engine::empty();
    let version = engine.api().get("/version").expect(200).json();
    assert_eq!(
        (&version["Os"], &version["Arch"]),
        (&json!("linux"), &json!("amd64"))
    );
    assert_eq!(version["ApiVersion"], json!(engine.wording("1.51", "1.41")));
    assert!(
        version["KernelVersion"]
            .as_str()
            .is_some_and(|k| !k.is_empty())
    );
    assert_eq!(version["Components"][0]["Name"], json!("Engine"));
    let server = engine.docker_ok(&[
        "version",
        "--format",
        "{{.Server.APIVersion}} {{.Server.Os}}/{{.Server.Arch}}",
    ]);
    assert_eq!(
        server,
        engine.wording("1.51 linux/amd64", "1.41 linux/amd64")
    );
}

#[test]
fn docker_version_and_info_print_without_errors() {
    let engine = Engine::empty();
    for command in ["version", "info"] {
        let output = engine.docker(&[command]);
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stdout.contains("Server:"), "{}", output.stdout);
        assert!(!output.stdout.contains("ERROR"), "{}", output.stdout);
    }
}

#[test]
fn info_counts_and_describes() {
    let engine = Engine::start();
    engine.run_detached(&[], &["sleep", "1000"]);
    engine.docker_ok(&["create", BUSYBOX]);
    let info = engine.api().get("/info").expect(200).json();
    let counts = [
        "Containers",
        "ContainersRunning",
        "ContainersPaused",
        "ContainersStopped",
        "Images",
    ]
    .map(|f| info[f].clone());
    assert_eq!(counts, [json!(2), json!(1), json!(0), json!(1), json!(1)]);
    assert_eq!(
        (
            &info["Driver"],
            &info["OSType"],
            &info["LoggingDriver"],
            &info["CgroupDriver"]
        ),
        (
            &json!("overlay2"),
            &json!("linux"),
            &json!("json-file"),
            &json!("cgroupfs")
        )
    );
    assert_eq!(
        info["DockerRootDir"],
        json!(engine.data_root().display().to_string())
    );
    assert!(info["NCPU"].as_u64() > Some(0) && info["MemTotal"].as_u64() > Some(0));
    assert_eq!(info["Swarm"]["LocalNodeState"], json!("inactive"));
}

#[test]
fn swarm_endpoints_say_that_this_is_no_swarm_manager() {
    let engine = Engine::empty();
    for path in [
        "/swarm",
        "/nodes",
        "/services",
        "/tasks",
        "/secrets",
        "/configs",
    ] {
        let answer = engine.api().get(path);
        assert_eq!(answer.status(), 503, "{path}: {}", answer.text());
        assert!(
            answer
                .message()
                .contains("This node is not a swarm manager."),
            "{path}: {}",
            answer.text()
        );
    }
}

#[test]
fn keep_alive_serves_many_requests_on_one_connection() {
    let engine = Engine::start();
    let mut connection = engine.api().connect();
    for _ in 0..50 {
        assert_eq!(
            connection
                .request("GET", "/containers/json", None)
                .expect("an answer")
                .status(),
            200
        );
    }
}

#[test]
fn a_tcp_listener_can_be_added() {
    // Inside the daemon's own network namespace, so the port is free.
    let engine = Engine::options()
        .flag("--host")
        .flag("tcp://127.0.0.1:2375")
        .start();
    let net = format!("--net={}", engine.netns().path().display());
    let output = std::process::Command::new("nsenter")
        .args([
            net.as_str(),
            "docker",
            "-H",
            "tcp://127.0.0.1:2375",
            "version",
            "--format",
            "{{.Server.Os}}",
        ])
        .env("DOCKER_CONFIG", engine.dir().join("cli"))
        .output()
        .expect("nsenter runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "linux\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_pid_file_names_the_daemon_and_goes_with_it() {
    let mut engine = Engine::empty();
    let file = engine.dir().join("daemon.pid");
    assert_eq!(
        std::fs::read_to_string(&file).expect("a pid file").trim(),
        engine.pid().to_string()
    );
    engine.stop_daemon();
    assert!(!file.exists());
    engine.start_daemon();
}

#[test]
fn sigterm_stops_containers_and_ends_cleanly() {
    let mut engine = Engine::start();
    engine.docker_ok(&[
        "run",
        "-d",
        "--name",
        "cc",
        BUSYBOX,
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.05; done",
    ]);
    engine.stop_daemon();
    engine.start_daemon();
    assert_eq!(engine.inspect("cc", "{{.State.Running}}"), "false");
}

#[test]
fn labels_and_settings_come_from_daemon_json() {
    let dir = std::env::temp_dir().join(format!("wharf-e2e-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("daemon.json");
    std::fs::write(
        &file,
        r#"{"labels": ["zone=a"], "log-opts": {"max-size": "7m"}}"#,
    )
    .expect("a config file");
    let engine = Engine::options()
        .flag("--config-file")
        .flag(file.to_str().expect("a plain path"))
        .start();
    assert_eq!(
        engine.api().get("/info").json()["Labels"],
        json!(["zone=a"])
    );
    engine.load("busybox.tar");
    engine.docker_ok(&["create", "--name", "cc", BUSYBOX]);
    assert_eq!(
        engine.inspect("cc", "{{json .HostConfig.LogConfig.Config}}"),
        r#"{"max-size":"7m"}"#
    );
    drop(engine);
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn containers_images_and_names_survive_a_restart_of_the_daemon() {
    let mut engine = Engine::start();
    let id = engine.docker_ok(&[
        "create", "--name", "kept", "-e", "A=1", BUSYBOX, "echo", "hello",
    ]);
    engine.stop_daemon();
    engine.start_daemon();
    assert_eq!(engine.inspect("kept", "{{.Id}}"), id);
    assert_eq!(engine.docker_ok(&["start", "-a", "kept"]), "hello");
}
