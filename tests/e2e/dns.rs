//! Names of containers on networks that users made.

use std::ops::{Deref, DerefMut};

use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};

/// A daemon with the network `net`, which goes before the daemon does.
struct Networked(Engine);

fn engine() -> Networked {
    let engine = Engine::start();
    engine.docker_ok(&["network", "create", "net"]);
    Networked(engine)
}

impl Deref for Networked {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl DerefMut for Networked {
    fn deref_mut(&mut self) -> &mut Engine {
        &mut self.0
    }
}

impl Drop for Networked {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.remove_all();
            self.0.docker_ok(&["network", "prune", "-f"]);
        }
    }
}

fn sleeper(engine: &Engine, flags: &[&str]) -> String {
    engine.run_detached(flags, &["sleep", "1000"])
}

/// Addresses that `name` has for a container, in the order of the answer.
fn lookup(engine: &Engine, from: &str, name: &str) -> Vec<String> {
    let script = format!("nslookup {name} 2>/dev/null | sed -n '/^Name:/,$ s/^Address.*: *//p'");
    let out = engine.docker_ok(&["exec", from, "sh", "-c", &script]);
    out.lines().map(str::to_owned).collect()
}

fn address(engine: &Engine, id: &str) -> String {
    engine.inspect(id, "{{.NetworkSettings.Networks.net.IPAddress}}")
}

#[test]
fn containers_find_each_other_by_every_name() {
    let engine = engine();
    let one = sleeper(
        &engine,
        &[
            "--name",
            "one",
            "--network",
            "net",
            "--network-alias",
            "uno",
            "--hostname",
            "eins",
        ],
    );
    let two = sleeper(
        &engine,
        &["--name", "two", "--network", "net", "--link", "one:linked"],
    );
    let expected = address(&engine, &one);
    for name in [
        "one",
        "ONE",
        "uno",
        &one[..12],
        "eins",
        "one.net",
        "uno.net",
        "linked",
    ] {
        assert_eq!(
            lookup(&engine, &two, name),
            std::slice::from_ref(&expected),
            "{name}"
        );
    }
    assert_eq!(
        lookup(&engine, &one, "linked"),
        [""; 0],
        "links are one's own"
    );
    let reverse = engine.docker_ok(&["exec", &two, "nslookup", &expected]);
    assert!(reverse.contains("name = one.net"), "{reverse}");
    engine.docker_ok(&["exec", &two, "ping", "-c1", "-W5", "uno"]);
}

#[test]
fn resolv_conf_leads_to_the_engines_name_server() {
    let engine = engine();
    let id = sleeper(
        &engine,
        &["--network", "net", "--dns-search", "example.org"],
    );
    let text = engine.docker_ok(&["exec", &id, "cat", "/etc/resolv.conf"]);
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .collect();
    assert_eq!(
        lines,
        [
            "nameserver 127.0.0.11",
            "search example.org",
            "options ndots:0"
        ]
    );
}

#[test]
fn the_default_bridge_has_no_names() {
    let engine = engine();
    sleeper(&engine, &["--name", "one"]);
    let two = sleeper(&engine, &[]);
    let text = engine.docker_ok(&["exec", &two, "cat", "/etc/resolv.conf"]);
    assert!(!text.contains("127.0.0.11"), "{text}");
}

#[test]
fn a_network_keeps_its_names_to_itself() {
    let engine = engine();
    engine.docker_ok(&["network", "create", "other"]);
    sleeper(&engine, &["--name", "one", "--network", "net"]);
    let stranger = sleeper(&engine, &["--network", "other"]);
    assert_eq!(lookup(&engine, &stranger, "one"), [""; 0]);
    assert_eq!(lookup(&engine, &stranger, "one.net"), [""; 0]);
}

#[test]
fn names_follow_renames_stops_and_starts() {
    let engine = engine();
    let one = sleeper(&engine, &["--name", "one", "--network", "net"]);
    let two = sleeper(&engine, &["--network", "net"]);
    engine.docker_ok(&["rename", "one", "first"]);
    assert_eq!(lookup(&engine, &two, "one"), [""; 0]);
    assert_eq!(lookup(&engine, &two, "first"), [address(&engine, &one)]);
    engine.docker_ok(&["stop", "-t", "0", "first"]);
    assert_eq!(lookup(&engine, &two, "first"), [""; 0]);
    engine.docker_ok(&["start", "first"]);
    assert_eq!(lookup(&engine, &two, "first"), [address(&engine, &one)]);
}

