//! `--metrics-addr`: what Prometheus would read.

use std::path::Path;

use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

const ADDRESS: &str = "127.0.0.1:9323";

fn scrape(engine: &Engine, path: &str) -> (bool, String) {
    let output = engine
        .netns()
        .command(Path::new("/bin/busybox"))
        .args(["wget", "-q", "-O", "-", &format!("http://{ADDRESS}{path}")])
        .output()
        .expect("busybox runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

/// The value of the sample `name` (with its labels).
fn sample(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("{name} is not in\n{text}"))
        .parse()
        .expect("a number")
}

#[test]
fn containers_actions_and_events_are_counted() {
    let engine = Engine::options()
        .flag("--metrics-addr")
        .flag(ADDRESS)
        .start();
    engine.load("busybox.tar");
    let (_, before) = scrape(&engine, "/metrics");
    let running = "engine_daemon_container_states_containers{state=\"running\"}";
    let started = "engine_daemon_container_actions_seconds_count{action=\"start\"}";
    assert_eq!(
        (sample(&before, running), sample(&before, started)),
        (0.0, 0.0)
    );
    engine.docker_ok(&["run", "-d", "--name", "mm", BUSYBOX, "sleep", "1000"]);
    let (_, after) = scrape(&engine, "/metrics");
    assert_eq!(
        (sample(&after, running), sample(&after, started)),
        (1.0, 1.0)
    );
    let events = "engine_daemon_events_total";
    assert!(sample(&after, events) >= sample(&before, events) + 2.0);
    assert!(
        after.contains("engine_daemon_engine_info{version=\""),
        "{after}"
    );
    assert!(!scrape(&engine, "/other").0);
}

#[test]
fn a_taken_address_stops_the_daemon_with_a_word_on_it() {
    let engine = Engine::options()
        .flag("--metrics-addr")
        .flag(ADDRESS)
        .start();
    let dir = engine.dir().join("second");
    let path = |name: &str| dir.join(name).display().to_string();
    let output = engine
        .netns()
        .command(&wharf_e2e::engine::wharf_program())
        .args(["daemon", "--metrics-addr", ADDRESS, "--data-root"])
        .args([
            path("data"),
            "--exec-root".into(),
            path("run"),
            "-p".into(),
            path("pid"),
        ])
        .args(["-H".to_owned(), format!("unix://{}", path("sock"))])
        .output()
        .expect("the daemon runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        stderr.contains("failed to listen for metrics on 127.0.0.1:9323"),
        "{stderr}"
    );
}
