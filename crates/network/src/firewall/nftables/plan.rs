//! Which rules make a change true.
//!
//! Whatever comes and goes with containers is an element of a map, whatever comes and goes with networks is a chain of its own
//! behind a map: nothing ever has to find a rule among others, and packets of known connections are looked up nowhere.
//!
//! Our chains drop and translate; their `accept` cannot overrule a `drop` in another table, so a host that drops forwarded packets
//! elsewhere keeps doing so.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::command::{
    Action, Command, Element, Family, Field, Hook, HookPoint, Key, Set, Type, Value,
};
use super::statement::Statement;
use crate::firewall::{Change, FamilyRules, LinkRule, NetworkRules, PortRule};
use crate::option::GatewayMode;

const FORWARD_IN: &str = "forward-in";
const FORWARD_OUT: &str = "forward-out";
const SOURCE_NAT_OUT: &str = "source-nat-out";
const SOURCE_NAT_IN: &str = "source-nat-in";
const DIRECT: &str = "direct";
const PORTS_ON_ADDRESS: &str = "ports-on-address";
const PORTS: &str = "ports";
const PUBLISHED: &str = "published";
/// Ports that answer at the container's own address.
const OPEN: &str = "open";
/// Ports that one container may ask of another though others may not.
const LINKS: &str = "links";

/// Priorities that `nft` calls mangle, dstnat, filter and srcnat.
const MANGLE: i32 = -150;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// The table with everything that does not depend on networks. An older one is thrown away: adding it first makes the deletion
/// succeed whether it was there or not.
pub(super) fn skeleton(family: Family) -> Vec<Command> {
    let mut actions = vec![Action::AddTable, Action::DeleteTable, Action::AddTable];
    actions.extend(sets(family).into_iter().map(Action::AddSet));
    actions.extend(guard_chain(family));
    actions.extend(forward_chain());
    actions.extend(nat_chains(family));
    of_family(family, actions)
}

/// What takes the table away.
pub(super) fn removal(family: Family) -> Vec<Command> {
    of_family(family, vec![Action::AddTable, Action::DeleteTable])
}

fn of_family(family: Family, actions: Vec<Action>) -> Vec<Command> {
    actions
        .into_iter()
        .map(|action| Command { family, action })
        .collect()
}

fn sets(family: Family) -> Vec<Set> {
    let address = Type::Address(family);
    let interface = || vec![Type::InterfaceName];
    let verdict = || Some(vec![Type::Verdict]);
    let target = || Some(vec![address, Type::Port]);
    let full_key = || vec![address, Type::Protocol, Type::Port];
    let set = |name, key, value| Set {
        name,
        key,
        value,
        interval: name == DIRECT,
    };
    vec![
        set(FORWARD_IN, interface(), verdict()),
        set(FORWARD_OUT, interface(), verdict()),
        set(SOURCE_NAT_OUT, interface(), verdict()),
        set(SOURCE_NAT_IN, interface(), verdict()),
        set(DIRECT, vec![address], verdict()),
        set(PORTS_ON_ADDRESS, full_key(), target()),
        set(PORTS, vec![Type::Protocol, Type::Port], target()),
        set(OPEN, full_key(), None),
        set(
            LINKS,
            vec![address, address, Type::Protocol, Type::Port],
            None,
        ),
    ]
}

/// Before translation, when addresses are still those on the wire: nobody but the host reaches its loopback, where ports may be
/// published that would be translated before the kernel refuses such packets, and nobody but the host and the bridge itself
/// reaches container addresses directly.
///
/// Connection tracking comes before, so that only the first packet of a connection is looked up among subnets; nothing that is
/// dropped here ever becomes a connection. Loopback comes first all the same: a container could make up a packet that belongs to
/// one of the host's own connections there.
fn guard_chain(family: Family) -> [Action; 4] {
    const CHAIN: &str = "guard-prerouting";
    [
        base_chain(CHAIN, "filter", HookPoint::Prerouting, MANGLE),
        rule(
            CHAIN,
            vec![
                Statement::Destination(loopback(family)),
                Statement::InInterface {
                    equal: false,
                    name: "lo".into(),
                },
                Statement::Counter,
                Statement::Drop,
            ],
        ),
        rule(CHAIN, vec![Statement::Established, Statement::Accept]),
        rule(CHAIN, vec![Statement::DestinationMap(DIRECT)]),
    ]
}

