//! What the firewall lets through and keeps out, the same with both back ends. Each test has a host of its own; all need root.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod rig;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rig::{
    DEADLINE, ask, ask_within, config, inside, is_nftables, neighbour, on_each_backend, rules, run,
    serve,
};
use wharf_network::{
    EndpointRequest, FirewallBackend, IpamRecord, LinkedPort, NetworkConfig, NetworkManager,
    NewNetwork, PortRequest, Protocol, Sandbox, SubnetRecord,
};

/// How long a connection may take that must not come about.
const REFUSED: Duration = Duration::from_millis(300);

fn open() -> NetworkManager {
    NetworkManager::open(config(), Vec::new(), Vec::new()).expect("open networks")
}

fn network(name: &str, subnet: &str, options: &[(&str, &str)]) -> NewNetwork {
    let options = options.iter().map(|(name, value)| {
        (
            format!("com.docker.network.bridge.{name}"),
            (*value).to_owned(),
        )
    });
    NewNetwork {
        name: name.into(),
        ipam: IpamRecord {
            driver: "default".into(),
            config: vec![SubnetRecord {
                subnet: subnet.into(),
                ..SubnetRecord::default()
            }],
            ..IpamRecord::default()
        },
        options: options.collect(),
        ..NewNetwork::bridge()
    }
}

fn port(host: Option<IpAddr>, host_port: u16) -> PortRequest {
    PortRequest {
        protocol: Protocol::Tcp,
        container_port: 80,
        host_address: host,
        host_port,
        host_port_end: host_port,
    }
}

fn attach(manager: &NetworkManager, network: &str, ports: Vec<PortRequest>) -> Sandbox {
    let request = EndpointRequest {
        network: network.into(),
        ports,
        ..EndpointRequest::default()
    };
    manager.attach("c1", &[request]).expect("attach")
}

/// Waits until `address` answers.
fn answers(address: &str) -> bool {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if ask_within(address, REFUSED).is_ok() {
            return true;
        }
    }
    false
}

#[test]
fn rules_that_somebody_takes_away_come_back() {
    on_each_backend(|| {
        let manager = open();
        let sandbox = attach(&manager, "bridge", vec![port(None, 8080)]);
        serve(&sandbox.netns, "0.0.0.0:80");
        let outside = neighbour("lan");
        inside(&outside, || assert!(answers("10.9.9.1:8080")));
        // What a reload of the host's own rules does, and one of firewalld with nftables or iptables.
        run("nft flush ruleset");
        inside(&outside, || {
            assert!(answers("10.9.9.1:8080"), "after nft flush ruleset")
        });
        if is_nftables() {
            run("nft flush table ip wharf-bridges");
            inside(&outside, || {
                assert!(answers("10.9.9.1:8080"), "after nft flush table")
            });
            run("nft flush map ip wharf-bridges ports");
            inside(&outside, || {
                assert!(answers("10.9.9.1:8080"), "after nft flush map")
            });
        } else {
            run("iptables -t nat -F");
            run("iptables -F");
            inside(&outside, || {
                assert!(answers("10.9.9.1:8080"), "after iptables -F")
            });
        }
        // A port can be published whatever has happened.
        let second = attach(&manager, "bridge", vec![port(None, 8081)]);
        serve(&second.netns, "0.0.0.0:80");
        inside(&outside, || assert!(answers("10.9.9.1:8081")));
    });
}

#[test]
fn a_host_that_drops_forwarded_packets_lets_containers_pass() {
    on_each_backend(|| {
        run("iptables -P FORWARD DROP");
        let manager = open();
        let late = manager
            .create(network("late", "10.7.0.0/24", &[]))
            .expect("create");
        for (name, host_port) in [("bridge", 8080), ("late", 8081)] {
            let sandbox = attach(&manager, name, vec![port(None, host_port)]);
            serve(&sandbox.netns, "0.0.0.0:80");
            let outside = neighbour(&format!("lan-{name}"));
            serve(&outside, "0.0.0.0:80");
            inside(&outside, || {
                assert_eq!(ask(&format!("10.9.9.1:{host_port}")).unwrap(), "10.9.9.2")
            });
            inside(&sandbox.netns, || {
                assert_eq!(ask("10.9.9.2:80").unwrap(), "10.9.9.1")
            });
            run(&format!("ip link del lan-{name}"));
            manager.release(&sandbox.endpoints[0]);
        }
        assert!(run("iptables -S FORWARD").contains("-P FORWARD DROP"));
        manager.remove("late").expect("remove");
        let bridge = format!("br-{}", &late.id[..12]);
        let left = run("iptables -S");
        assert!(!left.contains(&bridge), "{left}");
    });
}

