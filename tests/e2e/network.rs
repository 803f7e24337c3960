//! `none`, `host` and the default bridge.

use serde_json::json;
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

fn run(engine: &Engine, network: &str, script: &str) -> String {
    engine.docker_ok(&[
        "run",
        "--rm",
        "--network",
        network,
        BUSYBOX,
        "sh",
        "-c",
        script,
    ])
}

#[test]
fn none_has_only_a_loopback_that_is_up() {
    let engine = Engine::start();
    let out = run(
        &engine,
        "none",
        "ls /sys/class/net | grep -v -E 'tunl|sit|gre|erspan|ip_vti|ip6|ifb'; ping -c1 -W2 127.0.0.1 >/dev/null && echo up; ip route",
    );
    assert_eq!(out, "lo\nup");
}

#[test]
fn host_shares_the_daemons_namespace() {
    let engine = Engine::start();
    let inside = run(&engine, "host", "readlink /proc/self/ns/net");
    let daemons = std::fs::read_link(format!("/proc/{}/ns/net", engine.pid()))
        .expect("the daemon's namespace");
    assert_eq!(daemons.to_str(), Some(inside.as_str()));
    assert_eq!(
        run(&engine, "host", "hostname"),
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .expect("our name")
            .trim()
    );
}

#[test]
fn bridge_gives_an_address_a_gateway_and_reaches_it() {
    let engine = Engine::start();
    let out = run(
        &engine,
        "bridge",
        "ip -4 -o addr show eth0 | sed 's/.*inet //; s/ .*//'; ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'; cat /sys/class/net/eth0/mtu; ping -c1 -W5 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >/dev/null && echo reached",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(
        lines[0].ends_with("/16") && lines[0].starts_with("172."),
        "{out}"
    );
    assert!(lines[1].ends_with(".0.1"), "{out}");
    assert_eq!(lines[2..], ["1500", "reached"]);
}

#[test]
fn two_containers_reach_each_other() {
    let engine = Engine::start();
    let first = engine.run_detached(&[], &["sleep", "1000"]);
    let address = engine.inspect(&first, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    assert_eq!(
        run(
            &engine,
            "bridge",
            &format!("ping -c1 -W5 {address} >/dev/null && echo reached")
        ),
        "reached"
    );
}

#[test]
fn addresses_are_unique_and_reused_after_removal() {
    let engine = Engine::start();
    let address = |id: &str| engine.inspect(id, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let ids: Vec<String> = (0..5)
        .map(|_| engine.run_detached(&[], &["sleep", "1000"]))
        .collect();
    let mut all: Vec<String> = ids.iter().map(|id| address(id)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}

#[test]
fn the_hosts_file_has_the_containers_address() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--hostname", "box"], &["sleep", "1000"]);
    let address = engine.inspect(&id, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let hosts = engine.docker_ok(&["exec", &id, "cat", "/etc/hosts"]);
    assert!(
        hosts.lines().any(|l| l == format!("{address}\tbox")),
        "{hosts}"
    );
}

#[test]
fn traffic_out_is_masqueraded() {
    let engine = Engine::start();
    // A second namespace plays the outside world; the host side of the link is in the daemon's namespace.
    let inside = engine.netns().path();
    let outside = wharf_e2e::netns::NetNs::create(&format!("{}-out", engine.cgroup_parent()));
    let script = format!(
        "set -e; n=$1; ip -n $n link add out0 type veth peer name in0 netns {out}; ip -n $n addr add 192.0.2.1/24 dev out0; ip -n $n link set out0 up; ip -n {out} addr add 192.0.2.2/24 dev in0; ip -n {out} link set in0 up",
        out = format_args!("{}-out", engine.cgroup_parent()),
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &script, "sh", engine.cgroup_parent()])
        .status()
        .expect("sh runs");
    assert!(status.success() && inside.exists());
    // The outside has no route back to the container's subnet, so an answer proves the masquerading.
    assert_eq!(
        run(
            &engine,
            "bridge",
            "ping -c1 -W5 192.0.2.2 >/dev/null && echo answered"
        ),
        "answered"
    );
    let _ = std::process::Command::new("ip")
        .args(["-n", engine.cgroup_parent(), "link", "delete", "out0"])
        .status();
    drop(outside);
}

#[test]
fn the_three_networks_are_listed() {
    let engine = Engine::empty();
    let list = engine.docker_ok(&[
        "network",
        "ls",
        "--format",
        "{{.Name}} {{.Driver}} {{.Scope}}",
    ]);
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["bridge bridge local", "host host local", "none null local"]
    );
    let bridge = engine.api().get("/networks/bridge").expect(200).json();
    assert_eq!(
        (&bridge["Driver"], &bridge["IPAM"]["Driver"]),
        (&json!("bridge"), &json!("default"))
    );
    assert!(
        bridge["IPAM"]["Config"][0]["Subnet"]
            .as_str()
            .is_some_and(|s| s.ends_with("/16"))
    );
}

#[test]
fn a_network_namespace_can_be_shared() {
    let engine = Engine::start();
    let first = engine.run_detached(&[], &["sleep", "1000"]);
    let shared = run(
        &engine,
        &format!("container:{first}"),
        "readlink /proc/self/ns/net",
    );
    assert_eq!(
        engine.docker_ok(&["exec", &first, "readlink", "/proc/self/ns/net"]),
        shared
    );
}
