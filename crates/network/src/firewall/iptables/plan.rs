//! Which iptables rules make a change true: the chains and rules of moby 28 (`integration/network/bridge/iptablesdoc`), with the
//! direct-access guard per network instead of per container, and loopback translated instead of proxied.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::firewall::{Change, FamilyRules, LinkRule, NetworkRules, PortRule};
use crate::option::GatewayMode;

/// Which of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(super) fn program(self) -> &'static str {
        match self {
            Family::Ipv4 => "iptables",
            Family::Ipv6 => "ip6tables",
        }
    }

    fn of(address: IpAddr) -> Family {
        if address.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    }

    fn rules(self, network: &NetworkRules) -> Option<&FamilyRules> {
        match self {
            Family::Ipv4 => network.v4.as_ref(),
            Family::Ipv6 => network.v6.as_ref(),
        }
    }
}

/// Tables in the order in which a script has them.
const TABLES: [&str; 3] = ["filter", "nat", "raw"];

/// Our chains of each table. All but `DOCKER-USER` are emptied at a start.
const CHAINS: [(&str, &[&str]); 3] = [
    (
        "filter",
        &[
            "DOCKER",
            "DOCKER-BRIDGE",
            "DOCKER-CT",
            "DOCKER-FORWARD",
            "DOCKER-INTERNAL",
        ],
    ),
    ("nat", &["DOCKER"]),
    ("raw", &["DOCKER"]),
];

/// Chain that lets bridges pass where nftables does the rest.
const ALLOWANCE: &str = "WHARF-FORWARD";

/// Lines for `iptables-restore`, by table.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Script {
    lines: Vec<(&'static str, String)>,
}

impl Script {
    fn push(&mut self, table: &'static str, line: impl Into<String>) {
        self.lines.push((table, line.into()));
    }

    pub(super) fn extend(&mut self, other: Script) {
        self.lines.extend(other.lines);
    }

    /// What the program reads; empty when there is nothing to do.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for table in TABLES {
            let lines: Vec<&str> = self
                .lines
                .iter()
                .filter(|(of, _)| *of == table)
                .map(|(_, line)| line.as_str())
                .collect();
            if !lines.is_empty() {
                text.push_str(&format!("*{table}\n{}\nCOMMIT\n", lines.join("\n")));
            }
        }
        text
    }
}

/// What does not depend on networks, with everything of an earlier daemon taken away. `present`: the output of `iptables-save`;
/// `changes` name the bridges that are ours.
pub(super) fn skeleton(family: Family, present: &str, changes: &[Change]) -> Script {
    let mut script = stale_rules(present, &bridges(changes));
    for (table, chains) in CHAINS {
        for chain in chains {
            // Makes the chain, or empties it.
            script.lines.insert(0, (table, format!(":{chain} - [0:0]")));
        }
    }
    if !present.contains("\n:DOCKER-USER ") {
        script
            .lines
            .insert(0, ("filter", ":DOCKER-USER - [0:0]".into()));
    }
    let loopback = match family {
        Family::Ipv4 => "",
        // Nothing finds back to it; netd serves it.
        Family::Ipv6 => "! -d ::1/128 ",
    };
    for line in [
        "-I FORWARD 1 -j DOCKER-FORWARD",
        "-I FORWARD 1 -j DOCKER-USER",
        "-A DOCKER-FORWARD -j DOCKER-CT",
        "-A DOCKER-FORWARD -j DOCKER-INTERNAL",
        "-A DOCKER-FORWARD -j DOCKER-BRIDGE",
    ] {
        script.push("filter", line);
    }
    script.push(
        "nat",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
    );
    script.push(
        "nat",
        format!("-A OUTPUT {loopback}-m addrtype --dst-type LOCAL -j DOCKER"),
    );
    script.push("raw", "-I PREROUTING 1 -j DOCKER");
    if family == Family::Ipv4 {
        // Nobody but the host reaches its loopback, where ports may be published that would be translated before the kernel
        // refuses such packets.
        script.push("raw", "-A DOCKER -d 127.0.0.0/8 ! -i lo -j DROP");
    }
    script
}

