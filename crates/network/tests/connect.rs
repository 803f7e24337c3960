//! One network more or less for a container that runs. Each test has a host of its own; all need root.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod rig;

use std::os::fd::OwnedFd;
use std::time::Duration;

use rig::{ask, ask_within, config, inside, neighbour, on_a_host, on_each_backend, run, serve};
use wharf_network::{
    EndpointRequest, IpamRecord, NetworkManager, NewNetwork, PortRequest, Protocol, SubnetRecord,
};

fn open() -> NetworkManager {
    NetworkManager::open(config(), Vec::new(), Vec::new()).expect("open networks")
}

fn named(name: &str, subnet: &str) -> NewNetwork {
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
        ..NewNetwork::bridge()
    }
}

fn request(network: &str) -> EndpointRequest {
    EndpointRequest {
        network: network.into(),
        ..EndpointRequest::default()
    }
}

fn copy(netns: &OwnedFd) -> OwnedFd {
    netns.try_clone().expect("a copy of the descriptor")
}

#[test]
fn ports_and_the_default_route_follow_the_networks() {
    on_each_backend(|| {
        let manager = open();
        manager
            .create(named("second", "10.7.0.0/24"))
            .expect("create");
        let first = EndpointRequest {
            ports: vec![PortRequest {
                protocol: Protocol::Tcp,
                container_port: 80,
                host_address: None,
                host_port: 8080,
                host_port_end: 8080,
            }],
            ..request("bridge")
        };
        let mut sandbox = manager.attach("c1", &[first]).expect("attach");
        serve(&sandbox.netns, "0.0.0.0:80");
        let outside = neighbour("lan");
        let wish = EndpointRequest {
            address: "10.7.0.9".parse().ok(),
            gw_priority: 1,
            ..request("second")
        };
        manager
            .connect(copy(&sandbox.netns), &mut sandbox.endpoints, &wish)
            .expect("connect");
        let routes = || inside(&sandbox.netns, || run("ip route show default"));
        assert!(
            routes().starts_with("default via 10.7.0.1 dev eth1"),
            "{}",
            routes()
        );
        assert!(sandbox.endpoints[0].ports.is_empty());
        assert_eq!(sandbox.endpoints[1].ports.len(), 1);
        inside(&outside, || {
            assert_eq!(ask("10.9.9.1:8080").unwrap(), "10.9.9.2")
        });
        let again = manager.connect(copy(&sandbox.netns), &mut sandbox.endpoints, &wish);
        assert!(again.is_err(), "the address is taken");
        assert_eq!(sandbox.endpoints.len(), 2);
        inside(&sandbox.netns, || {
            assert!(!run("ip -br link").contains("eth2"))
        });

        let id = sandbox.endpoints[1].endpoint_id.clone();
        manager
            .disconnect(
                copy(&sandbox.netns),
                &mut sandbox.endpoints,
                &id,
                &request(""),
            )
            .expect("disconnect");
        inside(&sandbox.netns, || {
            assert!(run("ip route show default").starts_with("default via 172.17.0.1 dev eth0"));
            assert!(!run("ip -br link").contains("eth1"));
        });
        inside(&outside, || {
            assert_eq!(ask("10.9.9.1:8080").unwrap(), "10.9.9.2")
        });
        manager.remove("second").expect("nobody is on it any more");
    });
}

#[test]
fn interfaces_are_named_and_set_as_asked() {
    on_a_host(|| {
        let manager = open();
        manager
            .create(named("second", "10.7.0.0/24"))
            .expect("create");
        let options = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| {
                    (
                        format!("com.docker.network.endpoint.{name}"),
                        (*value).to_owned(),
                    )
                })
                .collect()
        };
        let first = EndpointRequest {
            driver_opts: options(&[
                ("ifname", "lan7"),
                ("sysctls", "net.ipv4.conf.IFNAME.log_martians=1"),
            ]),
            link_local: vec!["169.254.7.7".parse().unwrap()],
            ..request("bridge")
        };
        let mut sandbox = manager
            .attach("c1", std::slice::from_ref(&first))
            .expect("attach");
        inside(&sandbox.netns, || {
            assert!(run("ip -br addr show lan7").contains("169.254.7.7/16"));
            assert_eq!(run("sysctl -n net.ipv4.conf.lan7.log_martians").trim(), "1");
        });
        let clash = EndpointRequest {
            network: "second".into(),
            ..first
        };
        let refused = manager
            .connect(copy(&sandbox.netns), &mut sandbox.endpoints, &clash)
            .expect_err("the name is taken");
        assert_eq!(
            refused.to_string(),
            "interface name lan7 is already used by the container"
        );
    });
}

