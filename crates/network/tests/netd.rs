//! Names and ports that netd serves, as a thread of the test. Each test has a host of its own; all need root.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod rig;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use rig::{DEADLINE, ask, inside, neighbour, on_a_host, run, serve};
use wharf_network::{
    Endpoint, EndpointRequest, NetdConfig, NetworkConfig, NetworkManager, NewNetwork, PortRequest,
    Protocol, Resolving, ResolvingEndpoint, Sandbox,
};

/// A directory for netd's socket, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wharf-netd-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).expect("make a directory");
        Dir(path)
    }

    fn config(&self) -> NetworkConfig {
        NetworkConfig {
            netd: Some(NetdConfig {
                socket: self.0.join("netd.sock"),
                program: None,
            }),
            ..NetworkConfig::default()
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(config: NetworkConfig) -> NetworkManager {
    NetworkManager::open(config, Vec::new(), Vec::new()).expect("open networks")
}

fn port(protocol: Protocol, host_port: u16, container_port: u16) -> PortRequest {
    PortRequest {
        protocol,
        container_port,
        host_address: None,
        host_port,
        host_port_end: host_port,
    }
}

fn publish(manager: &NetworkManager, ports: Vec<PortRequest>) -> Sandbox {
    let request = EndpointRequest {
        network: "bridge".into(),
        ports,
        ..EndpointRequest::default()
    };
    manager.attach("c", &[request]).expect("publish")
}

fn shown(endpoint: &Endpoint) -> Vec<String> {
    let ports = endpoint.ports.iter();
    ports
        .map(|mapping| format!("{} {}", mapping.host_address, mapping.host_port))
        .collect()
}

#[test]
fn a_container_without_ipv6_is_reached_over_it() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        let sandbox = publish(&manager, vec![port(Protocol::Tcp, 8080, 80)]);
        assert_eq!(shown(&sandbox.endpoints[0]), ["0.0.0.0 8080", ":: 8080"]);
        serve(&sandbox.netns, "0.0.0.0:80");
        let outside = neighbour("lan");
        run("ip addr add fd99::1/64 dev lan nodad");
        inside(&outside, || {
            run("ip addr add fd99::2/64 dev lan0 nodad");
            assert_eq!(ask("10.9.9.1:8080").unwrap(), "10.9.9.2", "translated");
            assert_eq!(ask("[fd99::1]:8080").unwrap(), "172.17.0.1", "carried");
        });
        assert_eq!(
            ask("[::1]:8080").unwrap(),
            "172.17.0.1",
            "from the host's loopback"
        );
        assert_eq!(
            ask("[fd99::1]:8080").unwrap(),
            "172.17.0.1",
            "from the host itself"
        );
    });
}

#[test]
fn datagrams_are_carried_too() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        let sandbox = publish(&manager, vec![port(Protocol::Udp, 5300, 53)]);
        let server = inside(&sandbox.netns, || {
            UdpSocket::bind("0.0.0.0:53").expect("bind")
        });
        server.set_read_timeout(Some(DEADLINE)).expect("deadline");
        let client = UdpSocket::bind("[::]:0").expect("bind");
        client.set_read_timeout(Some(DEADLINE)).expect("deadline");
        let mut buffer = [0; 64];
        for question in [&b"first"[..], b"second"] {
            client.send_to(question, "[::1]:5300").expect("send");
            let (length, peer) = server.recv_from(&mut buffer).expect("receive");
            assert_eq!(&buffer[..length], question);
            server.send_to(b"answer", peer).expect("send");
            let (length, from) = client.recv_from(&mut buffer).expect("receive");
            assert_eq!(
                (&buffer[..length], from.to_string()),
                (&b"answer"[..], "[::1]:5300".into())
            );
        }
    });
}

#[test]
fn carried_answers_come_from_the_address_that_was_asked() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(NetworkConfig {
            no_firewall: true,
            no_firewall6: true,
            ..dir.config()
        });
        let sandbox = publish(&manager, vec![port(Protocol::Udp, 5300, 53)]);
        let server = inside(&sandbox.netns, || {
            UdpSocket::bind("0.0.0.0:53").expect("bind")
        });
        server.set_read_timeout(Some(DEADLINE)).expect("deadline");
        let outside = neighbour("lan");
        // Not the one that the route back would choose.
        run("ip addr add 10.9.9.7/24 dev lan");
        run("ip addr add fd99::1/64 dev lan nodad");
        run("ip addr add fd99::7/64 dev lan nodad");
        inside(&outside, || {
            run("ip addr add fd99::2/64 dev lan0 nodad");
            let mut buffer = [0; 64];
            for (own, asked) in [("0.0.0.0:0", "10.9.9.7:5300"), ("[::]:0", "[fd99::7]:5300")] {
                let client = UdpSocket::bind(own).expect("bind");
                client.set_read_timeout(Some(DEADLINE)).expect("deadline");
                client.send_to(b"question", asked).expect("send");
                let (_, peer) = server.recv_from(&mut buffer).expect("receive");
                server.send_to(b"answer", peer).expect("send");
                let (_, from) = client.recv_from(&mut buffer).expect("receive");
                assert_eq!(from.to_string(), asked);
            }
        });
    });
}

