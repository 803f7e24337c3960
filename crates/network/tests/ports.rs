//! Published ports, asked for from everywhere. Each test has a host of its own; all need root.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod rig;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use rig::{
    DEADLINE, ask, ask_within, config, inside, is_nftables, neighbour, on_each_backend, run, serve,
};
use wharf_network::{EndpointRequest, NetworkManager, PortRequest, Protocol, Sandbox};

fn open() -> NetworkManager {
    NetworkManager::open(config(), Vec::new(), Vec::new()).expect("open networks")
}

fn port(
    protocol: Protocol,
    host: Option<&str>,
    host_port: u16,
    container_port: u16,
) -> PortRequest {
    PortRequest {
        protocol,
        container_port,
        host_address: host.map(|address| address.parse().expect("address")),
        host_port,
        host_port_end: host_port,
    }
}

/// What the firewall translates to containers.
fn translations() -> String {
    if is_nftables() {
        run("nft list map ip wharf-bridges ports")
    } else {
        run("iptables -t nat -S DOCKER")
    }
}

fn publish(manager: &NetworkManager, ports: Vec<PortRequest>) -> Result<Sandbox, String> {
    let request = EndpointRequest {
        network: "bridge".into(),
        ports,
        ..EndpointRequest::default()
    };
    manager.attach("c1", &[request]).map_err(|error| {
        error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string)
    })
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    on_each_backend(|| {
        let manager = open();
        let sandbox =
            publish(&manager, vec![port(Protocol::Tcp, None, 8080, 80)]).expect("publish");
        serve(&sandbox.netns, "0.0.0.0:80");
        let outside = neighbour("lan");
        inside(&outside, || {
            assert_eq!(
                ask("10.9.9.1:8080").unwrap(),
                "10.9.9.2",
                "the client's address is kept"
            )
        });
        assert_eq!(
            ask("127.0.0.1:8080").unwrap(),
            "172.17.0.1",
            "from the host's loopback"
        );
        assert_eq!(
            ask("10.9.9.1:8080").unwrap(),
            "10.9.9.1",
            "from the host to its own address"
        );
        assert_eq!(
            ask("172.17.0.2:80").unwrap(),
            "172.17.0.1",
            "from the host, directly"
        );
        let other = publish(&manager, Vec::new()).expect("attach");
        inside(&other.netns, || {
            assert_eq!(
                ask("10.9.9.1:8080").unwrap(),
                "172.17.0.1",
                "from a neighbour, through the host"
            );
            assert_eq!(
                ask("172.17.0.2:80").unwrap(),
                "172.17.0.3",
                "from a neighbour, directly"
            );
        });
        inside(&sandbox.netns, || {
            assert_eq!(
                ask("10.9.9.1:8080").unwrap(),
                "172.17.0.1",
                "from itself, through the host"
            )
        });
    });
}

#[test]
fn a_port_on_loopback_is_for_the_host_only() {
    on_each_backend(|| {
        let manager = open();
        let sandbox = publish(
            &manager,
            vec![port(Protocol::Tcp, Some("127.0.0.1"), 8080, 80)],
        )
        .expect("publish");
        serve(&sandbox.netns, "0.0.0.0:80");
        assert!(ask("127.0.0.1:8080").is_ok());
        let outside = neighbour("lan");
        inside(&outside, || {
            assert!(ask_within("10.9.9.1:8080", Duration::from_secs(1)).is_err());
            run("ip route add 127.5.0.0/16 via 10.9.9.1");
        });
        // A neighbour container that aims packets at the host's loopback through its gateway.
        let other = publish(&manager, Vec::new()).expect("attach");
        inside(&other.netns, || {
            run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
            run("ip addr del 127.0.0.1/8 dev lo");
            run("ip route add 127.0.0.0/8 via 172.17.0.1");
            run("ip rule add pref 5 to 127.0.0.0/8 lookup main");
            assert!(ask_within("127.0.0.1:8080", Duration::from_millis(500)).is_err());
        });
    });
}