/// Whether everything of a plan is still there. `present`: the output of `iptables-save`.
pub(super) fn is_intact(family: Family, present: &str, wanted: &[Change]) -> bool {
    let lines: std::collections::HashSet<&str> = present.lines().collect();
    let mut script = Script::default();
    script.push("filter", "-A FORWARD -j DOCKER-USER");
    script.push("filter", "-A FORWARD -j DOCKER-FORWARD");
    script.push("filter", "-A DOCKER-FORWARD -j DOCKER-BRIDGE");
    script.push(
        "nat",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
    );
    script.push("raw", "-A PREROUTING -j DOCKER");
    script.extend(changes(family, wanted));
    script.lines.iter().all(|(_, line)| {
        let line = appended(line);
        lines.contains(line.as_str())
    })
}

/// An insertion as `iptables-save` shows its result.
fn appended(line: &str) -> String {
    match line.strip_prefix("-I ") {
        Some(rest) => {
            let mut words = rest.splitn(3, ' ');
            let (chain, number) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let rule = words.next().unwrap_or("");
            if number.parse::<u32>().is_ok() {
                format!("-A {chain} {rule}")
            } else {
                format!("-A {rest}")
            }
        }
        None => line.to_owned(),
    }
}

/// What takes everything away but `DOCKER-USER`, which is the administrator's.
pub(super) fn removal(present: &str) -> Script {
    let mut script = stale_rules(present, &[]);
    script
        .lines
        .retain(|(_, line)| !line.ends_with("-j DOCKER-USER"));
    for (table, chains) in CHAINS {
        let own: Vec<&&str> = chains
            .iter()
            .filter(|chain| has_chain(present, table, chain))
            .collect();
        for chain in &own {
            script.push(table, format!("-F {chain}"));
        }
        for chain in &own {
            script.push(table, format!("-X {chain}"));
        }
    }
    script
}

/// Lets bridges pass a `FORWARD` chain that is there. `all`: no others.
pub(super) fn allowance(present: &str, bridges: &[String], all: bool) -> Script {
    let mut script = Script::default();
    if !has_chain(present, "filter", "FORWARD") {
        return script;
    }
    if all || !has_chain(present, "filter", ALLOWANCE) {
        script.push("filter", format!(":{ALLOWANCE} - [0:0]"));
    }
    for bridge in bridges {
        script.push("filter", format!("-A {ALLOWANCE} -i {bridge} -j ACCEPT"));
        script.push("filter", format!("-A {ALLOWANCE} -o {bridge} -j ACCEPT"));
    }
    if !has_allowance(present) {
        script.push("filter", format!("-I FORWARD 1 -j {ALLOWANCE}"));
    }
    script
}

/// What an [`allowance`] of `bridges` no longer needs.
pub(super) fn disallowance(present: &str, bridges: &[String]) -> Script {
    let mut script = Script::default();
    let lines: Vec<&str> = section(present, "filter").collect();
    for bridge in bridges {
        for direction in ["-i", "-o"] {
            let rule = format!("{ALLOWANCE} {direction} {bridge} -j ACCEPT");
            if lines.contains(&format!("-A {rule}").as_str()) {
                script.push("filter", format!("-D {rule}"));
            }
        }
    }
    script
}

/// Whether `FORWARD` asks the chain that lets bridges pass.
pub(super) fn has_allowance(present: &str) -> bool {
    let jump = format!("-A FORWARD -j {ALLOWANCE}");
    section(present, "filter").any(|line| line == jump)
}

fn has_chain(present: &str, table: &str, chain: &str) -> bool {
    section(present, table).any(|line| {
        line.strip_prefix(':')
            .and_then(|line| line.split(' ').next())
            == Some(chain)
    })
}

/// The lines of one table.
fn section<'a>(present: &'a str, table: &str) -> impl Iterator<Item = &'a str> {
    let head = format!("*{table}");
    present
        .lines()
        .skip_while(move |line| *line != head)
        .skip(1)
        .take_while(|line| *line != "COMMIT")
}

/// Deletions of rules in built-in chains that are ours or an earlier daemon's.
fn stale_rules(present: &str, bridges: &[String]) -> Script {
    let mut script = Script::default();
    for table in TABLES {
        for line in section(present, table) {
            let Some(rule) = line.strip_prefix("-A ") else {
                continue;
            };
            if is_ours(table, rule, bridges) {
                script.push(table, format!("-D {rule}"));
            }
        }
    }
    script
}