#[test]
fn streams_end_as_their_ends_end_them() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        let sandbox = publish(&manager, vec![port(Protocol::Tcp, 8080, 80)]);
        let listener = inside(&sandbox.netns, || {
            TcpListener::bind("0.0.0.0:80").expect("bind")
        });
        // Sends back everything, once the client has said its last.
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("read");
            stream.write_all(&all).expect("write");
        });
        let mut stream = TcpStream::connect("[::1]:8080").expect("connect");
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        stream.write_all(&sent).expect("write");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("shutdown");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("read");
        assert!(
            back == sent,
            "{} of {} bytes came back",
            back.len(),
            sent.len()
        );
        server.join().expect("server");
    });
}

#[test]
fn ports_are_held_without_a_daemon_and_free_after_release() {
    on_a_host(|| {
        let dir = Dir::new();
        let first = open(dir.config());
        let sandbox = publish(&first, vec![port(Protocol::Tcp, 8080, 80)]);
        serve(&sandbox.netns, "0.0.0.0:80");
        let records = first.networks();
        drop(first);
        for address in ["0.0.0.0:8080", "[::]:8080", "127.0.0.1:8080"] {
            assert!(TcpListener::bind(address).is_err(), "{address} is held");
        }
        assert!(ask("[::1]:8080").is_ok(), "while no daemon runs");
        let second = NetworkManager::open(dir.config(), records, sandbox.endpoints.clone())
            .expect("open again");
        assert!(ask("[::1]:8080").is_ok(), "under the next daemon");
        for _ in 0..20 {
            second.release(&sandbox.endpoints[0]);
            drop(TcpListener::bind("[::]:8080").expect("free at once"));
            let again = publish(&second, vec![port(Protocol::Tcp, 8080, 80)]);
            second.release(&again.endpoints[0]);
            drop(TcpListener::bind("0.0.0.0:8080").expect("free again"));
        }
    });
}

#[test]
fn without_a_firewall_everything_is_carried() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(NetworkConfig {
            no_firewall: true,
            no_firewall6: true,
            ..dir.config()
        });
        let sandbox = publish(&manager, vec![port(Protocol::Tcp, 8080, 80)]);
        serve(&sandbox.netns, "0.0.0.0:80");
        let outside = neighbour("lan");
        inside(&outside, || {
            assert_eq!(ask("10.9.9.1:8080").unwrap(), "172.17.0.1")
        });
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "172.17.0.1");
    });
}

#[test]
fn without_userland_there_is_no_way_from_ipv6_to_ipv4() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(NetworkConfig {
            no_userland_proxy: true,
            ..dir.config()
        });
        let sandbox = publish(&manager, vec![port(Protocol::Tcp, 8080, 80)]);
        assert_eq!(shown(&sandbox.endpoints[0]), ["0.0.0.0 8080"]);
        serve(&sandbox.netns, "0.0.0.0:80");
        assert!(ask("127.0.0.1:8080").is_ok());
        assert!(
            TcpListener::bind("0.0.0.0:8080").is_err(),
            "it is held all the same"
        );
    });
}

#[test]
fn the_default_address_is_the_daemons_or_the_networks() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(NetworkConfig {
            default_publish_address: "127.0.0.1".parse().ok(),
            ..dir.config()
        });
        let new = |name: &str, binding: Option<&str>| {
            let option = "com.docker.network.bridge.host_binding_ipv4";
            let binding = binding.map(|value| (option.to_owned(), value.to_owned()));
            manager
                .create(NewNetwork {
                    name: name.into(),
                    options: binding.into_iter().collect(),
                    ..NewNetwork::bridge()
                })
                .expect("create a network");
        };
        new("plain", None);
        new("own", Some("127.0.0.2"));
        new("all", Some("0.0.0.0"));
        for (network, expected) in [
            ("bridge", vec!["127.0.0.1 8080"]),
            ("plain", vec!["127.0.0.1 8080"]),
            ("own", vec!["127.0.0.2 8080"]),
            ("all", vec!["0.0.0.0 8080", ":: 8080"]),
        ] {
            let request = EndpointRequest {
                network: network.into(),
                ports: vec![port(Protocol::Tcp, 8080, 80)],
                ..EndpointRequest::default()
            };
            let sandbox = manager.attach("c", &[request]).expect("publish");
            assert_eq!(shown(&sandbox.endpoints[0]), expected, "{network}");
            manager.release(&sandbox.endpoints[0]);
        }
    });
}

