//! The reaper that Testcontainers starts beside its containers (Ryuk), as small as its protocol allows: each line from a client is a set of filters
//! and is answered `ACK`; some time after the last client has gone, everything the filters match is removed through the engine's socket.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use wharf_e2e::http::Client;

/// Where Testcontainers mounts the engine's socket.
const SOCKET: &str = "/var/run/docker.sock";

/// A removal that is refused is tried again: another one may be in progress.
const ATTEMPTS: usize = 50;

#[derive(Debug, Default)]
struct Clients {
    connected: usize,
    filters: BTreeSet<String>,
    /// When the last one left.
    left: Option<Instant>,
}

type Shared = Arc<(Mutex<Clients>, Condvar)>;

fn main() {
    let shared = Shared::default();
    let listener = TcpListener::bind("0.0.0.0:8080").expect("port 8080 of a container is free");
    let accepting = Arc::clone(&shared);
    std::thread::spawn(move || accept(&listener, &accepting));
    println!("reaper: listening on port 8080 - Started!");
    let filters = wait_for_the_last(&shared);
    let engine = Engine::connect();
    for filter in filters {
        engine.remove_all(&docker_filters(&filter));
    }
    println!("reaper: done");
}

fn accept(listener: &TcpListener, shared: &Shared) {
    for client in listener.incoming().flatten() {
        change(shared, |clients| clients.connected += 1);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            listen(&client, &shared);
            change(&shared, |clients| {
                clients.connected -= 1;
                clients.left = Some(Instant::now());
            });
        });
    }
}

fn change(shared: &Shared, how: impl FnOnce(&mut Clients)) {
    how(&mut shared.0.lock().expect("no holder panics"));
    shared.1.notify_all();
}

/// Until the client closes.
fn listen(client: &TcpStream, shared: &Shared) {
    for line in BufReader::new(client).lines().map_while(Result::ok) {
        println!("reaper: {line}");
        change(shared, |clients| {
            clients.filters.insert(line.trim().to_owned());
        });
        if (&*client).write_all(b"ACK\n").is_err() {
            return;
        }
    }
}

/// Returns when all clients have been gone for the time that `RYUK_RECONNECTION_TIMEOUT` says.
fn wait_for_the_last(shared: &Shared) -> BTreeSet<String> {
    let patience = seconds("RYUK_RECONNECTION_TIMEOUT", 10);
    let mut clients = shared.0.lock().expect("no holder panics");
    loop {
        let left = clients.left.filter(|_| clients.connected == 0);
        let rest = left.map(|left| patience.saturating_sub(left.elapsed()));
        clients = match rest {
            Some(Duration::ZERO) => return std::mem::take(&mut clients.filters),
            Some(rest) => {
                let waited = shared.1.wait_timeout(clients, rest);
                waited.expect("no holder panics").0
            }
            None => shared.1.wait(clients).expect("no holder panics"),
        };
    }
}

/// Reads `10s`.
fn seconds(variable: &str, default: u64) -> Duration {
    let text = std::env::var(variable).unwrap_or_default();
    Duration::from_secs(text.trim_end_matches('s').parse().unwrap_or(default))
}

/// `label=a=b&label=c` as the API's `filters`, encoded for a query.
fn docker_filters(line: &str) -> String {
    let mut filters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in line.split('&').filter_map(|part| part.split_once('=')) {
        filters.entry(name).or_default().push(value);
    }
    let text = serde_json::json!(filters).to_string();
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

struct Engine {
    client: Client,
    /// `/v1.51`.
    version: String,
}

impl Engine {
    /// Negotiates the version, as the Go client does.
    fn connect() -> Engine {
        let client = Client::new(Path::new(SOCKET));
        let ping = client.get("/_ping").expect(200);
        let version = ping.head.header("api-version").expect("a version");
        Engine {
            version: format!("/v{version}"),
            client,
        }
    }

    fn remove_all(&self, filters: &str) {
        let version = &self.version;
        for (list, one, flags) in [
            ("containers/json?all=1&", "containers", "?force=1&v=1"),
            ("networks?", "networks", ""),
            ("volumes?", "volumes", "?force=1"),
            ("images/json?", "images", "?force=1"),
        ] {
            let found = self
                .client
                .get(&format!("{version}/{list}filters={filters}"));
            for name in names(one, &found.expect(200).json()) {
                self.remove(&format!("{version}/{one}/{name}{flags}"));
            }
        }
    }

    fn remove(&self, target: &str) {
        for _ in 0..ATTEMPTS {
            let answer = self.client.delete(target);
            if matches!(answer.status(), 200 | 204 | 404) {
                println!("reaper: removed {target}");
                return;
            }
            eprintln!("reaper: {target}: {}", answer.text());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What can be removed, each with a time of creation: the real one leaves alone what is younger than its decision.
fn names(kind: &str, list: &Value) -> Vec<String> {
    let (list, name, created) = match kind {
        "volumes" => (&list["Volumes"], "Name", "CreatedAt"),
        _ => (list, "Id", "Created"),
    };
    // Node gives the reaper the label of what it is to remove.
    let own = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let is_other = |entry: &&Value| {
        let id = entry["Id"].as_str().unwrap_or_default();
        own.trim().is_empty() || !id.starts_with(own.trim())
    };
    let entries = list.as_array().into_iter().flatten();
    entries
        .filter(is_other)
        .map(|entry| {
            let created = &entry[created];
            let is_told = match kind {
                "containers" | "images" => created.as_i64().is_some_and(|seconds| seconds > 0),
                _ => created.as_str().is_some_and(|text| text.contains('T')),
            };
            assert!(is_told, "creation of {entry}");
            entry[name].as_str().expect("a name").to_owned()
        })
        .collect()
}
