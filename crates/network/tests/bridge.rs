//! The default bridge, as containers on it see it. Each test has a host of its own; all need root.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod rig;

use std::time::{Duration, Instant};

use rig::{
    DEADLINE, ask, ask_within, config, inside, is_nftables, neighbour, on_each_backend, rules, run,
    serve,
};
use wharf_network::{EndpointRequest, NetworkConfig, NetworkError, NetworkManager, Sandbox};

fn open() -> NetworkManager {
    NetworkManager::open(config(), Vec::new(), Vec::new()).expect("open networks")
}

/// Interfaces that may wait for containers.
const IDLE: usize = 5;

fn request(network: &str) -> EndpointRequest {
    EndpointRequest {
        network: network.into(),
        ..EndpointRequest::default()
    }
}

fn attach(manager: &NetworkManager) -> Sandbox {
    manager.attach("c1", &[request("bridge")]).expect("attach")
}

fn address(sandbox: &Sandbox) -> String {
    sandbox.endpoints[0]
        .address
        .expect("an address")
        .to_string()
}

#[test]
fn predefined_networks_are_there_from_the_first_start() {
    on_each_backend(|| {
        let manager = open();
        let shown: Vec<(String, String, String)> = manager
            .networks()
            .into_iter()
            .map(|network| {
                (
                    network.name.clone(),
                    network.driver.clone(),
                    network.subnet().to_owned(),
                )
            })
            .collect();
        let row = |name: &str, driver: &str, subnet: &str| {
            (name.to_owned(), driver.to_owned(), subnet.to_owned())
        };
        assert_eq!(
            shown,
            [
                row("bridge", "bridge", "172.17.0.0/16"),
                row("host", "host", ""),
                row("none", "null", "")
            ]
        );
        let docker0 = run("ip -br addr show docker0");
        assert!(docker0.contains("172.17.0.1/16"), "{docker0}");
        assert_eq!(run("sysctl -n net.ipv4.ip_forward").trim(), "1");
    });
}

#[test]
fn container_has_the_interface_docker_gives_it() {
    on_each_backend(|| {
        let manager = open();
        let sandbox = attach(&manager);
        let endpoint = &sandbox.endpoints[0];
        assert_eq!(endpoint.mac, "02:42:ac:11:00:02");
        inside(&sandbox.netns, || {
            let eth0 = run("ip -o addr show eth0");
            assert!(
                eth0.contains("inet 172.17.0.2/16 brd 172.17.255.255 scope global eth0"),
                "{eth0}"
            );
            assert!(
                !eth0.contains("inet6"),
                "IPv6 is off on an IPv4 network: {eth0}"
            );
            assert!(run("ip link show eth0").contains("link/ether 02:42:ac:11:00:02"));
            assert!(run("ip route").starts_with("default via 172.17.0.1 dev eth0"));
            assert!(run("ip -br addr show lo").contains("127.0.0.1/8"));
            assert_eq!(run("sysctl -n net.ipv6.conf.eth0.disable_ipv6").trim(), "1");
            assert_eq!(
                run("sysctl -n net.ipv6.conf.default.disable_ipv6").trim(),
                "0"
            );
        });
        let port = run(&format!("ip -d link show {}", endpoint.host_interface));
        assert!(
            port.contains("master docker0") && port.contains("hairpin off"),
            "{port}"
        );
    });
}

#[test]
fn containers_reach_the_host_and_each_other() {
    on_each_backend(|| {
        let manager = open();
        let (first, second) = (attach(&manager), attach(&manager));
        let host = wharf_sys::netns::current().expect("own namespace");
        serve(&host, "172.17.0.1:80");
        serve(&first.netns, "0.0.0.0:80");
        assert_eq!(
            ask(&format!("{}:80", address(&first))).unwrap(),
            "172.17.0.1"
        );
        inside(&second.netns, || {
            assert_eq!(ask("172.17.0.1:80").unwrap(), address(&second));
            assert_eq!(
                ask(&format!("{}:80", address(&first))).unwrap(),
                address(&second)
            );
        });
    });
}

#[test]
fn outside_sees_the_host_and_cannot_reach_in() {
    on_each_backend(|| {
        let manager = open();
        let sandbox = attach(&manager);
        let outside = neighbour("lan");
        serve(&outside, "0.0.0.0:80");
        serve(&sandbox.netns, "0.0.0.0:80");
        inside(&sandbox.netns, || {
            assert_eq!(ask("10.9.9.2:80").unwrap(), "10.9.9.1")
        });
        inside(&outside, || {
            run("ip route add 172.17.0.0/16 via 10.9.9.1");
            assert!(ask_within("172.17.0.2:80", Duration::from_millis(300)).is_err());
        });
        if is_nftables() {
            let dropped = run("nft list chain ip wharf-bridges direct-docker0");
            assert!(
                dropped.contains("counter packets") && !dropped.contains("packets 0 "),
                "{dropped}"
            );
        }
    });
}

#[test]
fn isolated_has_only_loopback() {
    on_each_backend(|| {
        let manager = open();
        let sandbox = manager.isolated().expect("isolated");
        assert_eq!(sandbox.endpoints[0].network_name, "none");
        inside(&sandbox.netns, || {
            let links = run("ip -br addr");
            assert_eq!(links.lines().count(), 1, "{links}");
            assert!(links.contains("127.0.0.1/8"), "{links}");
        });
    });
}

