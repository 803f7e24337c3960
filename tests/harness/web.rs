//! A web server in a container, and everybody who asks it.

use crate::deadline::{LONG, wait_until};
use crate::engine::Engine;
use crate::netns::NetNs;

/// Answers every request on port 80 with `hello`.
const SERVER: &str = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www";

/// A container with a web server that listens on port 80: its id.
pub fn server(engine: &Engine, flags: &[&str]) -> String {
    let id = engine.run_detached(flags, &["sh", "-c", SERVER]);
    wait_until("the server to listen", LONG, || {
        let sockets = engine.docker_ok(&["exec", &id, "netstat", "-lnt"]);
        sockets.contains(":80 ")
    });
    id
}

/// What `curl` gets from a machine; empty when it gets nothing.
#[must_use]
pub fn get(machine: &NetNs, address: &str) -> String {
    get_within(machine, address, "5")
}

/// Whether a machine gets nothing: after a refusal, or a second of silence.
#[must_use]
pub fn is_out_of_reach(machine: &NetNs, address: &str) -> bool {
    get_within(machine, address, "1").is_empty()
}

fn get_within(machine: &NetNs, address: &str, seconds: &str) -> String {
    let output = machine
        .command("curl".as_ref())
        .args([
            "--silent",
            "--max-time",
            seconds,
            &format!("http://{address}/"),
        ])
        .output()
        .expect("curl runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What a container gets.
#[must_use]
pub fn get_inside(engine: &Engine, id: &str, host: &str, port: u16) -> String {
    let script =
        format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc {host} {port} | tail -n 1");
    engine.docker_ok(&["exec", id, "sh", "-c", &script])
}
