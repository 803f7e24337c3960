//! The daemon's options for networks, each with what it changes.

use serde_json::Value;
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::lan::Lan;
use wharf_e2e::web::{get, get_inside, is_out_of_reach, server};

fn engine(flags: &[&str]) -> Engine {
    let mut options = Engine::options();
    for flag in flags {
        options = options.flag(flag);
    }
    let engine = options.start();
    engine.load("busybox.tar");
    engine
}

fn run(engine: &Engine, script: &str) -> String {
    engine.docker_ok(&["run", "--rm", BUSYBOX, "sh", "-c", script])
}

fn on_host(engine: &Engine, line: &str) -> String {
    let mut words = line.split(' ');
    let program = words.next().expect("a program");
    let output = engine
        .netns()
        .command(program.as_ref())
        .args(words)
        .output()
        .expect("the program runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn bridge(engine: &Engine) -> Value {
    let shown = engine.docker_ok(&["network", "inspect", "bridge"]);
    let mut shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown[0].take()
}

#[test]
fn the_default_bridge_has_the_addresses_it_is_given() {
    let engine = engine(&[
        "--bip=10.60.0.1/16",
        "--fixed-cidr=10.60.7.0/24",
        "--default-gateway=10.60.0.9",
        "--ipv6",
        "--bip6=fd00:60::1/64",
        "--fixed-cidr-v6=fd00:60::/96",
        "--default-gateway-v6=fd00:60::9",
        "--mtu=1400",
    ]);
    let host = on_host(&engine, "ip addr show docker0");
    for wanted in ["10.60.0.1/16", "fd00:60::1/64"] {
        assert!(host.contains(wanted), "{wanted}: {host}");
    }
    let inside = run(&engine, "ip addr show eth0; ip route; ip -6 route");
    for wanted in [
        "10.60.7.0/16",
        "fd00:60::2/64",
        "mtu 1400",
        "default via 10.60.0.9",
        "default via fd00:60::9",
    ] {
        assert!(inside.contains(wanted), "{wanted}: {inside}");
    }
    let shown = bridge(&engine);
    let config = &shown["IPAM"]["Config"];
    assert_eq!(config[0]["IPRange"], "10.60.7.0/24", "{config}");
    assert_eq!(shown["EnableIPv6"], true);
    assert_eq!(shown["Options"]["com.docker.network.driver.mtu"], "1400");
}

#[test]
fn new_networks_have_the_daemons_pools_and_options() {
    let engine = engine(&[
        "--default-address-pool=base=10.61.0.0/16,size=24",
        "--default-address-pool=base=fd00:61::/48,size=64",
        "--default-network-opt=bridge=com.docker.network.driver.mtu=1300",
    ]);
    engine.docker_ok(&["network", "create", "--ipv6", "front"]);
    let shown = engine.docker_ok(&["network", "inspect", "front"]);
    for wanted in ["\"10.61.1.0/24\"", "\"fd00:61::/64\"", "\"1300\""] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let mtu = engine.docker_ok(&[
        "run",
        "--rm",
        "--network",
        "front",
        BUSYBOX,
        "cat",
        "/sys/class/net/eth0/mtu",
    ]);
    assert_eq!(mtu, "1300");
    engine.docker_ok(&["network", "rm", "front"]);
    assert!(on_host(&engine, "ip addr show docker0").contains("10.61.0.1/24"));
}

#[test]
fn containers_without_icc_meet_only_through_links_and_ports() {
    let engine = engine(&["--icc=false"]);
    let web = server(
        &engine,
        &["--name", "web", "--expose", "80", "-p", "8080:80"],
    );
    let address = engine.inspect(&web, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let stranger = engine.run_detached(&[], &["sleep", "1000"]);
    let refused = engine.docker(&[
        "exec", &stranger, "timeout", "1", "nc", "-w", "1", &address, "80",
    ]);
    assert_ne!(refused.code, 0);
    // The host's port is for everybody.
    assert_eq!(get_inside(&engine, &stranger, "172.17.0.1", 8080), "hello");
    // A link opens the ports that the other one exposes, and no other.
    let friend = engine.run_detached(&["--link", "web:web"], &["sleep", "1000"]);
    assert_eq!(get_inside(&engine, &friend, "web", 80), "hello");
    let env = engine.docker_ok(&["exec", &friend, "env"]);
    assert!(
        env.contains(&format!("WEB_PORT_80_TCP_ADDR={address}")),
        "{env}"
    );
    // It leads to the other one wherever that is after a restart, and nobody inherits it with the old address.
    engine.docker_ok(&["stop", "-t", "0", "web"]);
    let heir = server(&engine, &["--expose", "80"]);
    assert_eq!(
        engine.inspect(&heir, "{{.NetworkSettings.Networks.bridge.IPAddress}}"),
        address
    );
    let inherited = engine.docker(&["exec", &friend, "nc", "-w", "1", &address, "80"]);
    assert_ne!(inherited.code, 0);
    engine.docker_ok(&["start", "web"]);
    assert_eq!(get_inside(&engine, &friend, "web", 80), "hello");
    engine.docker_ok(&["rm", "-f", &friend]);
    let again = engine.docker(&[
        "exec", &stranger, "timeout", "1", "nc", "-w", "1", &address, "80",
    ]);
    assert_ne!(again.code, 0);
}

#[test]
fn nothing_leaves_translated_without_masquerading() {
    let engine = engine(&["--ip-masq=false"]);
    let lan = Lan::around(&engine);
    let ping = "ping -c1 -W1 192.0.2.2 >/dev/null && echo answered; true";
    // The neighbour knows no way to the container's own address, then it does.
    assert_eq!(run(&engine, ping), "");
    lan.route_to_host("172.17.0.0/16");
    assert_eq!(run(&engine, ping), "answered");
}

#[test]
fn firewall_and_forwarding_are_left_alone_when_asked() {
    let engine = engine(&[
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
    ]);
    // The machine's own setting may have been inherited.
    on_host(&engine, "sysctl -qw net.ipv4.ip_forward=0");
    let port = server(&engine, &["-p", "8080:80"]);
    assert_eq!(get(engine.netns(), "127.0.0.1:8080"), "hello");
    assert_eq!(on_host(&engine, "nft list ruleset"), "");
    assert_eq!(on_host(&engine, "cat /proc/sys/net/ipv4/ip_forward"), "0\n");
    engine.docker_ok(&["rm", "-f", &port]);
    engine.docker_ok(&["network", "create", "n1"]);
    engine.docker_ok(&["network", "rm", "n1"]);
    assert_eq!(on_host(&engine, "nft list ruleset"), "");
    assert_eq!(on_host(&engine, "cat /proc/sys/net/ipv4/ip_forward"), "0\n");
}

#[test]
fn ports_are_held_but_nothing_carried_without_firewall_and_proxy() {
    let engine = engine(&[
        "--iptables=false",
        "--ip6tables=false",
        "--userland-proxy=false",
    ]);
    let id = server(&engine, &["-p", "8080:80"]);
    assert_eq!(engine.docker_ok(&["port", &id]), "80/tcp -> 0.0.0.0:8080");
    assert!(is_out_of_reach(engine.netns(), "127.0.0.1:8080"));
}

#[test]
fn one_family_may_be_left_alone() {
    let engine = engine(&["--ip6tables=false"]);
    let tables = on_host(&engine, "nft list tables") + &on_host(&engine, "ip6tables -S");
    assert!(
        !tables.contains("ip6 wharf") && !tables.contains("DOCKER"),
        "{tables}"
    );
}

#[test]
fn neighbours_reach_containers_directly_where_that_is_allowed() {
    let engine = engine(&["--allow-direct-routing"]);
    let id = server(&engine, &["-p", "8080:80"]);
    let address = engine.inspect(&id, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let lan = Lan::around(&engine);
    lan.route_to_host("172.17.0.0/16");
    assert_eq!(get(&lan.neighbour, &address), "hello");
    assert_eq!(get(&lan.remote, &address), "hello");
}

#[test]
fn there_need_not_be_a_default_bridge() {
    let engine = engine(&["--bridge=none"]);
    assert!(!on_host(&engine, "ip -br link").contains("docker0"));
    let list = engine.docker_ok(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!list.lines().any(|name| name == "bridge"), "{list}");
    assert_eq!(run(&engine, "ls /sys/class/net | grep -c eth; true"), "0");
    engine.docker_ok(&["network", "create", "n1"]);
    engine.docker_ok(&[
        "run",
        "--rm",
        "--network",
        "n1",
        BUSYBOX,
        "ip",
        "addr",
        "show",
        "eth0",
    ]);
    engine.docker_ok(&["network", "rm", "n1"]);
}

#[test]
fn ports_are_published_where_the_daemon_is_told() {
    let engine = engine(&["--ip=127.0.0.1", "--userland-proxy-path=/nowhere"]);
    let id = engine.run_detached(&["-p", "8080:80"], &["sleep", "1000"]);
    assert_eq!(engine.docker_ok(&["port", &id]), "80/tcp -> 127.0.0.1:8080");
}

#[test]
fn name_servers_are_the_daemons() {
    let engine = engine(&[
        "--dns=192.0.2.53",
        "--dns-opt=ndots:2",
        "--dns-search=example.org",
    ]);
    let file = run(&engine, "cat /etc/resolv.conf");
    for wanted in [
        "nameserver 192.0.2.53",
        "options ndots:2",
        "search example.org",
    ] {
        assert!(file.contains(wanted), "{wanted}: {file}");
    }
}