/// A container on the network `net` as far as names are concerned.
struct Container {
    id: String,
    sandbox: Sandbox,
}

impl Container {
    fn start(manager: &NetworkManager, name: &str) -> Container {
        let request = EndpointRequest {
            network: "net".into(),
            ..EndpointRequest::default()
        };
        let id = format!("id-{name}");
        let mut sandbox = manager.attach(&id, &[request]).expect("attach");
        let endpoint = &sandbox.endpoints[0];
        let resolving = Resolving {
            id: id.clone(),
            endpoints: vec![ResolvingEndpoint {
                network_id: endpoint.network_id.clone(),
                network_name: endpoint.network_name.clone(),
                addresses: endpoint.address.into_iter().collect(),
                names: vec![name.into()],
                links: Vec::new(),
            }],
            ..Resolving::default()
        };
        let sockets = sandbox.resolver.take();
        manager.resolve(resolving, sockets).expect("resolve");
        Container { id, sandbox }
    }

    fn address(&self) -> IpAddr {
        self.sandbox.endpoints[0].address.expect("an address")
    }

    fn stop(self, manager: &NetworkManager) {
        manager.forget(&self.id);
        manager.release(&self.sandbox.endpoints[0]);
    }

    /// A socket of its own that asks its name server.
    fn client(&self) -> UdpSocket {
        inside(&self.sandbox.netns, || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
            socket.connect("127.0.0.11:53").expect("connect");
            socket.set_read_timeout(Some(DEADLINE)).expect("deadline");
            socket
        })
    }
}

/// Addresses of `name`; `None` when there is no such name.
fn resolve(client: &UdpSocket, name: &str) -> Option<Vec<IpAddr>> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    client.send(&query.to_vec().unwrap()).expect("ask");
    let mut buffer = [0; 512];
    let length = client.recv(&mut buffer).expect("an answer");
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    let address = |data: &RData| match data {
        RData::A(address) => IpAddr::V4(address.0),
        other => panic!("{other:?}"),
    };
    let addresses = answer.answers.iter().map(|record| address(&record.data));
    (answer.metadata.response_code == ResponseCode::NoError).then(|| addresses.collect())
}

fn with_network(manager: &NetworkManager) {
    manager
        .create(NewNetwork {
            name: "net".into(),
            ..NewNetwork::bridge()
        })
        .expect("create a network");
}

#[test]
fn what_the_daemon_said_counts_for_the_next_question() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        with_network(&manager);
        let asker = Container::start(&manager, "asker");
        let client = asker.client();
        for round in 0..200 {
            let name = format!("c{round}");
            let other = Container::start(&manager, &name);
            assert_eq!(
                resolve(&client, &name),
                Some(vec![other.address()]),
                "{name}"
            );
            other.stop(&manager);
            assert_eq!(resolve(&client, &name), None, "{name} is gone");
        }
    });
}

#[test]
fn a_hundred_containers_find_each_other_while_others_come_and_go() {
    const STAYING: usize = 100;
    const QUESTIONS: usize = 10_000;
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        with_network(&manager);
        let staying: Vec<Container> = (0..STAYING)
            .map(|n| Container::start(&manager, &format!("c{n}")))
            .collect();
        let done = AtomicBool::new(false);
        let stayers: HashSet<IpAddr> = staying.iter().map(Container::address).collect();
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Addresses are used again at once: a stale answer would name another's.
                while !done.load(Ordering::Relaxed) {
                    let new: Vec<Container> = (0..20)
                        .map(|n| Container::start(&manager, &format!("passer{n}")))
                        .collect();
                    new.into_iter().for_each(|passer| passer.stop(&manager));
                }
            });
            let times = (0..QUESTIONS)
                .map(|n| {
                    let (from, to) = (n * 7 % STAYING, n * 13 % STAYING);
                    let client = staying[from].client();
                    let start = Instant::now();
                    let answer = resolve(&client, &format!("c{to}"));
                    let time = start.elapsed();
                    assert_eq!(answer, Some(vec![staying[to].address()]));
                    let passer = resolve(&client, &format!("passer{}", n % 20));
                    for address in passer.into_iter().flatten() {
                        assert!(
                            !stayers.contains(&address),
                            "a passer has a stayer's address"
                        );
                    }
                    time
                })
                .collect();
            done.store(true, Ordering::Relaxed);
            times
        });
        times.sort();
        println!(
            "{QUESTIONS} answers: median {:?}, worst {:?}",
            times[QUESTIONS / 2],
            times[QUESTIONS - 1]
        );
        assert_ne!(staying[0].address(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        staying.into_iter().for_each(|one| one.stop(&manager));
    });
}