#[test]
fn sharers_of_an_alias_take_turns() {
    let engine = engine();
    let pool: Vec<String> = (0..3)
        .map(|_| sleeper(&engine, &["--network", "net", "--network-alias", "pool"]))
        .collect();
    let asker = sleeper(&engine, &["--network", "net"]);
    let mut expected: Vec<String> = pool.iter().map(|id| address(&engine, id)).collect();
    expected.sort();
    let mut first = Vec::new();
    for _ in 0..12 {
        let mut answer = lookup(&engine, &asker, "pool");
        first.push(answer[0].clone());
        answer.sort();
        assert_eq!(answer, expected);
    }
    first.sort();
    first.dedup();
    assert_eq!(first, expected, "each was the first at some time");
}

#[test]
fn the_host_has_a_name() {
    let engine = engine();
    let id = sleeper(
        &engine,
        &["--network", "net", "--add-host", "gw:host-gateway"],
    );
    let gateway = engine.docker_ok(&[
        "network",
        "inspect",
        "bridge",
        "-f",
        "{{(index .IPAM.Config 0).Gateway}}",
    ]);
    assert_eq!(
        lookup(&engine, &id, "host.docker.internal"),
        std::slice::from_ref(&gateway)
    );
    let hosts = engine.docker_ok(&["exec", &id, "cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{gateway}\tgw")), "{hosts}");
}

#[test]
fn names_survive_the_deaths_of_daemon_and_name_server() {
    let mut engine = engine();
    let one = sleeper(&engine, &["--name", "one", "--network", "net"]);
    let two = sleeper(&engine, &["--name", "two", "--network", "net"]);
    let expected = address(&engine, &one);
    let asking = asker(&engine, &two);
    assert_eq!(asking(), expected);
    let netd = netd(&engine);
    wharf_e2e::engine::kill(netd);
    // Questions wait in the sockets for the next process.
    assert_eq!(asking(), expected, "after the death of the name server");
    wait_until("another name server", LONG, || {
        netds(&engine).iter().any(|pid| *pid != netd)
    });
    engine.kill_daemon();
    assert_eq!(asking(), expected, "while no daemon runs");
    engine.start_daemon();
    assert_eq!(asking(), expected, "under the next daemon");
    engine.docker_ok(&["rename", "one", "uno"]);
    assert_eq!(lookup(&engine, &two, "uno"), [expected], "which is heard");
    assert_eq!(lookup(&engine, &two, "one"), [""; 0]);
}

/// Asks for `one` from inside a container's namespaces, without any daemon.
fn asker(engine: &Engine, id: &str) -> impl Fn() -> String + use<> {
    let pid = engine.inspect(id, "{{.State.Pid}}");
    move || {
        let output = std::process::Command::new("nsenter")
            .args([
                "--target",
                &pid,
                "--net",
                "--mount",
                "--",
                "/bin/busybox",
                "nslookup",
                "one",
            ])
            .output()
            .expect("nsenter runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, after) = text.split_once("Name:").unwrap_or_default();
        let line = after.lines().find(|line| line.starts_with("Address"));
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or_default()
            .to_owned()
    }
}

fn netds(engine: &Engine) -> Vec<u32> {
    let is_netd = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"netd"))
    };
    engine
        .netns()
        .processes()
        .into_iter()
        .filter(is_netd)
        .collect()
}

fn netd(engine: &Engine) -> u32 {
    let all = netds(engine);
    assert_eq!(all.len(), 1, "one for all containers");
    all[0]
}

#[test]
fn names_end_with_a_container_that_ends_without_a_daemon() {
    let mut engine = engine();
    let one = sleeper(&engine, &["--name", "one", "--network", "net"]);
    let two = sleeper(&engine, &["--name", "two", "--network", "net"]);
    let asking = asker(&engine, &two);
    let pid: u32 = engine
        .inspect(&one, "{{.State.Pid}}")
        .parse()
        .expect("a pid");
    assert_ne!(asking(), "");
    engine.kill_daemon();
    wharf_e2e::engine::kill(pid);
    wait_until("the name to be gone", LONG, || asking().is_empty());
    engine.start_daemon();
}
