//! A daemon inside a container, with bridges, rules and ports of its own.

use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::engine::wharf_program;
use wharf_e2e::images::{self, BUSYBOX};
use wharf_e2e::lan::Lan;
use wharf_e2e::web::get;
use wharf_e2e::{Engine, Kind};

/// The web server of the inner container.
const SERVER: &str = "mkdir /www; echo inner > /www/index.html; exec httpd -f -p 80 -h /www";

#[test]
fn a_daemon_in_a_container_runs_and_publishes() {
    let engine = Engine::options().kind(Kind::Wharf).start();
    engine.load("busybox.tar");
    std::fs::write(
        engine.dir().join("busybox.tar"),
        images::archive("busybox.tar"),
    )
    .expect("write a file");
    let binary = format!("{}:/usr/bin/wharf:ro", wharf_program().display());
    let archive = format!(
        "{}:/busybox.tar:ro",
        engine.dir().join("busybox.tar").display()
    );
    let flags = [
        "--name",
        "outer",
        "--privileged",
        "-p",
        "8080:8080",
        "-v",
        &binary,
        "-v",
        &archive,
        "--tmpfs",
        "/var/lib/wharf",
        "--tmpfs",
        "/run",
    ];
    engine.run_detached(&flags, &["wharf", "daemon"]);
    let inner = |args: &[&str]| {
        let args: Vec<&str> = ["exec", "outer", "wharf"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        engine.docker_ok(&args)
    };
    wait_until("the inner daemon", LONG, || {
        engine
            .docker(&["exec", "outer", "test", "-S", "/run/wharf/wharf.sock"])
            .code
            == 0
    });
    inner(&["load", "-i", "/busybox.tar"]);
    // The outer bridge's network is on the inner host's route: the inner bridge takes another one.
    inner(&[
        "run", "-d", "--name", "web", "-p", "8080:80", BUSYBOX, "sh", "-c", SERVER,
    ]);
    let lan = Lan::around(&engine);
    for address in ["127.0.0.1:8080", "192.0.2.1:8080"] {
        wait_until("an answer from within", LONG, || {
            get(engine.netns(), address) == "inner"
        });
    }
    wait_until("an answer to another machine", LONG, || {
        get(&lan.remote, "192.0.2.1:8080") == "inner"
    });
    inner(&["network", "create", "net"]);
    inner(&[
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "net",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let out = inner(&[
        "run",
        "--rm",
        "--network",
        "net",
        BUSYBOX,
        "ping",
        "-c1",
        "-W5",
        "db",
    ]);
    assert!(out.contains("1 packets received"), "{out}");
    // And out of both: translated twice.
    let out = inner(&["exec", "web", "ping", "-c1", "-W5", "198.51.100.2"]);
    assert!(out.contains("1 packets received"), "{out}");
    inner(&["rm", "-f", "web", "db"]);
    engine.docker_ok(&["rm", "-f", "outer"]);
}
