//! Networks that users make: fields, refusals, connections of running containers, both firewall back ends.

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::lan::Lan;
use wharf_e2e::web::{get, get_inside, server};

fn sleeper(engine: &Engine, name: &str, flags: &[&str]) -> String {
    let flags: Vec<&str> = ["--name", name].iter().chain(flags).copied().collect();
    engine.run_detached(&flags, &["sleep", "1000"])
}

fn network(engine: &Engine, name: &str) -> Value {
    engine
        .api()
        .get(&format!("/networks/{name}"))
        .expect(200)
        .json()
}

/// Runs a program in the daemon's namespace.
fn on_host(engine: &Engine, command: &str) -> String {
    let output = std::process::Command::new("ip")
        .args(["netns", "exec", engine.cgroup_parent()])
        .args(command.split_whitespace())
        .output()
        .expect("ip runs");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_running_container_joins_and_leaves() {
    let engine = Engine::start();
    engine.docker_ok(&["network", "create", "--subnet", "10.77.0.0/24", "front"]);
    sleeper(&engine, "c1", &[]);
    engine.docker_ok(&[
        "network",
        "connect",
        "--ip",
        "10.77.0.9",
        "--alias",
        "web",
        "front",
        "c1",
    ]);
    let shown = engine.inspect("c1", "{{json .NetworkSettings.Networks.front}}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        (
            &shown["IPAddress"],
            &shown["Gateway"],
            &shown["IPPrefixLen"]
        ),
        (&json!("10.77.0.9"), &json!("10.77.0.1"), &json!(24))
    );
    assert_eq!(shown["Aliases"], json!(["web"]));
    let inside = engine.docker_ok(&["exec", "c1", "ip", "-4", "-o", "addr", "show", "eth1"]);
    assert!(inside.contains("10.77.0.9/24"), "{inside}");
    let members = network(&engine, "front")["Containers"].clone();
    assert_eq!(members.as_object().map(serde_json::Map::len), Some(1));
    let hosts = engine.docker_ok(&["exec", "c1", "cat", "/etc/hosts"]);
    assert!(hosts.contains("10.77.0.9\t"), "{hosts}");

    engine.docker_ok(&["network", "disconnect", "bridge", "c1"]);
    let route = engine.docker_ok(&["exec", "c1", "ip", "route", "show", "default"]);
    assert!(route.contains("via 10.77.0.1 dev eth1"), "{route}");
    engine.docker_ok(&["network", "disconnect", "front", "c1"]);
    let interfaces = engine.docker_ok(&["exec", "c1", "ls", "/sys/class/net"]);
    assert!(!interfaces.contains("eth"), "{interfaces}");
    // A restart makes what is remembered: no network at all.
    engine.docker_ok(&["network", "connect", "front", "c1"]);
    engine.docker_ok(&["restart", "-t", "0", "c1"]);
    let again = engine.docker_ok(&["exec", "c1", "ip", "-4", "-o", "addr", "show", "eth0"]);
    assert!(again.contains("10.77.0."), "{again}");
    engine.docker_ok(&["rm", "-f", "c1"]);
    engine.docker_ok(&["network", "rm", "front"]);
}