/// What belongs to a connection that was let through passes before anything is looked up: nearly every packet does.
fn forward_chain() -> [Action; 4] {
    [
        base_chain("forward", "filter", HookPoint::Forward, FILTER),
        rule("forward", vec![Statement::Established, Statement::Accept]),
        rule("forward", vec![Statement::OutInterfaceMap(FORWARD_IN)]),
        rule("forward", vec![Statement::InInterfaceMap(FORWARD_OUT)]),
    ]
}

/// Published ports are asked for when the destination is an address of this host; one bound to an address goes before one on all.
///
/// What is asked for at `::1` is not translated: an answer to a source of `::1` never leaves the container. It stays with the port's
/// own socket.
fn nat_chains(family: Family) -> Vec<Action> {
    let local = || vec![Statement::DestinationLocal, Statement::Jump(PUBLISHED)];
    let mut from_host = local();
    if family == Family::Ipv6 {
        from_host.insert(0, Statement::DestinationIsNot(Ipv6Addr::LOCALHOST.into()));
    }
    let map = |map, with_address| vec![Statement::DnatMap { map, with_address }];
    vec![
        Action::AddChain {
            name: PUBLISHED.into(),
            hook: None,
        },
        rule(PUBLISHED, map(PORTS_ON_ADDRESS, true)),
        rule(PUBLISHED, map(PORTS, false)),
        base_chain("nat-prerouting", "nat", HookPoint::Prerouting, DSTNAT),
        rule("nat-prerouting", local()),
        base_chain("nat-output", "nat", HookPoint::Output, DSTNAT),
        rule("nat-output", from_host),
        base_chain("nat-postrouting", "nat", HookPoint::Postrouting, SRCNAT),
        rule(
            "nat-postrouting",
            vec![Statement::InInterfaceMap(SOURCE_NAT_OUT)],
        ),
        rule(
            "nat-postrouting",
            vec![Statement::OutInterfaceMap(SOURCE_NAT_IN)],
        ),
    ]
}

/// All commands for `changes`, in order, of the families that are on.
pub(super) fn changes(changes: &[Change], families: &[Family]) -> Vec<Command> {
    let all = changes.iter().flat_map(|change| match change {
        Change::AddNetwork(network) => each_family(network, add_network),
        Change::RemoveNetwork(network) => each_family(network, remove_network),
        Change::AddPort(port) => port_elements(port, true),
        Change::RemovePort(port) => port_elements(port, false),
        Change::AddLink(link) => vec![link_element(link, true)],
        Change::RemoveLink(link) => vec![link_element(link, false)],
    });
    let mut commands: Vec<Command> = Vec::new();
    for command in all.filter(|command| families.contains(&command.family)) {
        // A container's port that several of the host, or several links, lead to is opened once.
        if !(is_opening(&command) && commands.contains(&command)) {
            commands.push(command);
        }
    }
    commands
}

fn is_opening(command: &Command) -> bool {
    match command.action {
        Action::AddElement { set, .. } | Action::DeleteElement { set, .. } => {
            [OPEN, LINKS].contains(&set)
        }
        _ => false,
    }
}

fn each_family(
    network: &NetworkRules,
    make: fn(&NetworkRules, &FamilyRules) -> Vec<Action>,
) -> Vec<Command> {
    [(Family::Ipv4, &network.v4), (Family::Ipv6, &network.v6)]
        .into_iter()
        .filter_map(|(family, rules)| {
            let actions = make(network, rules.as_ref()?);
            Some(of_family(family, actions))
        })
        .flatten()
        .collect()
}

fn add_network(network: &NetworkRules, family: &FamilyRules) -> Vec<Action> {
    let mut actions = Vec::new();
    for (chain, rules) in network_chains(network, family) {
        actions.push(Action::AddChain {
            name: chain.clone(),
            hook: None,
        });
        actions.extend(rules.into_iter().map(|statements| Action::AddRule {
            chain: chain.clone(),
            statements,
        }));
    }
    let elements = network_elements(network, family);
    actions.extend(elements.map(|(set, element)| Action::AddElement { set, element }));
    actions
}

