//! Refusals: status and wording that clients and scripts match on.

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

/// Debian's dockerd 20.10 answers 500 to some of what is the client's fault; later versions say 400.
fn expected_status(engine: &Engine, answered: u16, status: u16) -> u16 {
    if engine.is_reference() && answered == 500 && status == 400 {
        500
    } else {
        status
    }
}

fn check(
    engine: &Engine,
    method: &str,
    target: &str,
    body: Option<Value>,
    status: u16,
    message: &str,
) {
    let answer = engine.api().request(method, target, body.as_ref());
    let status = expected_status(engine, answer.status(), status);
    assert_eq!(
        (answer.status(), answer.message().as_str()),
        (status, message),
        "{method} {target}"
    );
}

#[test]
fn unknown_objects_are_404_with_their_name() {
    let engine = Engine::start();
    for (method, path) in [
        ("GET", "/json"),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("POST", "/restart"),
        ("POST", "/wait"),
        ("GET", "/logs?stdout=1"),
        ("GET", "/top"),
        ("POST", "/rename?name=x"),
        ("POST", "/resize?h=1&w=1"),
    ] {
        check(
            &engine,
            method,
            &format!("/containers/nope{path}"),
            None,
            404,
            "No such container: nope",
        );
    }
    check(
        &engine,
        "DELETE",
        "/containers/nope",
        None,
        404,
        "No such container: nope",
    );
    check(
        &engine,
        "GET",
        "/images/nope/json",
        None,
        404,
        engine.wording(
            "No such image: nope:latest",
            "no such image: nope: No such image: nope:latest",
        ),
    );
    check(
        &engine,
        "DELETE",
        "/images/nope",
        None,
        404,
        "No such image: nope:latest",
    );
    check(
        &engine,
        "GET",
        "/images/nope/history",
        None,
        404,
        "No such image: nope:latest",
    );
    check(
        &engine,
        "GET",
        "/images/nope:tag/json",
        None,
        404,
        engine.wording(
            "No such image: nope:tag",
            "no such image: nope:tag: No such image: nope:tag",
        ),
    );
    check(
        &engine,
        "GET",
        "/networks/nope",
        None,
        404,
        "network nope not found",
    );
}

#[test]
fn killing_an_unknown_container_says_what_was_tried() {
    let engine = Engine::empty();
    let message = engine.wording(
        "cannot kill container: nope: No such container: nope",
        "Cannot kill container: nope: No such container: nope",
    );
    check(&engine, "POST", "/containers/nope/kill", None, 404, message);
}

#[test]
fn creating_from_an_unknown_image_is_404() {
    let engine = Engine::start();
    check(
        &engine,
        "POST",
        "/containers/create",
        Some(json!({"Image": "nope", "Cmd": ["true"]})),
        404,
        "No such image: nope:latest",
    );
    check(
        &engine,
        "POST",
        "/containers/create",
        Some(json!({"Image": "nope:1.2", "Cmd": ["true"]})),
        404,
        "No such image: nope:1.2",
    );
}

#[test]
fn a_bad_reference_is_400() {
    let engine = Engine::start();
    let create = |image: &str, message: &str| {
        let body = json!({"Image": image, "Cmd": ["true"]});
        check(
            &engine,
            "POST",
            "/containers/create",
            Some(body),
            400,
            message,
        );
    };
    let upper = engine.wording(
        "invalid reference format: repository name (library/Upper) must be lowercase",
        "invalid reference format: repository name must be lowercase",
    );
    create("Upper", upper);
    create("a b", "invalid reference format");
    check(
        &engine,
        "POST",
        "/images/busybox/tag?repo=a:b:c&tag=x",
        None,
        400,
        "invalid reference format",
    );
}

#[test]
fn bad_json_is_400() {
    let engine = Engine::start();
    let answer = engine
        .api()
        .post_bytes("/containers/create", "application/json", b"{not json");
    assert_eq!(
        answer.status(),
        expected_status(&engine, answer.status(), 400)
    );
    assert!(
        answer.message().starts_with(engine.wording(
            "invalid JSON: invalid character 'n' looking for beginning of object key string",
            "invalid character 'n' looking for beginning of object key string"
        )),
        "{}",
        answer.message()
    );
}

#[test]
fn a_missing_body_is_400() {
    let engine = Engine::start();
    let answer = engine
        .api()
        .post_bytes("/containers/create", "application/json", b"");
    assert_eq!(
        (answer.status(), answer.message().as_str()),
        (
            expected_status(&engine, answer.status(), 400),
            engine.wording("invalid JSON: got EOF while reading request body", "EOF")
        )
    );
}

#[test]
fn a_body_of_another_type_is_refused() {
    let engine = Engine::start();
    let answer = engine
        .api()
        .post_bytes("/containers/create", "text/plain", b"{}");
    assert_eq!(answer.status(), 400, "{}", answer.text());
}

#[test]
fn a_container_without_config_or_command_is_400() {
    let engine = Engine::start();
    engine.load_bytes(
        &wharf_e2e::archive::Image::new(
            "bare:1",
            vec![wharf_e2e::archive::TarFile::new().dir("x").finish()],
        )
        .with("Cmd", Value::Null)
        .docker_archive(),
    );
    check(
        &engine,
        "POST",
        "/containers/create",
        Some(json!({"Image": "bare:1"})),
        400,
        engine.wording("no command specified", "No command specified"),
    );
}

#[test]
fn a_taken_name_is_409() {
    let engine = Engine::start();
    let id = engine.docker_ok(&["create", "--name", "taken", BUSYBOX, "true"]);
    let message = format!(
        "Conflict. The container name \"/taken\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    check(
        &engine,
        "POST",
        "/containers/create?name=taken",
        Some(json!({"Image": BUSYBOX, "Cmd": ["true"]})),
        409,
        &message,
    );
}

