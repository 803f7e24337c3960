//! Published ports, seen through the stock CLI and asked for from the host, from other containers and from another machine.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::lan::Lan;
use wharf_e2e::web::{get, get_inside, is_out_of_reach, server};

#[test]
fn a_port_is_reached_from_everywhere() {
    for flags in [&[][..], &["--iptables=false", "--ip6tables=false"]] {
        let mut options = Engine::options();
        for flag in flags {
            options = options.flag(flag);
        }
        let engine = options.start();
        engine.load("busybox.tar");
        let id = server(&engine, &["-p", "8080:80"]);
        let lan = Lan::around(&engine);
        for address in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "192.0.2.1:8080",
            "[2001:db8:1::1]:8080",
        ] {
            let got = get(engine.netns(), address);
            assert_eq!(got, "hello", "host, {address}, {flags:?}");
        }
        for (who, machine) in [("neighbour", &lan.neighbour), ("remote", &lan.remote)] {
            for address in ["192.0.2.1:8080", "[2001:db8:1::1]:8080"] {
                let got = get(machine, address);
                assert_eq!(got, "hello", "{who}, {address}, {flags:?}");
            }
        }
        let neighbour = engine.run_detached(&[], &["sleep", "1000"]);
        engine.docker_ok(&["network", "create", "other"]);
        let stranger = engine.run_detached(&["--network", "other"], &["sleep", "1000"]);
        for (who, asker) in [
            ("itself", &id),
            ("neighbour", &neighbour),
            ("stranger", &stranger),
        ] {
            let got = get_inside(&engine, asker, "192.0.2.1", 8080);
            assert_eq!(got, "hello", "{who}, {flags:?}");
        }
        drop(lan);
        engine.remove_all();
        engine.docker_ok(&["network", "rm", "other"]);
    }
}

#[test]
fn a_port_on_loopback_is_for_the_host_alone() {
    let engine = Engine::start();
    server(&engine, &["-p", "127.0.0.1:8080:80", "-p", "[::1]:8080:80"]);
    let lan = Lan::around(&engine);
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(get(engine.netns(), address), "hello", "{address}");
    }
    for address in ["192.0.2.1:8080", "[2001:db8:1::1]:8080"] {
        assert!(is_out_of_reach(engine.netns(), address), "{address}");
        assert!(is_out_of_reach(&lan.neighbour, address), "{address}");
        assert!(is_out_of_reach(&lan.remote, address), "{address}");
    }
}

/// What the reference text asks of a web server in bridge mode: who reaches it directly, and who through a port of the host.
#[test]
fn a_web_server_on_the_bridge_is_reached_as_the_text_says() {
    let engine = Engine::start();
    let unpublished = server(&engine, &[]);
    let published = server(&engine, &["-p", "8080:80"]);
    let lan = Lan::around(&engine);
    lan.route_to_host("172.17.0.0/16");
    let address = |id: &str| engine.inspect(id, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    // From another container of the same host: directly.
    let other = engine.run_detached(&[], &["sleep", "1000"]);
    for id in [&unpublished, &published] {
        assert_eq!(get_inside(&engine, &other, &address(id), 80), "hello");
    }
    // From the host: at the container's address, which is on its bridge, and at the port.
    assert_eq!(get(engine.netns(), &address(&unpublished)), "hello");
    assert_eq!(get(engine.netns(), "127.0.0.1:8080"), "hello");
    // From other machines: only at the host's port, even where routes lead to the container.
    for machine in [&lan.neighbour, &lan.remote] {
        assert_eq!(get(machine, "192.0.2.1:8080"), "hello");
        assert!(is_out_of_reach(machine, &address(&unpublished)));
        assert!(is_out_of_reach(machine, &address(&published)));
    }
    // And out: what leaves has the host's address, so the remote machine, which knows no other, can answer.
    let out = engine.docker_ok(&["exec", &other, "ping", "-c1", "-W5", "198.51.100.2"]);
    assert!(out.contains("1 packets received"), "{out}");
}

#[test]
fn every_form_of_publishing_is_shown() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &[
            "-p",
            "8080:80",
            "-p",
            "127.0.0.1:9000-9001:90-91/udp",
            "-p",
            "[::1]:7000:70",
            "-p",
            "81",
        ],
        &["sleep", "1000"],
    );
    let shown = engine.docker_ok(&["port", &id]);
    let lines: Vec<&str> = shown.lines().collect();
    for line in [
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> [::]:8080",
        "90/udp -> 127.0.0.1:9000",
        "91/udp -> 127.0.0.1:9001",
        "70/tcp -> [::1]:7000",
    ] {
        assert!(lines.contains(&line), "{line}: {shown}");
    }
    assert_eq!(lines.len(), 7, "{shown}");
    let chosen = |address: &str| {
        let prefix = format!("81/tcp -> {address}:");
        let port = lines.iter().find_map(|line| line.strip_prefix(&prefix));
        port.unwrap_or_else(|| panic!("{prefix}: {shown}"))
            .to_owned()
    };
    assert_eq!(
        chosen("0.0.0.0"),
        chosen("[::]"),
        "one port for both families"
    );
    assert_eq!(
        engine.docker_ok(&["port", &id, "80"]),
        "0.0.0.0:8080\n[::]:8080"
    );
    let column = engine.docker_ok(&["ps", "--format", "{{.Ports}}"]);
    assert!(
        column.contains("0.0.0.0:8080->80/tcp") && column.contains("[::]:8080->80/tcp"),
        "{column}"
    );
}