fn remove_network(network: &NetworkRules, family: &FamilyRules) -> Vec<Action> {
    let mut actions: Vec<Action> = network_elements(network, family)
        .map(|(set, element)| Action::DeleteElement { set, element })
        .collect();
    for (name, _) in network_chains(network, family) {
        actions.push(Action::FlushChain { name: name.clone() });
        actions.push(Action::DeleteChain { name });
    }
    actions
}

fn chain_name(map: &str, bridge: &str) -> String {
    format!("{map}-{bridge}")
}

fn network_chains(
    network: &NetworkRules,
    family: &FamilyRules,
) -> [(String, Vec<Vec<Statement>>); 5] {
    let name = |map| chain_name(map, &network.bridge);
    [
        (name(FORWARD_IN), forward_in(network, family)),
        (name(FORWARD_OUT), forward_out(network)),
        (name(SOURCE_NAT_OUT), source_nat_out(network, family)),
        (name(SOURCE_NAT_IN), source_nat_in(network, family)),
        (name(DIRECT), direct(network, family)),
    ]
}

fn network_elements(
    network: &NetworkRules,
    family: &FamilyRules,
) -> impl Iterator<Item = (&'static str, Element)> {
    let interface = || Key::Fields(vec![Field::Interface(network.bridge.clone())]);
    let jump = |map| Some(Value::Jump(chain_name(map, &network.bridge)));
    let by_interface = |map| {
        let element = Element {
            key: interface(),
            value: jump(map),
        };
        (map, element)
    };
    let subnet = Key::Range(family.subnet.network(), family.subnet.broadcast());
    let direct = Element {
        key: subnet,
        value: jump(DIRECT),
    };
    [
        by_interface(FORWARD_IN),
        by_interface(FORWARD_OUT),
        by_interface(SOURCE_NAT_OUT),
        by_interface(SOURCE_NAT_IN),
        (DIRECT, direct),
    ]
    .into_iter()
}

/// First packets towards containers: from neighbours, and to published ports; nothing else.
fn forward_in(network: &NetworkRules, family: &FamilyRules) -> Vec<Vec<Statement>> {
    let between = match network.icc {
        true => Statement::Accept,
        false => Statement::Drop,
    };
    let mut rules = Vec::new();
    if !network.icc {
        let linked = Statement::SourceAndDestinationIn(LINKS);
        rules.push(vec![linked, Statement::Counter, Statement::Accept]);
    }
    if !network.icc && !network.internal {
        // What is published is for neighbours too, at the host's addresses.
        rules.push(vec![
            Statement::Dnatted,
            Statement::Counter,
            Statement::Accept,
        ]);
    }
    rules.push(vec![
        in_interface(network, true),
        Statement::Counter,
        between,
    ]);
    if !network.internal {
        rules.extend(from_outside(network, family));
    }
    rules.push(vec![Statement::Counter, Statement::Drop]);
    rules
}

fn from_outside(network: &NetworkRules, family: &FamilyRules) -> Vec<Vec<Statement>> {
    let accept = |what| vec![what, Statement::Counter, Statement::Accept];
    match family.mode {
        GatewayMode::Isolated => Vec::new(),
        GatewayMode::NatUnprotected => vec![vec![Statement::Counter, Statement::Accept]],
        GatewayMode::Routed => vec![
            accept(Statement::Protocol(echo_protocol(family.subnet))),
            accept(Statement::DestinationIn(OPEN)),
        ],
        GatewayMode::Nat => {
            let mut rules = vec![accept(Statement::Dnatted)];
            if network.is_direct(family.mode) {
                rules.push(accept(Statement::DestinationIn(OPEN)));
            }
            rules
        }
    }
}

/// ICMP or ICMPv6.
fn echo_protocol(subnet: IpNet) -> u8 {
    match subnet {
        IpNet::V4(_) => 1,
        IpNet::V6(_) => 58,
    }
}