fn is_ours(table: &str, rule: &str, bridges: &[String]) -> bool {
    let words: Vec<&str> = rule.split(' ').collect();
    let (chain, target) = (words[0], words.windows(2).find(|pair| pair[0] == "-j"));
    let target = target.map_or("", |pair| pair[1]);
    match (table, chain) {
        ("filter", "FORWARD") => ["DOCKER-USER", "DOCKER-FORWARD", ALLOWANCE].contains(&target),
        ("nat", "PREROUTING" | "OUTPUT") | ("raw", "PREROUTING") => target == "DOCKER",
        ("nat", "POSTROUTING") => {
            let out = words.windows(2).find(|pair| pair[0] == "-o");
            let ours = |name: &str| {
                name == "docker0" || is_generated(name) || bridges.iter().any(|own| own == name)
            };
            ["MASQUERADE", "SNAT"].contains(&target) && out.is_some_and(|pair| ours(pair[1]))
        }
        _ => false,
    }
}

/// `br-` and twelve hex digits.
fn is_generated(name: &str) -> bool {
    name.strip_prefix("br-")
        .is_some_and(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn bridges(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .filter_map(|change| match change {
            Change::AddNetwork(network) | Change::RemoveNetwork(network) => {
                Some(network.bridge.clone())
            }
            _ => None,
        })
        .collect()
}

/// All lines for `changes`, in order.
pub(super) fn changes(family: Family, changes: &[Change]) -> Script {
    let mut script = Script::default();
    for change in changes {
        match change {
            Change::AddNetwork(network) => script.extend(network_rules(family, network)),
            Change::RemoveNetwork(network) => {
                script.extend(undone(network_rules(family, network)));
            }
            Change::AddPort(port) => script.extend(port_rules(family, port)),
            Change::RemovePort(port) => script.extend(undone(port_rules(family, port))),
            Change::AddLink(link) => script.extend(link_rules(family, link)),
            Change::RemoveLink(link) => script.extend(undone(link_rules(family, link))),
        }
    }
    script
}

/// The deletions of what a script adds.
fn undone(script: Script) -> Script {
    let lines = script.lines.into_iter().map(|(table, line)| {
        let added = appended(&line);
        (table, added.replacen("-A ", "-D ", 1))
    });
    Script {
        lines: lines.collect(),
    }
}

fn network_rules(family: Family, network: &NetworkRules) -> Script {
    let mut script = Script::default();
    let Some(rules) = family.rules(network) else {
        return script;
    };
    if network.internal {
        internal_rules(&mut script, network, rules);
    } else {
        filter_rules(&mut script, network, rules);
        nat_rules(&mut script, network, rules);
    }
    raw_rules(&mut script, network, rules);
    script
}

fn filter_rules(script: &mut Script, network: &NetworkRules, rules: &FamilyRules) {
    let bridge = &network.bridge;
    let mut push = |line: String| script.push("filter", line);
    push(format!(
        "-A DOCKER-CT -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    ));
    push(format!("-A DOCKER-BRIDGE -o {bridge} -j DOCKER"));
    if rules.mode == GatewayMode::Routed {
        let protocol = match rules.subnet {
            IpNet::V4(_) => "icmp",
            IpNet::V6(_) => "ipv6-icmp",
        };
        push(format!("-A DOCKER -o {bridge} -p {protocol} -j ACCEPT"));
    }
    let others = if rules.mode == GatewayMode::NatUnprotected {
        "ACCEPT"
    } else {
        "DROP"
    };
    push(format!("-A DOCKER ! -i {bridge} -o {bridge} -j {others}"));
    if !network.icc {
        // What is published is for neighbours too, at the host's addresses.
        push(format!(
            "-A DOCKER-FORWARD -i {bridge} -o {bridge} -m conntrack --ctstate DNAT -j ACCEPT"
        ));
        push(format!("-A DOCKER-FORWARD -i {bridge} -o {bridge} -j DROP"));
    }
    push(format!("-A DOCKER-FORWARD -i {bridge} -j ACCEPT"));
}

fn internal_rules(script: &mut Script, network: &NetworkRules, rules: &FamilyRules) {
    let (bridge, subnet) = (&network.bridge, rules.subnet);
    let between = if network.icc { "ACCEPT" } else { "DROP" };
    for line in [
        format!("-A DOCKER-INTERNAL ! -s {subnet} -o {bridge} -j DROP"),
        format!("-A DOCKER-INTERNAL ! -d {subnet} -i {bridge} -j DROP"),
        format!("-A DOCKER-FORWARD -i {bridge} -o {bridge} -j {between}"),
    ] {
        script.push("filter", line);
    }
}

fn nat_rules(script: &mut Script, network: &NetworkRules, rules: &FamilyRules) {
    if !matches!(rules.mode, GatewayMode::Nat | GatewayMode::NatUnprotected) {
        return;
    }
    let (bridge, subnet) = (&network.bridge, rules.subnet);
    let target = match rules.source {
        Some(address) => Some(format!("SNAT --to-source {address}")),
        None => network.masquerade.then(|| "MASQUERADE".to_owned()),
    };
    if let Some(target) = target {
        script.push(
            "nat",
            format!("-I POSTROUTING -s {subnet} ! -o {bridge} -j {target}"),
        );
    }
    let mut from = vec![subnet.to_string()];
    if subnet.addr().is_ipv4() {
        from.push("127.0.0.0/8".into());
    }
    for source in from {
        script.push(
            "nat",
            format!(
                "-I POSTROUTING -s {source} -o {bridge} -m conntrack --ctstate DNAT -j MASQUERADE"
            ),
        );
    }
}

/// Before connection tracking, when addresses are still those on the wire: nobody but the host and the bridge itself reaches
/// container addresses directly.
fn raw_rules(script: &mut Script, network: &NetworkRules, rules: &FamilyRules) {
    let (bridge, subnet) = (&network.bridge, rules.subnet);
    let guarded = matches!(rules.mode, GatewayMode::Nat | GatewayMode::Isolated);
    // Where answers come to the container's own address, the rules that know connections must do.
    let translated = network.masquerade || rules.source.is_some() || network.internal;
    if network.allows_direct_routing || !guarded || !translated {
        return;
    }
    for trusted in &network.trusted {
        script.push(
            "raw",
            format!("-A DOCKER -d {subnet} -i {trusted} -j ACCEPT"),
        );
    }
    if let Some(gateway) = rules.gateway {
        let host = host_net(gateway);
        script.push("raw", format!("-A DOCKER -d {host} -j RETURN"));
    }
    script.push(
        "raw",
        format!("-A DOCKER -d {subnet} ! -i {bridge} -j DROP"),
    );
}

fn port_rules(family: Family, port: &PortRule) -> Script {
    let mut script = Script::default();
    if Family::of(port.address) != family {
        return script;
    }
    let protocol = port.protocol.name();
    let (bridge, address) = (&port.bridge, host_net(port.address));
    script.push(
        "filter",
        format!(
            "-I DOCKER 1 -d {address} ! -i {bridge} -o {bridge} -p {protocol} -m {protocol} --dport {} -j ACCEPT",
            port.port
        ),
    );
    if port.mode == GatewayMode::Routed {
        return script;
    }
    let host = if port.host_address.is_unspecified() {
        String::new()
    } else {
        format!("-d {} ", host_net(port.host_address))
    };
    let target = std::net::SocketAddr::new(port.address, port.port);
    script.push(
        "nat",
        format!(
            "-A DOCKER {host}-p {protocol} -m {protocol} --dport {} -j DNAT --to-destination {target}",
            port.host_port
        ),
    );
    script
}

/// Answers pass as those of any connection.
fn link_rules(family: Family, link: &LinkRule) -> Script {
    let mut script = Script::default();
    if Family::of(link.to) != family {
        return script;
    }
    let (bridge, protocol) = (&link.bridge, link.protocol.name());
    let (from, to) = (host_net(link.from), host_net(link.to));
    script.push(
        "filter",
        format!(
            "-I DOCKER 1 -s {from} -d {to} -i {bridge} -o {bridge} -p {protocol} -m {protocol} --dport {} -j ACCEPT",
            link.port
        ),
    );
    script
}

fn host_net(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Protocol;

    fn network() -> NetworkRules {
        NetworkRules {
            bridge: "bridge1".into(),
            masquerade: true,
            icc: true,
            internal: false,
            trusted: Vec::new(),
            allows_direct_routing: false,
            v4: Some(FamilyRules {
                subnet: "192.0.2.0/24".parse().unwrap(),
                gateway: "192.0.2.1".parse().ok(),
                mode: GatewayMode::Nat,
                source: None,
            }),
            v6: None,
        }
    }

    fn port() -> PortRule {
        PortRule {
            bridge: "bridge1".into(),
            mode: GatewayMode::Nat,
            direct: false,
            protocol: Protocol::Tcp,
            host_address: [0, 0, 0, 0].into(),
            host_port: 8080,
            address: [192, 0, 2, 2].into(),
            port: 80,
        }
    }

    #[test]
    fn a_network_with_a_port_has_dockers_rules() {
        let list = [Change::AddNetwork(network()), Change::AddPort(port())];
        let expected = "\
*filter
-A DOCKER-CT -o bridge1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-BRIDGE -o bridge1 -j DOCKER
-A DOCKER ! -i bridge1 -o bridge1 -j DROP
-A DOCKER-FORWARD -i bridge1 -j ACCEPT
-I DOCKER 1 -d 192.0.2.2/32 ! -i bridge1 -o bridge1 -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
*nat
-I POSTROUTING -s 192.0.2.0/24 ! -o bridge1 -j MASQUERADE
-I POSTROUTING -s 192.0.2.0/24 -o bridge1 -m conntrack --ctstate DNAT -j MASQUERADE
-I POSTROUTING -s 127.0.0.0/8 -o bridge1 -m conntrack --ctstate DNAT -j MASQUERADE
-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.0.2.2:80
COMMIT
*raw
-A DOCKER -d 192.0.2.1/32 -j RETURN
-A DOCKER -d 192.0.2.0/24 ! -i bridge1 -j DROP
COMMIT
";
        assert_eq!(changes(Family::Ipv4, &list).text(), expected);
        assert_eq!(changes(Family::Ipv6, &list).text(), "");
    }

    #[test]
    fn removal_deletes_what_was_added() {
        let added = changes(Family::Ipv4, &[Change::AddPort(port())]);
        let removed = changes(Family::Ipv4, &[Change::RemovePort(port())]);
        let as_added: Vec<String> = removed
            .lines
            .iter()
            .map(|(_, line)| line.replacen("-D ", "-A ", 1))
            .collect();
        let expected: Vec<String> = added.lines.iter().map(|(_, line)| appended(line)).collect();
        assert_eq!(as_added, expected);
    }

    #[test]
    fn a_start_takes_old_rules_away_and_leaves_the_administrators() {
        let present = "\
*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -i eth1 -j ACCEPT
-A DOCKER-USER -s 10.0.0.9/32 -j DROP
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE
-A POSTROUTING -s 172.18.0.0/16 ! -o br-0123456789ab -j MASQUERADE
COMMIT
";
        let text = skeleton(Family::Ipv4, present, &[]).text();
        let deleted: Vec<&str> = text.lines().filter(|line| line.starts_with("-D")).collect();
        assert_eq!(
            deleted,
            [
                "-D FORWARD -j DOCKER-USER",
                "-D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
                "-D POSTROUTING -s 172.18.0.0/16 ! -o br-0123456789ab -j MASQUERADE",
            ]
        );
        assert!(!text.contains(":DOCKER-USER"), "{text}");
        assert!(text.contains(":DOCKER-FORWARD - [0:0]"));
    }

    #[test]
    fn what_is_missing_is_noticed() {
        let list = [Change::AddNetwork(network()), Change::AddPort(port())];
        let mut script = skeleton(Family::Ipv4, "", &list);
        script.extend(changes(Family::Ipv4, &list));
        let present: Vec<String> = script
            .lines
            .iter()
            .map(|(_, line)| appended(line))
            .collect();
        assert!(is_intact(Family::Ipv4, &present.join("\n"), &list));
        let flushed: Vec<String> = present
            .into_iter()
            .filter(|line| !line.contains("DNAT --to"))
            .collect();
        assert!(!is_intact(Family::Ipv4, &flushed.join("\n"), &list));
    }
}