#[test]
fn connections_that_make_no_sense_are_refused() {
    let engine = Engine::start();
    engine.docker_ok(&["network", "create", "front"]);
    sleeper(&engine, "c1", &["--network", "front"]);
    sleeper(&engine, "h1", &["--network", "host"]);
    let rows: [(&[&str], &str); 9] = [
        (
            &["disconnect", "-f", "front", "nope"],
            "endpoint nope not found",
        ),
        (
            &["connect", "front", "c1"],
            "endpoint with name c1 already exists in network front",
        ),
        (
            &["connect", "none", "c1"],
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
        (
            &["connect", "host", "c1"],
            "cannot connect container to host network - container must be created in host network mode",
        ),
        (
            &["connect", "front", "h1"],
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        (&["connect", "nope", "c1"], "network nope not found"),
        (&["connect", "front", "nope"], "No such container: nope"),
        (
            &["disconnect", "bridge", "c1"],
            "is not connected to network bridge",
        ),
        (
            &["rm", "front"],
            "error while removing network: network front has active endpoints (name:\"c1\" id:\"",
        ),
    ];
    for (args, message) in rows {
        let args: Vec<&str> = ["network"].iter().chain(args).copied().collect();
        let refused = engine.docker_fails(&args, 1);
        assert!(refused.contains(message), "{args:?}: {refused}");
    }
    engine.docker_ok(&["rm", "-f", "c1", "h1"]);
    engine.docker_ok(&["network", "rm", "front"]);
}

#[test]
fn a_stopped_container_may_be_on_a_network_that_comes_later() {
    let engine = Engine::start();
    engine.docker_ok(&["create", "--name", "c1", BUSYBOX, "true"]);
    engine.docker_ok(&["network", "connect", "later", "c1"]);
    let refused = engine.docker_fails(&["start", "c1"], 1);
    assert!(refused.contains("network later not found"), "{refused}");
    engine.docker_ok(&["network", "create", "later"]);
    engine.docker_ok(&["start", "-a", "c1"]);
    engine.docker_ok(&["rm", "-f", "c1"]);
    engine.docker_ok(&["network", "rm", "later"]);
}

#[test]
fn networks_are_looked_for_where_and_pruned_when_asked() {
    let engine = Engine::empty();
    for (query, status) in [
        ("", 200),
        ("?scope=local", 200),
        ("?scope=swarm", 404),
        ("?verbose=1", 200),
        ("?verbose=odd", 400),
    ] {
        let target = format!("/networks/bridge{query}");
        assert_eq!(engine.api().get(&target).status(), status, "{query}");
    }
    engine.docker_ok(&["network", "create", "--label", "tier=front", "n1"]);
    engine.docker_ok(&["network", "create", "n2"]);
    let prune = |filter: &str| {
        let out = engine.docker_ok(&["network", "prune", "-f", "--filter", filter]);
        out.trim_end().to_owned()
    };
    assert_eq!(prune("until=1h"), "");
    assert_eq!(prune("label=tier=front"), "Deleted Networks:\nn1");
    assert_eq!(prune("until=0s"), "Deleted Networks:\nn2");
}

#[test]
fn creation_takes_every_field_and_shows_it() {
    let engine = Engine::empty();
    let body = json!({
        "Name": "full", "Driver": "bridge", "EnableIPv6": true, "Attachable": true,
        "IPAM": {"Driver": "default", "Options": {"foo": "bar"}, "Config": [
            {"Subnet": "10.70.0.0/16", "IPRange": "10.70.5.0/24", "Gateway": "10.70.0.254",
             "AuxiliaryAddresses": {"printer": "10.70.5.1"}},
            {"Subnet": "fd00:70::/64"}
        ]},
        "Options": {"com.docker.network.bridge.name": "full0", "com.docker.network.driver.mtu": "1400"},
        "Labels": {"tier": "front"}
    });
    let created = engine.api().post("/networks/create", &body).expect(201);
    assert_eq!(created.json()["Warning"], "");
    let shown = network(&engine, "full");
    assert_eq!(shown["IPAM"]["Config"][0], body["IPAM"]["Config"][0]);
    assert_eq!(
        shown["IPAM"]["Config"][1],
        json!({"Subnet": "fd00:70::/64", "Gateway": "fd00:70::1"})
    );
    for field in ["EnableIPv6", "Attachable", "Options", "Labels"] {
        assert_eq!(shown[field], body[field], "{field}");
    }
    let link = on_host(&engine, "ip addr show full0");
    for wanted in ["mtu 1400", "10.70.0.254/16", "fd00:70::1/64", "fe80::1/64"] {
        assert!(link.contains(wanted), "{wanted}: {link}");
    }
    engine.docker_ok(&["network", "rm", "full"]);
    assert!(!on_host(&engine, "ip -br link").contains("full0"));
}

#[test]
fn bad_networks_are_refused_with_dockers_status_and_words() {
    let engine = Engine::empty();
    let config = |config: Value| json!({"Name": "n", "IPAM": {"Config": [config]}});
    engine.docker_ok(&["network", "create", "--subnet", "10.1.0.0/16", "first"]);
    let rows = [
        (
            json!({"Name": "first"}),
            409,
            "network with name first already exists",
        ),
        (
            json!({"Name": "bridge"}),
            403,
            "operation is not permitted on predefined bridge network",
        ),
        (json!({"Name": ""}), 400, "invalid name: name is empty"),
        (
            json!({"Name": "n", "Driver": "odd"}),
            404,
            "could not find plugin odd in v1 plugin registry: plugin not found",
        ),
        (
            config(json!({"Subnet": "10.1.2.0/24"})),
            403,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            config(json!({"Subnet": "10.2.0.1/24"})),
            400,
            "invalid network config:\ninvalid subnet 10.2.0.1/24: it should be 10.2.0.0/24",
        ),
        (
            config(json!({"Subnet": "10.2.0.0/24", "Gateway": "10.3.0.1"})),
            400,
            "invalid network config:\ninvalid gateway 10.3.0.1: parent subnet 10.2.0.0/24 doesn't contain this address",
        ),
        (
            json!({"Name": "n", "EnableIPv4": false}),
            400,
            "IPv4 or IPv6 must be enabled",
        ),
        (
            json!({"Name": "n", "Options": {"com.docker.network.driver.mtu": "-3"}}),
            400,
            "invalid MTU number: -3",
        ),
        (
            json!({"Name": "n", "ConfigFrom": {"Network": "nope"}}),
            404,
            "configuration network \"nope\" does not exist",
        ),
        (
            json!({"Name": "n", "Driver": "macvlan", "Options": {"parent": "lo"}}),
            400,
            "loopback interface is not a valid macvlan parent link",
        ),
        (
            json!({"Name": "n", "Options": {"com.docker.network.bridge.name": "lo"}}),
            500,
            "existing interface lo is not a bridge",
        ),
        (
            json!({"Name": "n", "ConfigFrom": {"Network": "first"}}),
            404,
            "configuration network \"first\" does not exist",
        ),
        (
            json!({"Name": "n", "ConfigOnly": true, "ConfigFrom": {"Network": "first"}}),
            403,
            "a configuration network cannot depend on another configuration network",
        ),
    ];
    for (body, status, message) in rows {
        let answer = engine.api().post("/networks/create", &body).expect(status);
        assert_eq!(answer.json()["message"], message, "{body}");
    }
    engine.docker_ok(&["network", "rm", "first"]);
}

#[test]
fn a_configuration_network_is_copied_and_cannot_be_joined() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "network",
        "create",
        "--config-only",
        "--subnet",
        "10.71.0.0/24",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "conf",
    ]);
    engine.docker_ok(&["network", "create", "--config-from", "conf", "real"]);
    let real = network(&engine, "real");
    assert_eq!(real["IPAM"]["Config"][0]["Subnet"], "10.71.0.0/24");
    assert_eq!(real["ConfigFrom"]["Network"], "conf");
    assert_eq!(network(&engine, "conf")["ConfigOnly"], true);
    let refused = engine.docker_fails(&["run", "--rm", "--network", "conf", BUSYBOX, "true"], 125);
    assert!(refused.contains("configuration"), "{refused}");
    let refused = engine.docker_fails(&["network", "rm", "conf"], 1);
    assert!(
        refused.contains("configuration network \"conf\" is in use"),
        "{refused}"
    );
    engine.docker_ok(&["network", "rm", "real"]);
    engine.docker_ok(&["network", "rm", "conf"]);
}