#[test]
fn a_name_server_in_the_container_may_have_the_port() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        with_network(&manager);
        let one = Container::start(&manager, "one");
        inside(&one.sandbox.netns, || {
            let udp = UdpSocket::bind("0.0.0.0:53").expect("UDP port 53");
            let tcp = TcpListener::bind("0.0.0.0:53").expect("TCP port 53");
            drop((udp, tcp));
        });
        assert_eq!(resolve(&one.client(), "one"), Some(vec![one.address()]));
    });
}

/// kind's nodes have their name server answer pods, by changing what `iptables-save` shows.
#[test]
fn rules_of_the_name_server_are_those_that_programs_expect() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        with_network(&manager);
        let container = Container::start(&manager, "node");
        inside(&container.sandbox.netns, || {
            let saved = run("iptables-save -t nat");
            for line in [
                ":DOCKER_OUTPUT - [0:0]",
                "-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT",
                "-A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:",
                "-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:",
            ] {
                assert!(saved.contains(line), "{line}: {saved}");
            }
            run("iptables -t nat -A DOCKER_OUTPUT -d 192.0.2.5 -j ACCEPT");
        });
        assert!(resolve(&container.client(), "node").is_some());
        container.stop(&manager);
    });
}

#[test]
fn long_answers_come_over_tcp() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        with_network(&manager);
        let one = Container::start(&manager, "one");
        let mut query = Message::query();
        query.add_query(Query::query(
            Name::from_ascii("one").unwrap(),
            RecordType::A,
        ));
        let bytes = query.to_vec().unwrap();
        let answer = inside(&one.sandbox.netns, || {
            let mut stream = TcpStream::connect("127.0.0.11:53").expect("connect");
            stream.set_read_timeout(Some(DEADLINE)).expect("deadline");
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            stream
                .write_all(&[&length, &bytes[..]].concat())
                .expect("ask");
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("length");
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer).expect("answer");
            answer
        });
        assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
    });
}

#[test]
fn other_names_are_asked_of_the_hosts_name_server() {
    on_a_host(|| {
        let dir = Dir::new();
        let manager = open(dir.config());
        with_network(&manager);
        // On the host's loopback, where no container could reach it.
        let server = UdpSocket::bind("127.0.0.53:53").expect("bind");
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = server.recv_from(&mut buffer) {
                let mut answer = Message::from_vec(&buffer[..length])
                    .unwrap()
                    .into_response();
                answer.metadata.response_code = ResponseCode::NXDomain;
                let _ = server.send_to(&answer.to_vec().unwrap(), from);
            }
        });
        let file = dir.0.join("resolv.conf");
        std::fs::write(&file, "nameserver 127.0.0.53\n").expect("write");
        let ask = |external: bool, host_file: &str| {
            let request = EndpointRequest {
                network: "net".into(),
                ..EndpointRequest::default()
            };
            let mut sandbox = manager.attach("c", &[request]).expect("attach");
            let resolving = Resolving {
                id: "c".into(),
                host_file: host_file.into(),
                external,
                ..Resolving::default()
            };
            let sockets = sandbox.resolver.take();
            manager.resolve(resolving, sockets).expect("resolve");
            let container = Container {
                id: "c".into(),
                sandbox,
            };
            let client = container.client();
            let mut query = Message::query();
            query.add_query(Query::query(
                Name::from_ascii("a.example").unwrap(),
                RecordType::A,
            ));
            client.send(&query.to_vec().unwrap()).expect("ask");
            let mut buffer = [0; 512];
            let length = client.recv(&mut buffer).expect("an answer");
            container.stop(&manager);
            Message::from_vec(&buffer[..length])
                .unwrap()
                .metadata
                .response_code
        };
        let file = file.to_str().unwrap();
        assert_eq!(ask(true, file), ResponseCode::NXDomain);
        assert_eq!(
            ask(false, file),
            ResponseCode::ServFail,
            "internal networks ask nobody"
        );
        assert_eq!(ask(true, "/nowhere"), ResponseCode::ServFail);
    });
}