#[test]
fn macvlan_containers_are_neighbours_of_the_lan() {
    on_a_host(|| {
        let manager = open();
        let outside = neighbour("lan");
        serve(&outside, "0.0.0.0:80");
        let network = NewNetwork {
            driver: "macvlan".into(),
            options: [("parent".to_owned(), "lan".to_owned())].into(),
            ..named("phys", "10.5.0.0/24")
        };
        manager.create(network).expect("create");
        let passthru = NewNetwork {
            name: "alone".into(),
            options: [
                ("parent".to_owned(), "lan".to_owned()),
                ("macvlan_mode".to_owned(), "passthru".to_owned()),
            ]
            .into(),
            ..named("alone", "10.6.0.0/24")
        };
        let passthru = NewNetwork {
            driver: "macvlan".into(),
            ..passthru
        };
        assert!(manager.create(passthru).is_err(), "the parent is in use");
        let (first, second) = (
            manager.attach("c1", &[request("phys")]).expect("attach"),
            manager.attach("c2", &[request("phys")]).expect("attach"),
        );
        serve(&first.netns, "0.0.0.0:80");
        inside(&second.netns, || {
            assert_eq!(ask("10.5.0.1:80").unwrap(), "10.5.0.2");
            assert!(
                run("ip route show default").is_empty(),
                "no gateway was given"
            );
        });
        inside(&outside, || {
            run("ip addr add 10.5.0.77/24 dev lan0");
            assert_eq!(ask("10.5.0.1:80").unwrap(), "10.5.0.77");
        });
        for endpoint in first.endpoints.iter().chain(&second.endpoints) {
            manager.release(endpoint);
        }
        drop((first, second));
        manager.remove("phys").expect("remove");
        assert!(
            run("ip -br link").contains("lan"),
            "the parent was not ours"
        );
    });
}

#[test]
fn a_macvlan_without_a_parent_is_internal() {
    on_a_host(|| {
        let manager = open();
        let network = NewNetwork {
            driver: "macvlan".into(),
            ..named("own", "10.5.0.0/24")
        };
        let record = manager.create(network).expect("create");
        assert!(record.internal);
        let (first, second) = (
            manager.attach("c1", &[request("own")]).expect("attach"),
            manager.attach("c2", &[request("own")]).expect("attach"),
        );
        serve(&first.netns, "0.0.0.0:80");
        inside(&second.netns, || {
            assert_eq!(ask("10.5.0.1:80").unwrap(), "10.5.0.2");
            assert!(ask_within("10.9.9.1:80", Duration::from_millis(100)).is_err());
        });
    });
}

#[test]
fn a_vlan_is_made_for_its_network_and_goes_with_it() {
    on_a_host(|| {
        let manager = open();
        let _outside = neighbour("lan");
        let network = NewNetwork {
            driver: "macvlan".into(),
            options: [("parent".to_owned(), "lan.10".to_owned())].into(),
            ..named("vlan", "10.5.0.0/24")
        };
        match manager.create(network) {
            Ok(_) => {
                assert!(run("ip -d link show lan.10").contains("id 10"));
                manager.remove("vlan").expect("remove");
            }
            // Kernels without VLANs say so.
            Err(error) => assert!(error.to_string().contains("CONFIG_VLAN_8021Q"), "{error}"),
        }
        assert!(!run("ip -br link").contains("lan.10"));
        assert!(manager.network("vlan").is_err());
    });
}

#[test]
fn ipvlan_works_or_says_what_the_kernel_lacks() {
    on_a_host(|| {
        let manager = open();
        let outside = neighbour("lan");
        serve(&outside, "0.0.0.0:80");
        let network = NewNetwork {
            driver: "ipvlan".into(),
            options: [("parent".to_owned(), "lan".to_owned())].into(),
            ..named("l2", "10.9.9.0/24")
        };
        manager.create(network).expect("create");
        let request = EndpointRequest {
            address: "10.9.9.77".parse().ok(),
            ..request("l2")
        };
        match manager.attach("c1", &[request]) {
            Ok(sandbox) => inside(&sandbox.netns, || {
                assert_eq!(ask("10.9.9.2:80").unwrap(), "10.9.9.77")
            }),
            Err(error) => assert!(error.to_string().contains("CONFIG_IPVLAN"), "{error}"),
        }
    });
}

#[test]
fn bandwidth_is_limited_both_ways() {
    use std::io::{Read, Write};
    on_a_host(|| {
        let manager = open();
        let limited = EndpointRequest {
            driver_opts: [
                ("wharf.rate.ingress".to_owned(), "16mbit".to_owned()),
                ("wharf.rate.egress".to_owned(), "8mbit".to_owned()),
            ]
            .into(),
            ..request("bridge")
        };
        let sandbox = manager.attach("c1", &[limited]).expect("attach");
        let host_end = &sandbox.endpoints[0].host_interface;
        assert!(run(&format!("tc qdisc show dev {host_end}")).contains("rate 16Mbit"));
        inside(&sandbox.netns, || {
            assert!(run("tc qdisc show dev eth0").contains("rate 8Mbit"))
        });
        // A megabyte out of the container at 8 Mbit/s takes a second, less the burst.
        let listener = inside(&sandbox.netns, || {
            std::net::TcpListener::bind("0.0.0.0:80").expect("listen")
        });
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let _ = stream.write_all(&vec![7; 1_000_000]);
        });
        let began = std::time::Instant::now();
        let mut stream = std::net::TcpStream::connect("172.17.0.2:80").expect("connect");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("read");
        assert_eq!(received.len(), 1_000_000);
        assert!(
            began.elapsed() > Duration::from_millis(600),
            "{:?}",
            began.elapsed()
        );
        let wrong = EndpointRequest {
            driver_opts: [("wharf.rate.egress".to_owned(), "fast".to_owned())].into(),
            ..request("bridge")
        };
        assert!(manager.attach("c2", &[wrong]).is_err());
    });
}