#[test]
fn udp_is_published_too() {
    on_each_backend(|| {
        let manager = open();
        let sandbox =
            publish(&manager, vec![port(Protocol::Udp, None, 5300, 53)]).expect("publish");
        let server = inside(&sandbox.netns, || {
            UdpSocket::bind("0.0.0.0:53").expect("bind")
        });
        let outside = neighbour("lan");
        inside(&outside, || {
            let client = UdpSocket::bind("0.0.0.0:0").expect("bind");
            client.set_read_timeout(Some(DEADLINE)).expect("deadline");
            client.send_to(b"question", "10.9.9.1:5300").expect("send");
            let mut buffer = [0; 64];
            server.set_read_timeout(Some(DEADLINE)).expect("deadline");
            let (length, peer) = server.recv_from(&mut buffer).expect("receive");
            assert_eq!(
                (&buffer[..length], peer.ip().to_string()),
                (&b"question"[..], "10.9.9.2".to_owned())
            );
            server.send_to(b"answer", peer).expect("send");
            let (length, from) = client.recv_from(&mut buffer).expect("receive");
            assert_eq!(
                (&buffer[..length], from.to_string()),
                (&b"answer"[..], "10.9.9.1:5300".to_owned())
            );
        });
    });
}

#[test]
fn a_taken_port_is_refused_and_free_after_release() {
    on_each_backend(|| {
        let manager = open();
        let wanted = || vec![port(Protocol::Tcp, None, 8080, 80)];
        let first = publish(&manager, wanted()).expect("publish");
        assert_eq!(
            publish(&manager, wanted()).unwrap_err(),
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        );
        assert_eq!(
            manager.endpoints(&first.endpoints[0].network_id).len(),
            1,
            "a refused attachment leaves nothing"
        );
        manager.release(&first.endpoints[0]);
        assert!(!translations().contains("8080"));
        let again = publish(&manager, wanted()).expect("publish again");
        assert_eq!(again.endpoints[0].address, first.endpoints[0].address);
    });
}

#[test]
fn a_port_of_another_program_is_refused() {
    on_each_backend(|| {
        let manager = open();
        let _listener = TcpListener::bind("0.0.0.0:8080").expect("listen");
        let refused = publish(&manager, vec![port(Protocol::Tcp, None, 8080, 80)]).unwrap_err();
        let expected = "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use (by ";
        let holder = format!(", process {})", std::process::id());
        assert!(
            refused.starts_with(expected) && refused.ends_with(&holder),
            "{refused}"
        );
    });
}

#[test]
fn published_ports_survive_the_daemon() {
    on_each_backend(|| {
        let first = open();
        let sandbox = publish(&first, vec![port(Protocol::Tcp, None, 8080, 80)]).expect("publish");
        serve(&sandbox.netns, "0.0.0.0:80");
        let records = first.networks();
        drop(first);
        assert!(ask("127.0.0.1:8080").is_ok(), "while no daemon runs");
        let second =
            NetworkManager::open(config(), records, sandbox.endpoints.clone()).expect("open again");
        assert!(ask("127.0.0.1:8080").is_ok(), "under the next daemon");
        assert!(publish(&second, vec![port(Protocol::Tcp, None, 8080, 80)]).is_err());
        second.release(&sandbox.endpoints[0]);
        assert!(publish(&second, vec![port(Protocol::Tcp, None, 8080, 80)]).is_ok());
    });
}

#[test]
fn two_hundred_ports_are_one_transaction() {
    on_each_backend(|| {
        let manager = open();
        let ports = (0..200)
            .map(|n| port(Protocol::Tcp, None, 9000 + n, 1000 + n))
            .collect();
        let sandbox = publish(&manager, ports).expect("publish");
        let listener = inside(&sandbox.netns, || {
            TcpListener::bind("0.0.0.0:1199").expect("listen")
        });
        std::thread::spawn(move || {
            listener
                .accept()
                .expect("accept")
                .0
                .write_all(b"here")
                .expect("write")
        });
        let mut answer = String::new();
        std::net::TcpStream::connect("127.0.0.1:9199")
            .expect("connect")
            .read_to_string(&mut answer)
            .expect("read");
        assert_eq!(answer, "here");
        manager.release(&sandbox.endpoints[0]);
        let left = translations();
        assert!(
            !left.contains("elements") && !left.contains("DNAT"),
            "{left}"
        );
    });
}
