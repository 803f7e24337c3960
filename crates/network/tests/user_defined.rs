//! Networks that users create. Each test has a host of its own; all need root.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod rig;

use std::time::Duration;

use rig::{ask, ask_within, config, inside, neighbour, on_each_backend, rules, run, serve};
use wharf_network::{EndpointRequest, IpamRecord, NetworkManager, NewNetwork, SubnetRecord};

fn open() -> NetworkManager {
    NetworkManager::open(config(), Vec::new(), Vec::new()).expect("open networks")
}

fn named(name: &str) -> NewNetwork {
    NewNetwork {
        name: name.into(),
        ..NewNetwork::bridge()
    }
}

fn with_subnet(name: &str, subnet: &str) -> NewNetwork {
    let config = vec![SubnetRecord {
        subnet: subnet.into(),
        ..SubnetRecord::default()
    }];
    NewNetwork {
        ipam: IpamRecord {
            driver: "default".into(),
            config,
            ..IpamRecord::default()
        },
        ..named(name)
    }
}

fn request(network: &str) -> EndpointRequest {
    EndpointRequest {
        network: network.into(),
        ..EndpointRequest::default()
    }
}

#[test]
fn a_network_has_a_bridge_and_a_subnet_of_its_own() {
    on_each_backend(|| {
        let manager = open();
        let network = manager.create(named("front")).expect("create");
        assert_eq!(
            (network.subnet(), network.gateway()),
            ("172.18.0.0/16", "172.18.0.1")
        );
        let interface = network.bridge_name().expect("a bridge");
        assert_eq!(interface, format!("br-{}", &network.id[..12]));
        assert!(run(&format!("ip -br addr show {interface}")).contains("172.18.0.1/16"));
        let sandbox = manager.attach("c1", &[request("front")]).expect("attach");
        assert_eq!(sandbox.endpoints[0].address, Some([172, 18, 0, 2].into()));
        let outside = neighbour("lan");
        serve(&outside, "0.0.0.0:80");
        inside(&sandbox.netns, || {
            assert_eq!(ask("10.9.9.2:80").unwrap(), "10.9.9.1")
        });
    });
}

#[test]
fn networks_cannot_reach_each_other() {
    on_each_backend(|| {
        let manager = open();
        manager.create(named("front")).expect("create");
        let front = manager.attach("c1", &[request("front")]).expect("attach");
        let bridge = manager.attach("c2", &[request("bridge")]).expect("attach");
        serve(&bridge.netns, "0.0.0.0:80");
        inside(&front.netns, || {
            assert!(ask_within("172.17.0.2:80", Duration::from_millis(300)).is_err())
        });
        let first = EndpointRequest {
            gw_priority: 1,
            ..request("front")
        };
        let both = manager
            .attach("c3", &[first, request("bridge")])
            .expect("attach to both");
        inside(&both.netns, || {
            assert_eq!(ask("172.17.0.2:80").unwrap(), "172.17.0.3");
            assert!(run("ip route").starts_with("default via 172.18.0.1 dev eth0"));
            assert!(run("ip -br addr show eth1").contains("172.17.0.3/16"));
        });
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    on_each_backend(|| {
        let manager = open();
        manager
            .create(NewNetwork {
                internal: true,
                ..named("inner")
            })
            .expect("create");
        let first = manager.attach("c1", &[request("inner")]).expect("attach");
        let second = manager.attach("c2", &[request("inner")]).expect("attach");
        serve(&second.netns, "0.0.0.0:80");
        let outside = neighbour("lan");
        serve(&outside, "0.0.0.0:80");
        inside(&first.netns, || {
            assert_eq!(ask("172.18.0.3:80").unwrap(), "172.18.0.2");
            assert!(!run("ip route").contains("default"));
            run("ip route add default via 172.18.0.1");
            assert!(ask_within("10.9.9.2:80", Duration::from_millis(300)).is_err());
        });
    });
}

#[test]
fn fixed_addresses_are_for_chosen_subnets() {
    on_each_backend(|| {
        let manager = open();
        manager
            .create(with_subnet("chosen", "10.7.0.0/24"))
            .expect("create");
        manager.create(named("given")).expect("create");
        let wish = |network: &str, address: &str| EndpointRequest {
            address: address.parse().ok(),
            ..request(network)
        };
        let sandbox = manager
            .attach("c1", &[wish("chosen", "10.7.0.77")])
            .expect("attach");
        assert_eq!(sandbox.endpoints[0].address, Some([10, 7, 0, 77].into()));
        for (network, address, refusal) in [
            ("chosen", "10.7.0.77", "Address already in use"),
            ("chosen", "10.7.0.1", "Address already in use"),
            (
                "chosen",
                "10.8.0.1",
                "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.8.0.1",
            ),
            (
                "given",
                "172.18.0.9",
                "invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with user configured subnets",
            ),
        ] {
            let error = manager
                .attach("c2", &[wish(network, address)])
                .expect_err(address);
            assert_eq!(error.to_string(), refusal);
        }
    });
}

#[test]
fn a_removed_network_leaves_nothing() {
    on_each_backend(|| {
        let manager = open();
        let before = (run("ip -br link"), rules());
        let network = manager.create(named("front")).expect("create");
        let sandbox = manager.attach("c1", &[request("front")]).expect("attach");
        let refused = manager.remove("front").expect_err("in use").to_string();
        assert!(
            refused.starts_with(
                "error while removing network: network front has active endpoints (id:\""
            ),
            "{refused}"
        );
        manager.release(&sandbox.endpoints[0]);
        assert_eq!(manager.remove(&network.id[..10]).expect("remove"), network);
        drop(sandbox);
        let links = run("ip -br link");
        assert!(!links.contains(&network.id[..12]), "{links}");
        assert_eq!(rules(), before.1);
        assert!(manager.network("front").is_err());
        assert_eq!(
            manager.remove("bridge").expect_err("refused").to_string(),
            "bridge is a pre-defined network and cannot be removed"
        );
    });
}

#[test]
fn networks_survive_the_daemon() {
    on_each_backend(|| {
        let first = open();
        let network = first
            .create(with_subnet("front", "10.7.0.0/24"))
            .expect("create");
        let records = first.networks();
        drop(first);
        run(&format!("ip link del br-{}", &network.id[..12]));
        let second =
            NetworkManager::open(config(), records.clone(), Vec::new()).expect("open again");
        assert_eq!(second.networks(), records);
        let sandbox = second.attach("c1", &[request("front")]).expect("attach");
        assert_eq!(sandbox.endpoints[0].address, Some([10, 7, 0, 2].into()));
    });
}

#[test]
fn lookup_is_by_name_id_and_prefix() {
    on_each_backend(|| {
        let manager = open();
        let network = manager.create(named("front")).expect("create");
        for reference in ["front", &network.id, &network.id[..12]] {
            assert_eq!(manager.network(reference).expect(reference).id, network.id);
        }
        assert_eq!(
            manager.network("nosuch").expect_err("unknown").to_string(),
            "network nosuch not found"
        );
    });
}