fn forward_out(network: &NetworkRules) -> Vec<Vec<Statement>> {
    if !network.internal {
        return vec![vec![Statement::Counter, Statement::Accept]];
    }
    vec![vec![
        elsewhere(network),
        Statement::Counter,
        Statement::Drop,
    ]]
}

fn source_nat_out(network: &NetworkRules, family: &FamilyRules) -> Vec<Vec<Statement>> {
    let translate = match family.source {
        Some(address) => Statement::SourceNat(address),
        None if network.masquerade => Statement::Masquerade,
        None => return Vec::new(),
    };
    if network.internal || !is_translated(family.mode) {
        return Vec::new();
    }
    vec![vec![
        elsewhere(network),
        Statement::Source(family.subnet),
        Statement::Counter,
        translate,
    ]]
}

/// Towards containers, through a published port, from where the answer would not find back by itself: the same network (it would go
/// straight to the neighbour, who never asked that address), and the host's loopback.
fn source_nat_in(network: &NetworkRules, family: &FamilyRules) -> Vec<Vec<Statement>> {
    if network.internal || !is_translated(family.mode) {
        return Vec::new();
    }
    let from = |net| {
        vec![
            Statement::Dnatted,
            Statement::Source(net),
            Statement::Counter,
            Statement::Masquerade,
        ]
    };
    vec![
        from(family.subnet),
        from(loopback(Family::of(family.subnet.addr()))),
    ]
}

fn is_translated(mode: GatewayMode) -> bool {
    matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected)
}

fn direct(network: &NetworkRules, family: &FamilyRules) -> Vec<Vec<Statement>> {
    if network.allows_direct_routing
        || !is_guarded(family.mode)
        || !leaves_translated(network, family)
    {
        return Vec::new();
    }
    let trusted = network.trusted.iter().map(|name| {
        let interface = Statement::InInterface {
            equal: true,
            name: name.clone(),
        };
        vec![interface, Statement::Counter, Statement::Accept]
    });
    let mut rules: Vec<Vec<Statement>> = trusted.collect();
    let mut statements = vec![in_interface(network, false)];
    statements.extend(family.gateway.map(Statement::DestinationIsNot));
    statements.extend([Statement::Counter, Statement::Drop]);
    rules.push(statements);
    rules
}

/// Whether answers come to the host's address. Where they come to the container's own, `forward-in` alone decides, which knows
/// connections.
fn leaves_translated(network: &NetworkRules, family: &FamilyRules) -> bool {
    network.masquerade || family.source.is_some() || network.internal
}

/// Whether container addresses are for the host and their neighbours alone.
fn is_guarded(mode: GatewayMode) -> bool {
    matches!(mode, GatewayMode::Nat | GatewayMode::Isolated)
}

fn port_elements(port: &PortRule, add: bool) -> Vec<Command> {
    let mut elements = Vec::new();
    if is_translated(port.mode) {
        elements.push(translation(port));
    }
    if port.direct {
        let key = vec![
            Field::Address(port.address),
            Field::Protocol(port.protocol.number()),
            Field::Port(port.port),
        ];
        let element = Element {
            key: Key::Fields(key),
            value: None,
        };
        elements.push((OPEN, element));
    }
    let actions = elements.into_iter().map(|(set, element)| {
        if add {
            Action::AddElement { set, element }
        } else {
            Action::DeleteElement { set, element }
        }
    });
    of_family(Family::of(port.address), actions.collect())
}

fn link_element(link: &LinkRule, add: bool) -> Command {
    let key = vec![
        Field::Address(link.from),
        Field::Address(link.to),
        Field::Protocol(link.protocol.number()),
        Field::Port(link.port),
    ];
    let element = Element {
        key: Key::Fields(key),
        value: None,
    };
    let set = LINKS;
    Command {
        family: Family::of(link.from),
        action: match add {
            true => Action::AddElement { set, element },
            false => Action::DeleteElement { set, element },
        },
    }
}