#[test]
fn addresses_are_given_again_once_released() {
    on_each_backend(|| {
        let manager = open();
        let (first, second) = (attach(&manager), attach(&manager));
        assert_eq!(
            [address(&first), address(&second)],
            ["172.17.0.2", "172.17.0.3"]
        );
        manager.release(&first.endpoints[0]);
        let third = attach(&manager);
        assert_eq!(address(&third), "172.17.0.2");
        // A release that comes twice must not free what belongs to the third by now.
        manager.release(&first.endpoints[0]);
        assert_eq!(address(&attach(&manager)), "172.17.0.4");
    });
}

#[test]
fn fixed_address_on_the_default_bridge_is_refused() {
    on_each_backend(|| {
        let manager = open();
        let wish = EndpointRequest {
            address: Some("172.17.0.9".parse().unwrap()),
            ..request("bridge")
        };
        let error = manager.attach("c1", &[wish]).expect_err("refused");
        assert!(
            matches!(error, NetworkError::AddressNotSupported),
            "{error}"
        );
    });
}

#[test]
fn a_restart_keeps_ids_addresses_and_rules() {
    on_each_backend(|| {
        let first = open();
        let sandbox = attach(&first);
        let records = first.networks();
        let before = rules();
        drop(first);

        let second = NetworkManager::open(config(), records.clone(), sandbox.endpoints.clone())
            .expect("open again");
        assert_eq!(second.networks(), records);
        assert_eq!(rules(), before);
        assert_eq!(second.endpoints(&records[0].id), sandbox.endpoints);
        assert_eq!(address(&attach(&second)), "172.17.0.3");
        second.release(&sandbox.endpoints[0]);
        assert_eq!(address(&attach(&second)), "172.17.0.2");
    });
}

#[test]
fn a_deleted_bridge_is_made_again() {
    on_each_backend(|| {
        let manager = open();
        run("ip link del docker0");
        let sandbox = attach(&manager);
        serve(&sandbox.netns, "0.0.0.0:80");
        assert_eq!(ask("172.17.0.2:80").unwrap(), "172.17.0.1");
    });
}

#[test]
fn deleted_idle_interfaces_are_made_good() {
    on_each_backend(|| {
        let manager = open();
        drop(attach(&manager));
        for line in run("ip -br link")
            .lines()
            .filter(|line| line.starts_with("veth"))
        {
            let name = line.split(['@', ' ']).next().expect("a name");
            // Some belong to the namespace that dies.
            let _ = std::process::Command::new("ip")
                .args(["link", "del", name])
                .output();
        }
        let sandbox = attach(&manager);
        serve(&sandbox.netns, "0.0.0.0:80");
        assert!(ask(&format!("{}:80", address(&sandbox))).is_ok());
        assert_eq!(
            manager.endpoints(&sandbox.endpoints[0].network_id).len(),
            2,
            "failed attempts leave nothing"
        );
    });
}

#[test]
fn the_firewall_can_be_left_alone() {
    on_each_backend(|| {
        run("sysctl -qw net.ipv4.ip_forward=0");
        let config = NetworkConfig {
            no_firewall: true,
            no_firewall6: true,
            no_ip_forward: true,
            ..config()
        };
        let manager = NetworkManager::open(config, Vec::new(), Vec::new()).expect("open");
        attach(&manager);
        assert_eq!(run("nft list tables"), "");
        assert_eq!(run("sysctl -n net.ipv4.ip_forward").trim(), "0");
    });
}

#[test]
fn the_default_bridge_can_be_switched_off() {
    on_each_backend(|| {
        let config = NetworkConfig {
            bridge: Some("none".into()),
            ..config()
        };
        let manager = NetworkManager::open(config, Vec::new(), Vec::new()).expect("open");
        let names: Vec<String> = manager
            .networks()
            .into_iter()
            .map(|network| network.name)
            .collect();
        assert_eq!(names, ["host", "none"]);
        assert!(!run("ip -br link").contains("docker0"));
    });
}

#[test]
fn a_thousand_containers_leave_nothing() {
    on_each_backend(|| {
        let manager = open();
        for _ in 0..1000 {
            let sandbox = attach(&manager);
            manager.release(&sandbox.endpoints[0]);
        }
        // The kernel clears namespaces away in its own time.
        let deadline = Instant::now() + DEADLINE;
        while run("ip -br link").matches("veth").count() > IDLE {
            assert!(
                Instant::now() < deadline,
                "veth pairs outlive their namespaces"
            );
            std::thread::yield_now();
        }
        assert_eq!(address(&attach(&manager)), "172.17.0.2");
        let descriptors = std::fs::read_dir("/proc/self/fd")
            .expect("own descriptors")
            .count();
        assert!(descriptors < 400, "{descriptors} descriptors open");
    });
}

#[test]
fn many_threads_get_different_addresses() {
    on_each_backend(|| {
        let manager = open();
        let mut addresses: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50)
                .map(|_| scope.spawn(|| address(&attach(&manager))))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("thread"))
                .collect()
        });
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 50);
    });
}
