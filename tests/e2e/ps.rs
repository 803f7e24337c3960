//! `docker ps` and its filters.

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;

/// web: running, labels; job: exited 3; fresh: created.
fn with_three() -> Engine {
    let engine = Engine::start();
    engine.run_detached(
        &[
            "--name",
            "web",
            "-l",
            "tier=front",
            "-l",
            "plain",
            "--expose",
            "80",
        ],
        &["sleep", "1000"],
    );
    let _ = engine.docker(&[
        "run",
        "--name",
        "job",
        "-l",
        "tier=back",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "exit 3",
    ]);
    engine.docker_ok(&["create", "--name", "fresh", BUSYBOX, "true"]);
    engine
}

fn names(engine: &Engine, args: &[&str]) -> Vec<String> {
    let mut all = vec!["ps", "--format", "{{.Names}}"];
    all.extend_from_slice(args);
    engine.docker_ok(&all).lines().map(str::to_owned).collect()
}

#[test]
fn only_running_containers_unless_all_newest_first() {
    let engine = with_three();
    assert_eq!(names(&engine, &[]), ["web"]);
    assert_eq!(names(&engine, &["-a"]), ["fresh", "job", "web"]);
    assert_eq!(names(&engine, &["-n", "2"]), ["fresh", "job"]);
    assert_eq!(names(&engine, &["-l"]), ["fresh"]);
}

#[test]
fn filters_select() {
    let engine = with_three();
    let check = |filters: &[&str], expected: &[&str]| {
        let mut args = vec!["-a"];
        for filter in filters {
            args.extend_from_slice(&["-f", filter]);
        }
        assert_eq!(names(&engine, &args), expected, "{filters:?}");
    };
    let web = engine.inspect("web", "{{.Id}}");
    check(&["name=web"], &["web"]);
    check(&["name=^/we"], &["web"]);
    check(&["name=e"], &["fresh", "web"]);
    check(&["name=web", "name=job"], &["job", "web"]);
    check(&[&format!("id={}", &web[..12])], &["web"]);
    check(&["label=tier"], &["job", "web"]);
    check(&["label=tier=back"], &["job"]);
    check(&["label=tier", "label=plain"], &["web"]);
    check(&["status=running"], &["web"]);
    check(&["status=exited"], &["job"]);
    check(&["status=created", "status=exited"], &["fresh", "job"]);
    check(&["exited=3"], &["job"]);
    check(&["exited=0"], &[]);
    check(&["ancestor=busybox"], &["fresh", "job", "web"]);
    check(&["ancestor=other"], &[]);
    check(&["before=job"], &["web"]);
    check(&["since=job"], &["fresh"]);
    check(&["network=none"], &["job"]);
    check(&["network=bridge", "status=running"], &["web"]);
    check(&["expose=80"], &["web"]);
    check(&["expose=70-90/tcp"], &["web"]);
    check(&["expose=80/udp"], &[]);
    check(&["publish=80"], &[]);
    check(&["publish=1", "expose=80"], &["web"]);
    check(&["isolation=default"], &["fresh", "job", "web"]);
    check(&["isolation=other"], &["fresh", "job", "web"]);
    check(&["health=none"], &["fresh", "job", "web"]);
    check(&["volume=/nothing"], &[]);
}

#[test]
fn bad_filter_values_are_refused() {
    let engine = with_three();
    let get = |filters: Value| {
        let encoded: String = filters
            .to_string()
            .bytes()
            .map(|b| format!("%{b:02X}"))
            .collect();
        engine
            .api()
            .get(&format!("/containers/json?all=1&filters={encoded}"))
    };
    if !engine.is_reference() {
        // Debian's dockerd 20.10 answers 500.
        assert_eq!(get(json!({"status": ["flying"]})).status(), 400);
        assert_eq!(get(json!({"exited": ["soon"]})).status(), 400);
    }
    assert!(get(json!({"since": ["nope"]})).status() >= 400);
    assert_eq!(
        get(json!({"label": {"tier=back": true}}))
            .expect(200)
            .json()
            .as_array()
            .map(Vec::len),
        Some(1),
        "the old encoding"
    );
}

#[test]
fn the_summary_has_dockers_fields() {
    let engine = with_three();
    let list = engine
        .api()
        .get("/containers/json?all=1")
        .expect(200)
        .json();
    let job = list
        .as_array()
        .and_then(|l| l.iter().find(|c| c["Names"] == json!(["/job"])))
        .expect("job is listed");
    assert_eq!(
        (&job["Image"], &job["State"], &job["Command"]),
        (&json!(BUSYBOX), &json!("exited"), &json!("sh -c 'exit 3'"))
    );
    assert!(
        job["Status"]
            .as_str()
            .is_some_and(|s| s.starts_with("Exited (3) ") && s.ends_with(" ago")),
        "{}",
        job["Status"]
    );
    assert_eq!(
        (&job["Labels"], &job["Ports"], &job["Mounts"]),
        (&json!({"tier": "back"}), &json!([]), &json!([]))
    );
    assert_eq!(job["HostConfig"]["NetworkMode"], json!("none"));
    assert!(job["NetworkSettings"]["Networks"].get("none").is_some());
    assert!(
        job["ImageID"]
            .as_str()
            .is_some_and(|i| i.starts_with("sha256:"))
    );
    assert!(job["Created"].is_u64());
    assert!(job.get("SizeRw").is_none());
}

#[test]
fn status_texts_are_dockers() {
    let engine = with_three();
    let status = |name: &str| {
        engine.docker_ok(&[
            "ps",
            "-a",
            "--filter",
            &format!("name={name}"),
            "--format",
            "{{.Status}}",
        ])
    };
    assert_eq!(status("fresh"), "Created");
    assert!(status("job").starts_with("Exited (3) "));
    wait_until("a first second", LONG, || {
        status("web").starts_with("Up ") && status("web").contains("second")
    });
}

#[test]
fn the_table_has_dockers_columns() {
    let engine = with_three();
    let table = engine.docker_ok(&["ps"]);
    let mut lines = table.lines();
    let head: Vec<&str> = lines
        .next()
        .expect("a head")
        .split("  ")
        .map(str::trim)
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(
        head,
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES"
        ]
    );
    let web = lines.next().expect("a line");
    assert!(
        web.contains("\"sleep 1000\"") && web.contains("80/tcp") && web.ends_with("web"),
        "{web}"
    );
}

#[test]
fn quiet_and_no_trunc() {
    let engine = with_three();
    let id = engine.inspect("web", "{{.Id}}");
    assert_eq!(engine.docker_ok(&["ps", "-q"]), id[..12]);
    assert_eq!(engine.docker_ok(&["ps", "-q", "--no-trunc"]), id);
}

#[test]
fn size_is_shown_when_asked_for() {
    let engine = with_three();
    let size = engine.docker_ok(&["ps", "-s", "--format", "{{.Size}}"]);
    assert!(size.starts_with("0B (virtual "), "{size}");
}
