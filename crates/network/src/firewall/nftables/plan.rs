//! Which rules make a change true.
//!
//! Whatever comes and goes with containers is an element of a map, whatever comes and goes with networks is a chain of its own
//! behind a map: nothing ever has to find a rule among others, and packets of other interfaces pass two lookups.
//!
//! Our chains drop and translate; their `accept` cannot overrule a `drop` in another table, so a host that drops forwarded packets
//! elsewhere keeps doing so.

use ipnet::Ipv4Net;

use super::command::{Command, Element, Field, Hook, HookPoint, Key, Set, Type, Value};
use super::statement::Statement;
use crate::firewall::{Change, NetworkRules, PortRule};

const BRIDGES: &str = "bridges";
const FORWARD_IN: &str = "forward-in";
const FORWARD_OUT: &str = "forward-out";
const SOURCE_NAT_OUT: &str = "source-nat-out";
const SOURCE_NAT_IN: &str = "source-nat-in";
const DIRECT: &str = "direct";
const PORTS_ON_ADDRESS: &str = "ports-on-address";
const PORTS: &str = "ports";
const PUBLISHED: &str = "published";

/// Priorities that `nft` calls raw, dstnat, filter and srcnat.
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// The table with everything that does not depend on networks. An older one is thrown away: adding it first makes the deletion
/// succeed whether it was there or not.
pub(super) fn skeleton() -> Vec<Command> {
    let mut commands = vec![Command::AddTable, Command::DeleteTable, Command::AddTable];
    commands.extend(sets().map(Command::AddSet));
    commands.extend(raw_chain());
    commands.extend(forward_chain());
    commands.extend(nat_chains());
    commands
}

fn sets() -> impl Iterator<Item = Set> {
    const INTERFACE: &[Type] = &[Type::InterfaceName];
    const VERDICT: Option<&[Type]> = Some(&[Type::Verdict]);
    const TARGET: Option<&[Type]> = Some(&[Type::Ipv4Address, Type::Port]);
    let set = |name, key, value, interval| Set {
        name,
        key,
        value,
        interval,
    };
    [
        set(BRIDGES, INTERFACE, None, false),
        set(FORWARD_IN, INTERFACE, VERDICT, false),
        set(FORWARD_OUT, INTERFACE, VERDICT, false),
        set(SOURCE_NAT_OUT, INTERFACE, VERDICT, false),
        set(SOURCE_NAT_IN, INTERFACE, VERDICT, false),
        set(DIRECT, &[Type::Ipv4Address], VERDICT, true),
        set(
            PORTS_ON_ADDRESS,
            &[Type::Ipv4Address, Type::Protocol, Type::Port],
            TARGET,
            false,
        ),
        set(PORTS, &[Type::Protocol, Type::Port], TARGET, false),
    ]
    .into_iter()
}

/// Before connection tracking, when addresses are still those on the wire: containers never reach the host's loopback, and nobody
/// but the host and the bridge itself reaches container addresses directly.
fn raw_chain() -> [Command; 3] {
    [
        base_chain("raw-prerouting", "filter", HookPoint::Prerouting, RAW),
        rule(
            "raw-prerouting",
            vec![
                Statement::InInterfaceIn(BRIDGES),
                Statement::Destination(loopback()),
                Statement::Counter,
                Statement::Drop,
            ],
        ),
        rule("raw-prerouting", vec![Statement::DestinationMap(DIRECT)]),
    ]
}

fn forward_chain() -> [Command; 3] {
    [
        base_chain("forward", "filter", HookPoint::Forward, FILTER),
        rule("forward", vec![Statement::OutInterfaceMap(FORWARD_IN)]),
        rule("forward", vec![Statement::InInterfaceMap(FORWARD_OUT)]),
    ]
}

