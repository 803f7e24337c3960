//! A volume driver of somebody else's, over Docker's plugin protocol.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::plugin::Plugin;

/// The driver: one directory for all its volumes, and a note of what it was asked.
struct Driver {
    plugin: Plugin,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Driver {
    fn start(engine: &Engine) -> Driver {
        let data = engine.dir().join("driver");
        std::fs::create_dir(&data).expect("created");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let noted = calls.clone();
        let mut volumes = vec!["foreign".to_owned()];
        let plugin = Plugin::start(&engine.plugins(), "VolumeDriver", move |method, body| {
            answer(method, body, &data, &mut volumes, &noted)
        });
        Driver { plugin, calls }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().expect("not poisoned"))
    }
}

fn answer(
    method: &str,
    body: &Value,
    data: &Path,
    volumes: &mut Vec<String>,
    calls: &Mutex<Vec<String>>,
) -> Value {
    let name = body["Name"].as_str().unwrap_or_default().to_owned();
    calls.lock().expect("not poisoned").push(format!(
        "{} {name}",
        method.trim_start_matches("/VolumeDriver.")
    ));
    let shown = |name: &str| json!({"Name": name, "Mountpoint": data, "Status": {"state": "fine"}});
    match method {
        "/VolumeDriver.Create" if body["Opts"]["fail"] == "yes" => json!({"Err": "told to fail"}),
        "/VolumeDriver.Create" => {
            volumes.push(name);
            json!({"Err": ""})
        }
        "/VolumeDriver.Remove" => {
            volumes.retain(|known| *known != name);
            json!({"Err": ""})
        }
        "/VolumeDriver.Mount" | "/VolumeDriver.Path" => json!({"Mountpoint": data, "Err": ""}),
        "/VolumeDriver.Get" if volumes.contains(&name) => {
            json!({"Volume": shown(&name), "Err": ""})
        }
        "/VolumeDriver.Get" => json!({"Err": "no such volume"}),
        "/VolumeDriver.List" => {
            json!({"Volumes": volumes.iter().map(|name| shown(name)).collect::<Vec<_>>(), "Err": ""})
        }
        "/VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": "global"}}),
        _ => json!({"Err": ""}),
    }
}

fn engine() -> Engine {
    let engine = Engine::options().own_plugins().start();
    engine.load("busybox.tar");
    engine
}

#[test]
fn a_driver_is_asked_for_everything_about_its_volumes() {
    let engine = engine();
    let driver = Driver::start(&engine);
    let d = driver.plugin.name();
    assert_eq!(
        engine.docker_ok(&["volume", "create", "-d", d, "-o", "k=v", "theirs"]),
        "theirs"
    );
    let shown = engine.docker_ok(&[
        "volume",
        "inspect",
        "-f",
        "{{.Driver}} {{.Scope}} {{.Options.k}} {{.Status.state}}",
        "theirs",
    ]);
    assert_eq!(shown, format!("{d} global v fine"));
    let _ = driver.calls();
    assert_eq!(
        engine.run(
            &["-v", "theirs:/t"],
            &["sh", "-c", "echo written >/t/f; cat /t/f"]
        ),
        "written"
    );
    assert_eq!(
        std::fs::read_to_string(engine.dir().join("driver/f")).expect("there"),
        "written\n"
    );
    wharf_e2e::deadline::wait_until(
        "the driver to be told of the end",
        wharf_e2e::deadline::LONG,
        || {
            driver
                .calls
                .lock()
                .expect("not poisoned")
                .iter()
                .any(|call| call == "Unmount theirs")
        },
    );
    assert!(driver.calls().contains(&"Mount theirs".to_owned()));
    engine.docker_ok(&["create", "--name", "user", "-v", "theirs:/t", BUSYBOX]);
    assert_eq!(
        engine.inspect("user", "{{range .Mounts}}{{.Name}} {{.Driver}}{{end}}"),
        format!("theirs {d}")
    );
    assert!(
        engine
            .docker_fails(&["volume", "rm", "theirs"], 1)
            .contains("volume is in use")
    );
    engine.docker_ok(&["rm", "user"]);
    engine.docker_ok(&["volume", "rm", "theirs"]);
    assert!(driver.calls().contains(&"Remove theirs".to_owned()));
    let message = engine.docker_fails(&["volume", "create", "-d", d, "-o", "fail=yes", "bad"], 1);
    assert!(message.contains("told to fail"), "{message}");
    assert_eq!(
        engine.run(&["--volume-driver", d, "-v", "fresh:/t"], &["ls", "/t"]),
        "f"
    );
    assert!(
        engine
            .docker_ok(&["info", "-f", "{{.Plugins.Volume}}"])
            .contains(d)
    );
    engine.docker_ok(&["volume", "rm", "fresh"]);
}

