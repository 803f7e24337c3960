//! SIGHUP.

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};

fn reload(engine: &Engine, file: &std::path::Path, config: &Value) {
    std::fs::write(file, config.to_string()).expect("the file");
    let pid =
        rustix::process::Pid::from_raw(i32::try_from(engine.pid()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("a signal");
}

#[test]
fn a_reload_changes_what_dockerds_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("daemon.json");
    std::fs::write(&file, json!({"labels": ["a=1"]}).to_string()).expect("the file");
    let engine = Engine::options()
        .flag("--config-file")
        .flag(file.to_str().expect("text"))
        .start();
    let info = || engine.api().get("/info").json();
    assert_eq!(info()["Labels"], json!(["a=1"]));
    reload(
        &engine,
        &file,
        &json!({"labels": ["b=2"], "debug": true, "live-restore": true, "runtimes": {"other": {"path": "/bin/false"}},
            "default-runtime": "other", "mtu": 1300}),
    );
    wait_until("the new settings", LONG, || {
        info()["Labels"] == json!(["b=2"])
    });
    let now = info();
    assert_eq!(
        (
            &now["Debug"],
            &now["LiveRestoreEnabled"],
            &now["DefaultRuntime"]
        ),
        (&json!(true), &json!(true), &json!("other"))
    );
    assert_eq!(now["Runtimes"]["other"]["path"], "/bin/false");
    let time = engine.docker_ok(&["info", "--format", "{{.SystemTime}}"]);
    let told = engine.docker_ok(&[
        "events",
        "--since",
        "1",
        "--until",
        &time,
        "--filter",
        "type=daemon",
        "--format",
        "{{json .Actor.Attributes}}",
    ]);
    let told: Value = serde_json::from_str(&told).expect("one event");
    assert_eq!(
        (
            &told["labels"],
            &told["default-runtime"],
            &told["max-concurrent-downloads"]
        ),
        (&json!("[\"b=2\"]"), &json!("other"), &json!("3"))
    );
    // What is wrong changes nothing.
    reload(
        &engine,
        &file,
        &json!({"labels": ["c=3"], "default-runtime": "absent"}),
    );
    reload(
        &engine,
        &file,
        &json!({"debug": false, "default-runtime": "runc"}),
    );
    wait_until("the last settings", LONG, || {
        info()["Debug"] == json!(false)
    });
    assert_eq!(info()["Labels"], json!(["b=2"]));
}