#[test]
fn every_exposed_port_is_published_when_asked() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &[
            "-P",
            "--expose",
            "80",
            "--expose",
            "81/udp",
            "--expose",
            "90-92",
            "-p",
            "7000-7001:70-71/sctp",
        ],
        &["sleep", "1000"],
    );
    let shown = engine.docker_ok(&["port", &id]);
    for port in [
        "80/tcp", "81/udp", "90/tcp", "91/tcp", "92/tcp", "70/sctp", "71/sctp",
    ] {
        for address in ["0.0.0.0", "[::]"] {
            let wanted = format!("{port} -> {address}:");
            assert!(shown.contains(&wanted), "{wanted}: {shown}");
        }
    }
    assert!(shown.contains("71/sctp -> 0.0.0.0:7001"), "{shown}");
    assert_eq!(shown.lines().count(), 14, "{shown}");
}

#[test]
fn ports_of_others_are_refused_in_dockers_words() {
    let engine = Engine::start();
    let first = engine.run_detached(&["--name", "holder", "-p", "8080:80"], &["sleep", "1000"]);
    let refused = engine.docker(&["run", "--rm", "-p", "8080:80", BUSYBOX, "true"]);
    assert!(
        refused.stderr.contains(
            "Bind for 0.0.0.0:8080 failed: port is already allocated (by container holder)"
        ),
        "{}",
        refused.stderr
    );
    engine.docker_ok(&["rm", "-f", &first]);
    engine.docker_ok(&["run", "--rm", "-p", "8080:80", BUSYBOX, "true"]);
    let mut other = engine
        .netns()
        .command("busybox".as_ref())
        .args(["nc", "-l", "-p", "8081"])
        .spawn()
        .expect("busybox runs");
    wait_until("another program to listen", LONG, || {
        let output = engine
            .netns()
            .command("ss".as_ref())
            .arg("-lnt")
            .output()
            .expect("ss runs");
        String::from_utf8_lossy(&output.stdout).contains(":8081 ")
    });
    let refused = engine.docker(&["run", "--rm", "-p", "8081:80", BUSYBOX, "true"]);
    other.kill().expect("kill a child");
    other.wait().expect("wait for a child");
    assert!(
        refused.stderr.contains("failed to bind host port for "),
        "{}",
        refused.stderr
    );
    assert!(
        refused
            .stderr
            .contains(":8081:172.17.0.2:80/tcp: address already in use (by busybox, process "),
        "{}",
        refused.stderr
    );
}

#[test]
fn ports_outlive_the_daemon_and_are_taken_over() {
    let mut engine = Engine::start();
    let id = server(&engine, &["-p", "8080:80"]);
    engine.kill_daemon();
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(
            get(engine.netns(), address),
            "hello",
            "{address}, while no daemon runs"
        );
    }
    engine.start_daemon();
    assert_eq!(
        get(engine.netns(), "[::1]:8080"),
        "hello",
        "under the next daemon"
    );
    let refused = engine.docker(&["run", "--rm", "-p", "8080:80", BUSYBOX, "true"]);
    assert!(
        refused.stderr.contains("port is already allocated"),
        "{}",
        refused.stderr
    );
    engine.docker_ok(&["restart", "-t", "0", &id]);
    assert_eq!(
        engine.docker_ok(&["port", &id, "80"]),
        "0.0.0.0:8080\n[::]:8080"
    );
}