#[test]
fn one_back_end_takes_the_others_rules_away() {
    on_each_backend(|| {
        let other = if is_nftables() {
            FirewallBackend::Iptables
        } else {
            FirewallBackend::Nftables
        };
        let earlier = NetworkConfig {
            firewall_backend: other,
            ..NetworkConfig::default()
        };
        let manager = NetworkManager::open(earlier, Vec::new(), Vec::new()).expect("open");
        let records = manager.networks();
        drop(manager);
        let manager = NetworkManager::open(config(), records, Vec::new()).expect("open again");
        if is_nftables() {
            let rules = run("iptables -S") + &run("iptables -t nat -S");
            assert!(
                !rules.contains("docker0 -j") || rules.contains("WHARF-FORWARD"),
                "{rules}"
            );
            assert!(!rules.contains("MASQUERADE"), "{rules}");
        } else {
            assert!(!run("nft list tables").contains("wharf-bridges"));
        }
        drop(manager);
    });
}

#[test]
fn loopback_ports_are_for_the_host_alone() {
    on_each_backend(|| {
        let manager = open();
        let sandbox = attach(
            &manager,
            "bridge",
            vec![port(Some([127, 0, 0, 1].into()), 8080)],
        );
        serve(&sandbox.netns, "0.0.0.0:80");
        let outside = neighbour("lan");
        assert!(answers("127.0.0.1:8080"));
        inside(&outside, || {
            run("ip route add 127.0.0.0/8 via 10.9.9.1 table main");
            run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
            run("ip addr del 127.0.0.1/8 dev lo");
            run("ip rule add pref 0 to 127.0.0.0/8 lookup main");
            assert!(ask_within("127.0.0.1:8080", REFUSED).is_err());
            assert!(ask_within("10.9.9.1:8080", REFUSED).is_err());
        });
    });
}

#[test]
fn gateway_modes_decide_who_reaches_container_addresses() {
    on_each_backend(|| {
        let manager = open();
        let outside = neighbour("lan");
        serve(&outside, "0.0.0.0:80");
        inside(&outside, || run("ip route add 10.7.0.0/16 via 10.9.9.1"));
        // Mode, subnet; whether the published port and another one answer at the container's address, and whom the outside sees.
        let rows = [
            ("nat", "10.7.0.0/24", false, false, "10.9.9.1"),
            ("nat-unprotected", "10.7.1.0/24", true, true, "10.9.9.1"),
            ("routed", "10.7.2.0/24", true, false, "10.7.2.2"),
        ];
        for (number, (mode, subnet, published, other, seen)) in rows.into_iter().enumerate() {
            let host_port = 8080 + u16::try_from(number).unwrap();
            manager
                .create(network(mode, subnet, &[("gateway_mode_ipv4", mode)]))
                .expect(mode);
            let sandbox = attach(&manager, mode, vec![port(None, host_port)]);
            serve(&sandbox.netns, "0.0.0.0:80");
            serve(&sandbox.netns, "0.0.0.0:81");
            let address = subnet.replace("0/24", "2");
            inside(&outside, || {
                let check = |address: String, expected: bool, what: &str| {
                    let reached = if expected {
                        answers(&address)
                    } else {
                        ask_within(&address, REFUSED).is_ok()
                    };
                    assert_eq!(reached, expected, "{mode}: {what}");
                };
                check(format!("{address}:80"), published, "the published port");
                check(format!("{address}:81"), other, "another port");
                let through_host = format!("10.9.9.1:{host_port}");
                check(through_host, mode != "routed", "through the host");
            });
            inside(&sandbox.netns, || {
                assert_eq!(ask("10.9.9.2:80").unwrap(), seen, "{mode}")
            });
        }
    });
}

#[test]
fn several_ports_of_the_host_lead_to_one_of_a_container() {
    on_each_backend(|| {
        let manager = open();
        for (mode, subnet) in [
            ("nat", "10.7.0.0/24"),
            ("nat-unprotected", "10.7.1.0/24"),
            ("routed", "10.7.2.0/24"),
        ] {
            manager
                .create(network(mode, subnet, &[("gateway_mode_ipv4", mode)]))
                .expect(mode);
            let before = rules();
            let sandbox = attach(&manager, mode, vec![port(None, 8080), port(None, 8081)]);
            manager.release(&sandbox.endpoints[0]);
            assert_eq!(rules(), before, "{mode}");
        }
    });
}

#[test]
fn answers_find_containers_whose_addresses_are_not_translated() {
    on_each_backend(|| {
        let manager = open();
        manager
            .create(network(
                "plain",
                "10.7.0.0/24",
                &[("enable_ip_masquerade", "false")],
            ))
            .expect("create");
        let sandbox = attach(&manager, "plain", vec![port(None, 8080)]);
        serve(&sandbox.netns, "0.0.0.0:81");
        let outside = neighbour("lan");
        serve(&outside, "0.0.0.0:80");
        inside(&outside, || {
            run("ip route add 10.7.0.0/24 via 10.9.9.1");
            assert!(ask_within("10.7.0.2:81", REFUSED).is_err());
        });
        inside(&sandbox.netns, || {
            assert_eq!(ask("10.9.9.2:80").unwrap(), "10.7.0.2")
        });
    });
}