/// Published ports are asked for when the destination is an address of this host; one bound to an address goes before one on all.
fn nat_chains() -> Vec<Command> {
    let local = || vec![Statement::DestinationLocal, Statement::Jump(PUBLISHED)];
    vec![
        Command::AddChain {
            name: PUBLISHED.into(),
            hook: None,
        },
        rule(
            PUBLISHED,
            vec![Statement::DnatMap {
                map: PORTS_ON_ADDRESS,
                with_address: true,
            }],
        ),
        rule(
            PUBLISHED,
            vec![Statement::DnatMap {
                map: PORTS,
                with_address: false,
            }],
        ),
        base_chain("nat-prerouting", "nat", HookPoint::Prerouting, DSTNAT),
        rule("nat-prerouting", local()),
        base_chain("nat-output", "nat", HookPoint::Output, DSTNAT),
        rule("nat-output", local()),
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

/// All commands for `changes`, in order.
pub(super) fn changes(changes: &[Change]) -> Vec<Command> {
    changes
        .iter()
        .flat_map(|change| match change {
            Change::AddNetwork(network) => add_network(network),
            Change::RemoveNetwork(network) => remove_network(network),
            Change::AddPort(port) => vec![port_element(port, true)],
            Change::RemovePort(port) => vec![port_element(port, false)],
        })
        .collect()
}

fn add_network(network: &NetworkRules) -> Vec<Command> {
    let mut commands = Vec::new();
    for (chain, rules) in network_chains(network) {
        commands.push(Command::AddChain {
            name: chain.clone(),
            hook: None,
        });
        commands.extend(rules.into_iter().map(|statements| Command::AddRule {
            chain: chain.clone(),
            statements,
        }));
    }
    commands.extend(
        network_elements(network).map(|(set, element)| Command::AddElement { set, element }),
    );
    commands
}

fn remove_network(network: &NetworkRules) -> Vec<Command> {
    let mut commands: Vec<Command> = network_elements(network)
        .map(|(set, element)| Command::DeleteElement { set, element })
        .collect();
    for (name, _) in network_chains(network) {
        commands.push(Command::FlushChain { name: name.clone() });
        commands.push(Command::DeleteChain { name });
    }
    commands
}

fn chain_name(map: &str, bridge: &str) -> String {
    format!("{map}-{bridge}")
}

fn network_chains(network: &NetworkRules) -> [(String, Vec<Vec<Statement>>); 5] {
    let name = |map| chain_name(map, &network.bridge);
    [
        (name(FORWARD_IN), forward_in(network)),
        (name(FORWARD_OUT), forward_out(network)),
        (name(SOURCE_NAT_OUT), source_nat_out(network)),
        (name(SOURCE_NAT_IN), source_nat_in(network)),
        (name(DIRECT), direct(network)),
    ]
}

fn network_elements(network: &NetworkRules) -> impl Iterator<Item = (&'static str, Element)> {
    let interface = || Key::Fields(vec![Field::Interface(network.bridge.clone())]);
    let jump = |map| Some(Value::Jump(chain_name(map, &network.bridge)));
    let by_interface = |map| {
        (
            map,
            Element {
                key: interface(),
                value: jump(map),
            },
        )
    };
    let subnet = Key::Range(network.subnet.network(), network.subnet.broadcast());
    [
        (
            BRIDGES,
            Element {
                key: interface(),
                value: None,
            },
        ),
        by_interface(FORWARD_IN),
        by_interface(FORWARD_OUT),
        by_interface(SOURCE_NAT_OUT),
        by_interface(SOURCE_NAT_IN),
        (
            DIRECT,
            Element {
                key: subnet,
                value: jump(DIRECT),
            },
        ),
    ]
    .into_iter()
}

/// Towards containers: answers, neighbours, published ports; nothing else.
fn forward_in(network: &NetworkRules) -> Vec<Vec<Statement>> {
    let between = if network.icc {
        Statement::Accept
    } else {
        Statement::Drop
    };
    let mut rules = vec![
        vec![
            Statement::Established,
            Statement::Counter,
            Statement::Accept,
        ],
        vec![in_interface(network, true), Statement::Counter, between],
    ];
    if !network.internal {
        rules.push(vec![
            Statement::Dnatted,
            Statement::Counter,
            Statement::Accept,
        ]);
    }
    rules.push(vec![Statement::Counter, Statement::Drop]);
    rules
}

fn forward_out(network: &NetworkRules) -> Vec<Vec<Statement>> {
    if !network.internal {
        return vec![vec![Statement::Counter, Statement::Accept]];
    }
    let elsewhere = Statement::OutInterface {
        equal: false,
        name: network.bridge.clone(),
    };
    vec![vec![elsewhere, Statement::Counter, Statement::Drop]]
}

fn source_nat_out(network: &NetworkRules) -> Vec<Vec<Statement>> {
    if network.internal || !network.masquerade {
        return Vec::new();
    }
    let elsewhere = Statement::OutInterface {
        equal: false,
        name: network.bridge.clone(),
    };
    vec![vec![
        elsewhere,
        Statement::Source(network.subnet),
        Statement::Counter,
        Statement::Masquerade,
    ]]
}

/// Towards containers, through a published port, from where the answer would not find back by itself: the same network (it would go
/// straight to the neighbour, who never asked that address), and the host's loopback.
fn source_nat_in(network: &NetworkRules) -> Vec<Vec<Statement>> {
    if network.internal {
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
    vec![from(network.subnet), from(loopback())]
}

fn direct(network: &NetworkRules) -> Vec<Vec<Statement>> {
    let mut statements = vec![in_interface(network, false)];
    statements.extend(network.gateway.map(Statement::DestinationIsNot));
    statements.extend([Statement::Counter, Statement::Drop]);
    vec![statements]
}

fn port_element(port: &PortRule, add: bool) -> Command {
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
    if add {
        Command::AddElement { set, element }
    } else {
        Command::DeleteElement { set, element }
    }
}

fn in_interface(network: &NetworkRules, equal: bool) -> Statement {
    Statement::InInterface {
        equal,
        name: network.bridge.clone(),
    }
}

fn base_chain(name: &str, kind: &'static str, point: HookPoint, priority: i32) -> Command {
    Command::AddChain {
        name: name.into(),
        hook: Some(Hook {
            kind,
            point,
            priority,
        }),
    }
}

fn rule(chain: &str, statements: Vec<Statement>) -> Command {
    Command::AddRule {
        chain: chain.into(),
        statements,
    }
}

fn loopback() -> Ipv4Net {
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Protocol;

    fn network() -> NetworkRules {
        NetworkRules {
            bridge: "br7".into(),
            subnet: "10.7.0.0/24".parse().unwrap(),
            gateway: "10.7.0.1".parse().ok(),
            masquerade: true,
            icc: true,
            internal: false,
        }
    }

    /// The plan as a script, without what every line says.
    fn script(list: &[Change]) -> Vec<String> {
        changes(list)
            .iter()
            .map(|command| command.to_string().replace(" ip wharf-bridges", ""))
            .collect()
    }

    #[test]
    fn a_network_is_five_chains_behind_maps() {
        assert_eq!(
            script(&[Change::AddNetwork(network())]),
            [
                "add chain forward-in-br7",
                "add rule forward-in-br7 ct state established,related counter accept",
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
                r#"add element bridges { "br7" }"#,
                r#"add element forward-in { "br7" : jump forward-in-br7 }"#,
                r#"add element forward-out { "br7" : jump forward-out-br7 }"#,
                r#"add element source-nat-out { "br7" : jump source-nat-out-br7 }"#,
                r#"add element source-nat-in { "br7" : jump source-nat-in-br7 }"#,
                "add element direct { 10.7.0.0-10.7.0.255 : jump direct-br7 }",
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
                "forward-in-br7 ct state established,related counter accept",
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
}