#[test]
fn what_a_configuration_network_says_is_said_there_alone() {
    let engine = Engine::empty();
    let create = |body: Value| engine.api().post("/networks/create", &body);
    let options = json!({"com.docker.network.bridge.enable_icc": "false"});
    let _ = create(json!({
        "Name": "conf", "ConfigOnly": true, "Labels": {"a": "b"}, "Options": options, "EnableIPv6": true,
        "IPAM": {"Config": [{"Subnet": "10.72.0.0/24", "IPRange": "10.72.0.128/25"}, {"Subnet": "fd00:72::/64"}]}
    }))
    .expect(201);
    let taken = json!({"Name": "real", "ConfigFrom": {"Network": "conf"}});
    let _ = create(taken.clone()).expect(201);
    let real = network(&engine, "real");
    assert_eq!(real["Driver"], "bridge");
    assert_eq!(real["EnableIPv6"], true);
    assert_eq!(real["Options"], options);
    assert_eq!(real["IPAM"]["Config"][0]["IPRange"], "10.72.0.128/25");
    assert_eq!(real["IPAM"]["Config"][1]["Subnet"], "fd00:72::/64");
    assert_eq!(real["Labels"]["a"], "b");
    let with = |key: &str, value: Value| {
        let mut body = json!({"Name": "other", "ConfigFrom": {"Network": "conf"}});
        body[key] = value;
        body
    };
    let (fields, operator) = (
        "user specified configurations are not supported if the network depends on a configuration network",
        "configuration network can only contain network specific fields",
    );
    let rows = [
        (with("EnableIPv6", json!(true)), fields),
        (with("EnableIPv4", json!(false)), fields),
        (with("Labels", json!({"x": "y"})), fields),
        (
            with("IPAM", json!({"Config": [{"Subnet": "10.73.0.0/24"}]})),
            fields,
        ),
        (
            with("Options", json!({"com.docker.network.driver.mtu": "1400"})),
            "network driver options are not supported if the network depends on a configuration network",
        ),
        (
            json!({"Name": "c", "ConfigOnly": true, "Internal": true}),
            operator,
        ),
        (
            json!({"Name": "c", "ConfigOnly": true, "Attachable": true}),
            operator,
        ),
    ];
    for (body, message) in rows {
        let answer = create(body.clone()).expect(403).json();
        let shown = answer["message"].as_str().unwrap_or("");
        assert!(shown.starts_with(message), "{body}: {shown}");
    }
    engine.docker_ok(&["network", "rm", "real", "conf"]);
}