fn translation(port: &PortRule) -> (&'static str, Element) {
    let mut key = vec![
        Field::Protocol(port.protocol.number()),
        Field::Port(port.host_port),
    ];
    let set = if port.host_address.is_unspecified() {
        PORTS
    } else {
        key.insert(0, Field::Address(port.host_address));
        PORTS_ON_ADDRESS
    };
    let target = Value::Fields(vec![Field::Address(port.address), Field::Port(port.port)]);
    let element = Element {
        key: Key::Fields(key),
        value: Some(target),
    };
    (set, element)
}

fn in_interface(network: &NetworkRules, equal: bool) -> Statement {
    Statement::InInterface {
        equal,
        name: network.bridge.clone(),
    }
}

fn elsewhere(network: &NetworkRules) -> Statement {
    Statement::OutInterface {
        equal: false,
        name: network.bridge.clone(),
    }
}

fn base_chain(name: &str, kind: &'static str, point: HookPoint, priority: i32) -> Action {
    Action::AddChain {
        name: name.into(),
        hook: Some(Hook {
            kind,
            point,
            priority,
        }),
    }
}

fn rule(chain: &str, statements: Vec<Statement>) -> Action {
    Action::AddRule {
        chain: chain.into(),
        statements,
    }
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Family::Ipv6 => Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Protocol;

    fn network() -> NetworkRules {
        NetworkRules {
            bridge: "br7".into(),
            masquerade: true,
            icc: true,
            internal: false,
            trusted: Vec::new(),
            allows_direct_routing: false,
            v4: Some(FamilyRules {
                subnet: "10.7.0.0/24".parse().unwrap(),
                gateway: "10.7.0.1".parse().ok(),
                mode: GatewayMode::Nat,
                source: None,
            }),
            v6: None,
        }
    }

    fn dual(mode: GatewayMode) -> NetworkRules {
        NetworkRules {
            v4: None,
            v6: Some(FamilyRules {
                subnet: "fd00:7::/64".parse().unwrap(),
                gateway: "fd00:7::1".parse().ok(),
                mode,
                source: None,
            }),
            ..network()
        }
    }

    /// The plan as a script, without what every line says.
    fn script(list: &[Change]) -> Vec<String> {
        changes(list, &[Family::Ipv4, Family::Ipv6])
            .iter()
            .map(|command| command.to_string().replacen(" wharf-bridges", "", 1))
            .map(|line| line.replacen(" ip ", " ", 1))
            .collect()
    }

    #[test]
    fn a_network_is_five_chains_behind_maps() {
        assert_eq!(
            script(&[Change::AddNetwork(network())]),
            [
                "add chain forward-in-br7",
                r#"add rule forward-in-br7 iifname "br7" counter accept"#,
                "add rule forward-in-br7 ct status dnat counter accept",
                "add rule forward-in-br7 counter drop",
                "add chain forward-out-br7",
                "add rule forward-out-br7 counter accept",
                "add chain source-nat-out-br7",
                r#"add rule source-nat-out-br7 oifname != "br7" ip saddr 10.7.0.0/24 counter masquerade"#,
                "add chain source-nat-in-br7",
                "add rule source-nat-in-br7 ct status dnat ip saddr 10.7.0.0/24 counter masquerade",
                "add rule source-nat-in-br7 ct status dnat ip saddr 127.0.0.0/8 counter masquerade",
                "add chain direct-br7",
                r#"add rule direct-br7 iifname != "br7" ip daddr != 10.7.0.1 counter drop"#,
                r#"add element forward-in { "br7" : jump forward-in-br7 }"#,
                r#"add element forward-out { "br7" : jump forward-out-br7 }"#,
                r#"add element source-nat-out { "br7" : jump source-nat-out-br7 }"#,
                r#"add element source-nat-in { "br7" : jump source-nat-in-br7 }"#,
                "add element direct { 10.7.0.0-10.7.0.255 : jump direct-br7 }",
            ]
        );
    }

    #[test]
    fn known_connections_pass_before_anything_is_looked_up() {
        let rules: Vec<String> = skeleton(Family::Ipv4)
            .iter()
            .map(ToString::to_string)
            .filter_map(|line| {
                let rule = line.strip_prefix("add rule ip wharf-bridges ");
                rule.map(str::to_owned)
            })
            .filter(|rule| !rule.contains("nat") && !rule.contains("published"))
            .collect();
        assert_eq!(
            rules,
            [
                r#"guard-prerouting ip daddr 127.0.0.0/8 iifname != "lo" counter drop"#,
                "guard-prerouting ct state established,related accept",
                "guard-prerouting daddr vmap @direct",
                "forward ct state established,related accept",
                "forward oifname vmap @forward-in",
                "forward iifname vmap @forward-out",
            ]
        );
    }

    #[test]
    fn an_internal_network_drops_both_ways() {
        let rules = script(&[Change::AddNetwork(NetworkRules {
            internal: true,
            icc: false,
            ..network()
        })]);
        let rules: Vec<&str> = rules
            .iter()
            .filter_map(|line| line.strip_prefix("add rule "))
            .collect();
        assert_eq!(
            rules,
            [
                "forward-in-br7 saddr . daddr . meta l4proto . th dport @links counter accept",
                r#"forward-in-br7 iifname "br7" counter drop"#,
                "forward-in-br7 counter drop",
                r#"forward-out-br7 oifname != "br7" counter drop"#,
                r#"direct-br7 iifname != "br7" ip daddr != 10.7.0.1 counter drop"#,
            ]
        );
    }

    #[test]
    fn removal_undoes_what_was_added_and_references_go_first() {
        let added = script(&[Change::AddNetwork(network())]);
        let removed = script(&[Change::RemoveNetwork(network())]);
        let of = |list: &[String], prefix: &str| -> Vec<String> {
            list.iter()
                .filter_map(|line| line.strip_prefix(prefix).map(str::to_owned))
                .collect()
        };
        assert_eq!(of(&removed, "delete element"), of(&added, "add element"));
        assert_eq!(of(&removed, "delete chain"), of(&added, "add chain"));
        let last_element = removed
            .iter()
            .rposition(|line| line.starts_with("delete element"));
        let first_chain = removed.iter().position(|line| line.contains(" chain "));
        assert!(last_element < first_chain);
    }

    #[test]
    fn a_port_is_one_element() {
        let port = |host: [u8; 4], protocol| PortRule {
            bridge: "br7".into(),
            mode: GatewayMode::Nat,
            direct: false,
            protocol,
            host_address: host.into(),
            host_port: 8080,
            address: "10.7.0.2".parse().unwrap(),
            port: 80,
        };
        assert_eq!(
            script(&[
                Change::AddPort(port([0; 4], Protocol::Tcp)),
                Change::RemovePort(port([127, 0, 0, 1], Protocol::Udp))
            ]),
            [
                "add element ports { 6 . 8080 : 10.7.0.2 . 80 }",
                "delete element ports-on-address { 127.0.0.1 . 17 . 8080 : 10.7.0.2 . 80 }",
            ]
        );
    }

    #[test]
    fn routed_networks_open_ports_and_translate_nothing() {
        let rules = script(&[Change::AddNetwork(dual(GatewayMode::Routed))]);
        let rules: Vec<&str> = rules
            .iter()
            .filter_map(|line| line.strip_prefix("add rule ip6 "))
            .collect();
        assert_eq!(
            rules,
            [
                r#"forward-in-br7 iifname "br7" counter accept"#,
                "forward-in-br7 meta l4proto 58 counter accept",
                "forward-in-br7 daddr . meta l4proto . th dport @open counter accept",
                "forward-in-br7 counter drop",
                "forward-out-br7 counter accept",
            ]
        );
        let port = PortRule {
            bridge: "br7".into(),
            mode: GatewayMode::Routed,
            direct: true,
            protocol: Protocol::Tcp,
            host_address: Ipv6Addr::UNSPECIFIED.into(),
            host_port: 8080,
            address: "fd00:7::2".parse().unwrap(),
            port: 80,
        };
        assert_eq!(
            script(&[Change::AddPort(port)]),
            ["add element ip6 open { fd00:7::2 . 6 . 80 }"]
        );
    }

    #[test]
    fn a_family_that_is_off_has_no_commands() {
        let add = [Change::AddNetwork(dual(GatewayMode::Nat))];
        assert!(changes(&add, &[Family::Ipv4]).is_empty());
        assert!(!changes(&add, &[Family::Ipv6]).is_empty());
    }
}