#[test]
fn daemon_options_choose_the_address() {
    let engine = Engine::options()
        .flag("--publish-default-address=127.0.0.1")
        .flag("--userland-proxy=false")
        .start();
    engine.load("busybox.tar");
    let id = engine.run_detached(
        &["-p", "8080:80", "-p", "0.0.0.0:8081:81"],
        &["sleep", "1000"],
    );
    assert_eq!(
        engine.docker_ok(&["port", &id]),
        "80/tcp -> 127.0.0.1:8080\n81/tcp -> 0.0.0.0:8081"
    );
}

/// A flow of datagrams that never pauses ends where the port ends, and begins anew where the port is then.
#[test]
fn datagrams_follow_a_port_to_its_next_container() {
    let engine = Engine::start();
    let lan = Lan::around(&engine);
    let client = datagrams(&lan.neighbour.path(), 0);
    client.connect("192.0.2.1:5300").expect("an address");
    let asks = |what: &str| {
        // Nobody listens yet, or any more: the refusal comes with the next call.
        let _ = client.send(what.as_bytes());
        let mut buffer = [0; 64];
        let length = client.recv(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(asks("host"), "");
    let publish = |name: &str| {
        let flags = ["--name", name, "-p", "5300:53/udp"];
        let id = engine.run_detached(&flags, &["sleep", "1000"]);
        let pid = engine.inspect(&id, "{{.State.Pid}}");
        datagrams(Path::new(&format!("/proc/{pid}/ns/net")), 53)
    };
    let answered = |server: &UdpSocket, what: &str| {
        wait_until("an answer", LONG, || {
            let answer = asks(what);
            let mut buffer = [0; 64];
            while let Ok((length, from)) = server.recv_from(&mut buffer) {
                server.send_to(&buffer[..length], from).expect("sent");
            }
            answer.ends_with(what)
        });
    };
    let first = publish("first");
    answered(&first, "one");
    // The next one has another address, because somebody took the first one's.
    drop(first);
    engine.docker_ok(&["rm", "-f", "first"]);
    engine.run_detached(&[], &["sleep", "1000"]);
    let second = publish("second");
    answered(&second, "two");
}

/// A socket in a network namespace, whose reads wait a moment.
fn datagrams(netns: &Path, port: u16) -> UdpSocket {
    let file = File::open(netns).expect("the namespace is there");
    let bind = move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter");
        UdpSocket::bind(("0.0.0.0", port)).expect("the port is free")
    };
    let socket = std::thread::spawn(bind).join().expect("it binds");
    let patience = Some(Duration::from_millis(20));
    socket.set_read_timeout(patience).expect("a time");
    socket
}

#[test]
fn links_name_containers_on_the_default_bridge() {
    let engine = Engine::start();
    let db = engine.run_detached(
        &["--name", "db", "--expose", "5432", "-e", "MODE=fast"],
        &["sleep", "1000"],
    );
    let web = engine.run_detached(&["--name", "web", "--link", "db:store"], &["sleep", "1000"]);
    let address = engine.inspect(&db, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let hosts = engine.docker_ok(&["exec", &web, "cat", "/etc/hosts"]);
    assert!(
        hosts.contains(&format!("{address}\tstore {} db", &db[..12])),
        "{hosts}"
    );
    assert_eq!(
        engine.inspect(&web, "{{.HostConfig.Links}}"),
        "[/db:/web/store]"
    );
    let run = engine.docker_ok(&["run", "--rm", "--link", "db:store", BUSYBOX, "env"]);
    for line in [
        format!("STORE_PORT=tcp://{address}:5432"),
        "STORE_ENV_MODE=fast".to_owned(),
    ] {
        assert!(run.lines().any(|l| l == line), "{line}: {run}");
    }
    engine.docker_ok(&["rm", "--link", "web/store"]);
    assert_eq!(engine.inspect(&web, "{{.HostConfig.Links}}"), "[]");
    engine.docker_ok(&["stop", "-t", "0", "db"]);
    let refused = engine.docker(&["run", "--rm", "--link", "db", BUSYBOX, "true"]);
    assert!(
        refused
            .stderr
            .contains("Cannot link to a non running container: /db AS /"),
        "{}",
        refused.stderr
    );
}