/// A network of IPv6 alone: no IPv4 address, no IPv4 route, names and ports by IPv6; the host's IPv4 ports are carried to it.
#[test]
fn a_network_may_be_without_ipv4() {
    let engine = Engine::start();
    let lan = Lan::around(&engine);
    engine.docker_ok(&["network", "create", "--ipv4=false", "--ipv6", "six"]);
    let shown = network(&engine, "six");
    assert_eq!(shown["EnableIPv4"], false);
    assert_eq!(shown["IPAM"]["Config"].as_array().map(Vec::len), Some(1));
    let web = server(
        &engine,
        &["--name", "web", "--network", "six", "-p", "8080:80"],
    );
    let settings =
        "{{with .NetworkSettings.Networks.six}}{{.IPAddress}}|{{.Gateway}}|{{.IPPrefixLen}}{{end}}";
    assert_eq!(engine.inspect(&web, settings), "||0");
    assert_eq!(
        engine.docker_ok(&["exec", &web, "ip", "-4", "-o", "addr", "show", "eth0"]),
        ""
    );
    assert_eq!(engine.docker_ok(&["port", &web]), "80/tcp -> [::]:8080");
    assert_eq!(get(&lan.neighbour, "[2001:db8:1::1]:8080"), "hello");
    assert_eq!(get(engine.netns(), "[::1]:8080"), "hello");
    let asker = engine.run_detached(&["--network", "six"], &["sleep", "1000"]);
    assert_eq!(get_inside(&engine, &asker, "web", 80), "hello");
    let refused = [
        "run",
        "--rm",
        "--network",
        "six",
        "--ip",
        "10.1.1.1",
        BUSYBOX,
        "true",
    ];
    let refused = engine.docker_fails(&refused, 125);
    assert!(refused.contains("invalid endpoint settings"), "{refused}");
    engine.docker_ok(&["rm", "-f", &web, &asker]);
    engine.docker_ok(&["network", "rm", "six"]);
}