#[test]
fn links_open_what_is_closed_between_containers() {
    on_each_backend(|| {
        let manager = open();
        manager
            .create(network("apart", "10.7.0.0/24", &[("enable_icc", "false")]))
            .expect("create");
        let before = rules();
        let first = attach(&manager, "apart", Vec::new());
        serve(&first.netns, "0.0.0.0:80");
        serve(&first.netns, "0.0.0.0:81");
        let request = EndpointRequest {
            network: "apart".into(),
            links: vec![LinkedPort {
                address: "10.7.0.2".parse().unwrap(),
                protocol: Protocol::Tcp,
                port: 80,
            }],
            ..EndpointRequest::default()
        };
        let friend = manager.attach("c2", &[request]).expect("attach");
        inside(&friend.netns, || {
            assert_eq!(ask("10.7.0.2:80").unwrap(), "10.7.0.3");
            assert!(ask_within("10.7.0.2:81", REFUSED).is_err());
        });
        let stranger = attach(&manager, "apart", Vec::new());
        inside(&stranger.netns, || {
            assert!(ask_within("10.7.0.2:80", REFUSED).is_err())
        });
        for sandbox in [first, friend, stranger] {
            manager.release(&sandbox.endpoints[0]);
        }
        assert_eq!(rules(), before);
    });
}

#[test]
fn containers_of_a_network_without_icc_and_of_internal_ones_keep_apart() {
    on_each_backend(|| {
        let manager = open();
        manager
            .create(network("apart", "10.7.0.0/24", &[("enable_icc", "false")]))
            .expect("create");
        let (first, second) = (
            attach(&manager, "apart", vec![port(None, 8080)]),
            attach(&manager, "apart", Vec::new()),
        );
        serve(&first.netns, "0.0.0.0:80");
        inside(&second.netns, || {
            assert!(ask_within("10.7.0.2:80", REFUSED).is_err());
            assert!(
                answers("10.7.0.1:8080"),
                "a published port through the host"
            );
        });
        let internal = NewNetwork {
            internal: true,
            ..network("inside", "10.8.0.0/24", &[])
        };
        manager.create(internal).expect("create");
        let (third, fourth) = (
            attach(&manager, "inside", vec![port(None, 8081)]),
            attach(&manager, "inside", Vec::new()),
        );
        serve(&third.netns, "0.0.0.0:80");
        inside(&fourth.netns, || assert!(answers("10.8.0.2:80")));
        assert!(third.endpoints[0].ports.is_empty() && third.endpoints[0].gateway.is_none());
        let outside = neighbour("lan");
        inside(&outside, || {
            run("ip route add 10.8.0.0/24 via 10.9.9.1");
            assert!(ask_within("10.8.0.2:80", REFUSED).is_err());
        });
        inside(&first.netns, || {
            assert!(ask_within("10.8.0.2:80", REFUSED).is_err())
        });
    });
}

#[test]
fn a_dual_stack_network_translates_both_families() {
    on_each_backend(|| {
        let manager = open();
        let dual = NewNetwork {
            enable_ipv6: Some(true),
            ..network("dual", "10.7.0.0/24", &[])
        };
        let record = manager.create(dual).expect("create");
        let subnet = &record.ipam.config[1].subnet;
        assert!(
            subnet.starts_with("fd") && subnet.ends_with("/64"),
            "{subnet}"
        );
        let (first, second) = (
            attach(&manager, "dual", Vec::new()),
            attach(&manager, "dual", Vec::new()),
        );
        serve(&first.netns, "[::]:80");
        let address = first.endpoints[0].address6.expect("an IPv6 address");
        inside(&second.netns, || {
            let own = second.endpoints[0].address6.expect("an IPv6 address");
            assert_eq!(ask(&format!("[{address}]:80")).unwrap(), own.to_string());
        });
        let outside = neighbour("lan");
        run("ip addr add fd00:9::1/64 dev lan nodad");
        inside(&outside, || {
            run("ip addr add fd00:9::2/64 dev lan0 nodad");
            run(&format!("ip route add {subnet} via fd00:9::1"));
        });
        serve(&outside, "[::]:80");
        inside(&first.netns, || {
            assert_eq!(ask("[fd00:9::2]:80").unwrap(), "fd00:9::1")
        });
        inside(&outside, || {
            assert!(ask_within(&format!("[{address}]:80"), REFUSED).is_err())
        });
        manager.release(&first.endpoints[0]);
        manager.release(&second.endpoints[0]);
        manager.remove("dual").expect("remove");
    });
}