#[test]
fn a_malformed_name_is_400() {
    let engine = Engine::start();
    let message = "Invalid container name (-bad), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
    check(
        &engine,
        "POST",
        "/containers/create?name=-bad",
        Some(json!({"Image": BUSYBOX, "Cmd": ["true"]})),
        400,
        message,
    );
}

#[test]
fn an_ambiguous_prefix_is_refused() {
    let engine = Engine::start();
    // With seventeen ids two share their first digit.
    let ids: Vec<String> = (0..17)
        .map(|_| engine.create(&json!({"Image": BUSYBOX, "Cmd": ["true"]})))
        .collect();
    let twice = ids
        .iter()
        .map(|id| &id[..1])
        .find(|d| ids.iter().filter(|i| i.starts_with(*d)).count() > 1)
        .expect("seventeen ids, sixteen digits");
    let answer = engine.api().get(&format!("/containers/{twice}/json"));
    assert_eq!(
        answer.status(),
        expected_status(&engine, answer.status(), 400),
        "{}",
        answer.text()
    );
    assert!(
        answer.message().to_lowercase().contains(twice),
        "{}",
        answer.text()
    );
}

#[test]
fn an_unknown_page_is_404() {
    let engine = Engine::empty();
    check(&engine, "GET", "/no/such/page", None, 404, "page not found");
    check(
        &engine,
        "GET",
        "/v1.40/nothing",
        None,
        404,
        "page not found",
    );
}

#[test]
fn versions_out_of_range_are_400() {
    let engine = Engine::empty();
    check(
        &engine,
        "GET",
        "/v9.99/_ping",
        None,
        400,
        engine.wording(
            "client version 9.99 is too new. Maximum supported API version is 1.51",
            "client version 9.99 is too new. Maximum supported API version is 1.41",
        ),
    );
    let old = engine.api().get("/v1.1/version");
    assert_eq!(old.status(), 400);
    assert!(
        old.text()
            .contains("client version 1.1 is too old. Minimum supported API version is 1."),
        "{}",
        old.text()
    );
}

#[test]
fn bad_filters_are_400() {
    let engine = Engine::start();
    for path in ["/containers/json", "/images/json"] {
        let broken = engine.api().get(&format!("{path}?filters=%7Bbroken"));
        assert_eq!(
            broken.status(),
            expected_status(&engine, broken.status(), 400),
            "{path}: {}",
            broken.text()
        );
        let unknown = engine
            .api()
            .get(&format!("{path}?filters=%7B%22bogus%22%3A%5B%22x%22%5D%7D"));
        let message = engine.wording("invalid filter 'bogus'", "Invalid filter 'bogus'");
        assert_eq!(
            (unknown.status(), unknown.message().as_str()),
            (400, message),
            "{path}"
        );
    }
}

#[test]
fn resource_values_out_of_range_are_400() {
    let engine = Engine::start();
    let refused = |host_config: Value, message: &str| {
        check(
            &engine,
            "POST",
            "/containers/create",
            Some(json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": host_config})),
            400,
            message,
        );
    };
    refused(
        json!({"Memory": 1024}),
        "Minimum memory limit allowed is 6MB",
    );
    refused(
        json!({"Memory": 8_000_000, "MemorySwap": 7_000_000}),
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    );
    refused(
        json!({"MemorySwap": 8_000_000}),
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    );
    refused(
        json!({"CpuPeriod": 10}),
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    );
    refused(
        json!({"CpuQuota": 10}),
        "CPU cfs quota can not be less than 1ms (i.e. 1000)",
    );
    refused(
        json!({"NanoCpus": 1_000_000, "CpuPeriod": 100_000}),
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    );
    refused(
        json!({"NetworkMode": "container:"}),
        engine.wording(
            "invalid network mode: invalid container format container:<name|id>",
            "Invalid network mode: invalid container format container:<name|id>",
        ),
    );
}

#[test]
fn auto_remove_and_restart_policy_conflict() {
    let engine = Engine::start();
    let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}});
    check(
        &engine,
        "POST",
        "/containers/create",
        Some(body),
        400,
        "can't create 'AutoRemove' container with restart policy",
    );
}

#[test]
fn the_cli_shows_the_daemons_words() {
    let engine = Engine::start();
    let shows = |args: &[&str], words: &str| {
        // What stands before and after them differs between versions of the CLI.
        let stderr = engine.docker_fails(args, 1);
        assert!(stderr.contains(words), "docker {args:?}: {stderr}");
    };
    shows(&["start", "nope"], "No such container: nope");
    shows(&["rm", "nope"], "No such container: nope");
    shows(&["rmi", "nope"], "No such image: nope:latest");
    let stderr = engine.docker_fails(&["inspect", "nope"], 1);
    assert!(
        stderr
            .to_lowercase()
            .contains("error: no such object: nope"),
        "{stderr}"
    );
}

#[test]
fn pulling_without_a_registry_is_an_error() {
    let engine = Engine::empty();
    let output = engine.docker(&["run", "--rm", "localhost:1/nope", "true"]);
    assert_eq!(output.code, 125, "{output:?}");
}

#[test]
fn a_request_that_is_not_http_is_400_and_harmless() {
    let engine = Engine::empty();
    let mut connection = engine.api().connect();
    connection
        .send_raw(b"\x00\x01nonsense\r\n\r\n")
        .expect("bytes");
    assert_eq!(connection.read_head().map(|h| h.status).unwrap_or(400), 400);
    assert!(engine.api().answers());
}