#[test]
fn iptables_shows_dockers_chains() {
    let engine = Engine::options()
        .flag("--firewall-backend=iptables")
        .start();
    engine.load("busybox.tar");
    sleeper(&engine, "c1", &["-p", "8080:80"]);
    let nat = on_host(&engine, "iptables -t nat -vnL");
    assert!(
        nat.contains("MASQUERADE") && nat.contains("172.17.0.0/16"),
        "{nat}"
    );
    assert!(
        nat.contains("DNAT") && nat.contains("to:172.17.0.2:80"),
        "{nat}"
    );
    let filter = on_host(&engine, "iptables -S");
    for chain in [
        "DOCKER-USER",
        "DOCKER-FORWARD",
        "DOCKER-CT",
        "DOCKER-BRIDGE",
        "DOCKER-INTERNAL",
    ] {
        assert!(
            filter.contains(&format!("-N {chain}\n")),
            "{chain}: {filter}"
        );
    }
    assert!(
        filter.contains(
            "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT"
        ),
        "{filter}"
    );
    engine.docker_ok(&["rm", "-f", "c1"]);
    assert!(!on_host(&engine, "iptables -t nat -S").contains("DNAT --to-destination"));
}

#[test]
fn connections_survive_the_daemon() {
    let mut engine = Engine::start();
    engine.docker_ok(&["network", "create", "--subnet", "10.77.0.0/24", "front"]);
    sleeper(&engine, "c1", &["-p", "8080:80"]);
    engine.docker_ok(&["network", "connect", "--gw-priority", "1", "front", "c1"]);
    let before = engine.inspect("c1", "{{json .NetworkSettings.Networks}}");
    let ports = engine.inspect("c1", "{{json .NetworkSettings.Ports}}");
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(
        engine.inspect("c1", "{{json .NetworkSettings.Networks}}"),
        before
    );
    assert_eq!(
        engine.inspect("c1", "{{json .NetworkSettings.Ports}}"),
        ports
    );
    // Addresses and ports in use stay so, and are free again afterwards.
    let refused = engine.docker_fails(
        &[
            "run",
            "--rm",
            "--network",
            "front",
            "--ip",
            "10.77.0.2",
            BUSYBOX,
            "true",
        ],
        125,
    );
    assert!(refused.contains("Address already in use"), "{refused}");
    engine.docker_ok(&["network", "disconnect", "front", "c1"]);
    engine.docker_ok(&[
        "run",
        "--rm",
        "--network",
        "front",
        "--ip",
        "10.77.0.2",
        BUSYBOX,
        "true",
    ]);
    engine.docker_ok(&["rm", "-f", "c1"]);
    engine.docker_ok(&["run", "--rm", "-p", "8080:80", BUSYBOX, "true"]);
    engine.docker_ok(&["network", "rm", "front"]);
}

#[test]
fn a_container_on_two_stacks_has_both_addresses() {
    let engine = Engine::options()
        .flag("--ipv6")
        .flag("--fixed-cidr-v6=fd00:99::/64")
        .start();
    engine.load("busybox.tar");
    sleeper(&engine, "c1", &[]);
    let shown = engine.inspect("c1", "{{json .NetworkSettings.Networks.bridge}}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["GlobalIPv6Address"], "fd00:99::2");
    assert_eq!(shown["IPv6Gateway"], "fd00:99::1");
    let out = engine.docker_ok(&["exec", "c1", "ping", "-6", "-c1", "-W5", "fd00:99::1"]);
    assert!(out.contains("1 packets received"), "{out}");
    engine.docker_ok(&[
        "network",
        "create",
        "--ipv6",
        "--ipv4=false",
        "--subnet",
        "fd00:98::/64",
        "six",
    ]);
    let six = engine.docker_ok(&[
        "run",
        "--rm",
        "--network",
        "six",
        "--ip6",
        "fd00:98::7",
        BUSYBOX,
        "ip",
        "-o",
        "addr",
        "show",
        "eth0",
    ]);
    assert!(
        six.contains("fd00:98::7/64") && !six.contains("inet 1"),
        "{six}"
    );
    engine.docker_ok(&["rm", "-f", "c1"]);
    engine.docker_ok(&["network", "rm", "six"]);
}

#[test]
fn sysctls_of_the_network_are_the_containers_own() {
    let engine = Engine::start();
    let out = engine.docker_ok(&[
        "run",
        "--rm",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=7",
        "--mac-address",
        "02:42:aa:bb:cc:dd",
        BUSYBOX,
        "sh",
        "-c",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /sys/class/net/eth0/address",
    ]);
    assert_eq!(out, "7\n02:42:aa:bb:cc:dd");
}