#[test]
fn volumes_made_elsewhere_are_volumes() {
    let engine = engine();
    if engine.is_reference() {
        return; // it waits half a minute for a driver that has gone
    }
    let driver = Driver::start(&engine);
    let d = driver.plugin.name();
    engine.docker_ok(&["volume", "create", "own"]);
    let listed = engine.docker_ok(&[
        "volume",
        "ls",
        "--format",
        "{{.Driver}} {{.Name}} {{.Scope}}",
    ]);
    assert_eq!(listed, format!("{d} foreign global\nlocal own local"));
    assert_eq!(
        engine.docker_ok(&["volume", "ls", "-q", "-f", &format!("driver={d}")]),
        "foreign"
    );
    assert_eq!(
        engine.docker_ok(&[
            "volume",
            "inspect",
            "-f",
            "{{.Driver}} {{.Status.state}}",
            "foreign"
        ]),
        format!("{d} fine")
    );
    assert_eq!(
        engine.run(&["-v", "foreign:/t"], &["sh", "-c", "echo x >/t/f; ls /t"]),
        "f"
    );
    assert!(engine.dir().join("driver/f").exists());
    let conflict = engine.docker_fails(&["volume", "create", "-d", "local", "foreign"], 1);
    assert!(
        conflict.contains(&format!("driver '{d}' already has volume 'foreign'")),
        "{conflict}"
    );
    engine.docker_ok(&["volume", "rm", "foreign"]);
    assert!(driver.calls().contains(&"Remove foreign".to_owned()));
    assert!(
        engine
            .docker_fails(&["volume", "inspect", "foreign"], 1)
            .contains("no such volume")
    );
    // A driver that has gone: its volumes are shown as remembered, and can be forgotten.
    engine.docker_ok(&["volume", "create", "-d", d, "left"]);
    drop(driver);
    assert_eq!(engine.docker_ok(&["volume", "ls", "-q"]), "left\nown");
    assert_eq!(engine.docker(&["volume", "rm", "left"]).code, 1);
    engine.docker_ok(&["volume", "rm", "-f", "left"]);
    assert_eq!(engine.docker_ok(&["volume", "ls", "-q"]), "own");
}

#[test]
fn a_failed_create_leaves_no_volume_behind() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "device=/no/such/place",
        "-o",
        "o=bind",
        "broken",
    ]);
    // The image has something there, so the volume is looked at; the anonymous one is made before.
    let message = engine.docker_fails(
        &[
            "create",
            "--name",
            "half",
            "-v",
            "/aaa",
            "-v",
            "broken:/etc",
            BUSYBOX,
        ],
        1,
    );
    assert!(
        message.contains("failed to mount local volume")
            && message.contains("no such file or directory"),
        "{message}"
    );
    assert_eq!(engine.docker_ok(&["volume", "ls", "-q"]), "broken");
    assert_eq!(engine.docker_ok(&["ps", "-aq"]), "");
    // Where the image has nothing, only the start fails.
    engine.docker_ok(&[
        "create",
        "--name",
        "later",
        "-v",
        "broken:/nothing",
        BUSYBOX,
    ]);
    let message = engine.docker_fails(&["start", "later"], 1);
    assert!(message.contains("error while mounting volume"), "{message}");
}
