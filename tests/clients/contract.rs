//! What Testcontainers of all languages expect of an engine beyond the calls themselves, and the reaper on its own.

use std::path::Path;

use serde_json::json;
use wharf_e2e::Engine;
use wharf_e2e::cli::Running;
use wharf_e2e::deadline::{LONG, wait_until};

use crate::shop::engine;

const LABEL: &str = "org.testcontainers.session-id=one";

/// Everything with the label, and one of each kind without.
fn fill(engine: &Engine) {
    for (label, name) in [(LABEL, "mine"), ("other=1", "theirs")] {
        engine.docker_ok(&["network", "create", "--label", label, name]);
        engine.docker_ok(&["volume", "create", "--label", label, name]);
        let volume = format!("{name}:/data");
        let flags = [
            "run",
            "-d",
            "--name",
            name,
            "--label",
            label,
            "--network",
            name,
            "-v",
            &volume,
        ];
        engine.docker_ok(&[&flags[..], &["busybox", "sleep", "1000"]].concat());
        engine.docker_ok(&["commit", "--change", &format!("LABEL {label}"), name, name]);
    }
}

#[test]
fn the_reaper_removes_what_its_clients_named_and_itself() {
    let engine = engine();
    fill(&engine);
    let socket = format!("{}:/var/run/docker.sock", engine.socket().display());
    let reaper = engine.docker_ok(&[
        "run",
        "-d",
        "--rm",
        "-v",
        &socket,
        "-p",
        "8080",
        "-e",
        "RYUK_RECONNECTION_TIMEOUT=0s",
        "testcontainers/ryuk:0.8.1",
    ]);
    let port = engine.inspect(
        &reaper,
        r#"{{(index .NetworkSettings.Ports "8080/tcp" 0).HostPort}}"#,
    );
    // `busybox nc` stands for the client: the port is in the engine's network namespace.
    let mut client = engine.netns().command(Path::new("/bin/busybox"));
    let mut client = Running::start(client.args(["nc", "127.0.0.1", &port]));
    client.write(format!("label={LABEL}\n").as_bytes());
    wait_until("the reaper's note of the filter", LONG, || {
        engine.docker_ok(&["logs", &reaper]).contains(LABEL)
    });
    let said = client.finish();
    assert_eq!(said.stdout, "ACK\n", "{said:?}");
    wait_until("the end of the reaper", LONG, || {
        engine.docker(&["inspect", &reaper]).code != 0
    });
    for kind in ["container", "network", "volume", "image"] {
        assert_ne!(engine.docker(&[kind, "inspect", "mine"]).code, 0, "{kind}");
        assert_eq!(
            engine.docker(&[kind, "inspect", "theirs"]).code,
            0,
            "{kind}"
        );
    }
    engine.docker_ok(&["rm", "-f", "theirs"]);
    engine.docker_ok(&["network", "rm", "theirs"]);
}

#[test]
fn ports_are_told_right_after_the_start_and_are_the_same_for_both_families() {
    let engine = engine();
    let id = engine.create(&json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": ""}]}},
    }));
    let _ = engine
        .api()
        .post_empty(&format!("/containers/{id}/start"))
        .expect(204);
    let inspect = engine
        .api()
        .get(&format!("/containers/{id}/json"))
        .expect(200)
        .json();
    let ports = &inspect["NetworkSettings"]["Ports"];
    let bindings = ports["80/tcp"].as_array().expect("bindings");
    let hosts: Vec<&str> = bindings
        .iter()
        .filter_map(|b| b["HostIp"].as_str())
        .collect();
    assert_eq!(hosts, ["0.0.0.0", "::"]);
    assert_eq!(bindings[0]["HostPort"], bindings[1]["HostPort"]);
    assert_ne!(bindings[0]["HostPort"], "");
    assert!(ports["81/tcp"].is_null() && ports.as_object().expect("a map").contains_key("81/tcp"));
    let bridge = engine.api().get("/networks/bridge").expect(200).json();
    assert!(
        bridge["IPAM"]["Config"][0]["Gateway"].is_string(),
        "{bridge}"
    );
}

#[test]
fn refusals_have_the_codes_and_texts_that_clients_match() {
    let engine = engine();
    let api = engine.api();
    let body = json!({"Image": "busybox", "Cmd": ["true"]});
    let id = api
        .post("/containers/create?name=taken", &body)
        .expect(201)
        .json()["Id"]
        .clone();
    let taken = api.post("/containers/create?name=taken", &body).expect(409);
    let id = id.as_str().expect("an id");
    assert_eq!(
        taken.message(),
        format!(
            "Conflict. The container name \"/taken\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    let none = api.get("/containers/nope/json").expect(404);
    assert_eq!(none.message(), "No such container: nope");
    let _ = api
        .post("/containers/create", &json!({"Image": "nope"}))
        .expect(404);
    let _ = api.get("/images/nope/json").expect(404);
    let file = api.get("/containers/taken/archive?path=/nope").expect(404);
    assert_eq!(
        file.message(),
        "Could not find the file /nope in container taken"
    );
    let _ = api.post_empty("/containers/taken/stop").expect(304);
    let _ = api.delete("/containers/taken?force=1&v=1").expect(204);
    let _ = api.delete("/containers/taken?force=1&v=1").expect(404);
}

#[test]
fn requests_of_old_releases_are_understood() {
    let engine = engine();
    for version in ["/v1.32", "/v1.44"] {
        let api = engine.api();
        let _ = api.get(&format!("{version}/_ping")).expect(200);
        let info = api.get(&format!("{version}/info")).expect(200).json();
        for field in [
            "ServerVersion",
            "OperatingSystem",
            "IndexServerAddress",
            "OSType",
            "Architecture",
        ] {
            assert!(
                info[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field}"
            );
        }
        assert!(
            info["MemTotal"].as_u64() > Some(0) && info["Labels"].is_array(),
            "{info}"
        );
    }
}

#[test]
fn logs_follow_the_terminal_and_a_negative_tail_means_all() {
    let engine = engine();
    for tty in [false, true] {
        let id = engine.create(&json!({"Image": "busybox", "Cmd": ["echo", "hi"], "Tty": tty}));
        let _ = engine
            .api()
            .post_empty(&format!("/containers/{id}/start"))
            .expect(204);
        let _ = engine
            .api()
            .post_empty(&format!("/containers/{id}/wait"))
            .expect(200);
        let target = format!("/containers/{id}/logs?stdout=1&stderr=1&tail=-1");
        let expected: &[u8] = match tty {
            true => b"hi\r\n",
            false => b"\x01\0\0\0\0\0\0\x03hi\n",
        };
        assert_eq!(engine.api().get(&target).expect(200).body, expected);
    }
}
