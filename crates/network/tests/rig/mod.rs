//! A host of its own for each test: a thread in a fresh network namespace, so that nothing leaves it.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use wharf_network::{FirewallBackend, NetworkConfig};

/// Long enough for a busy machine; only failing tests wait it out.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Runs `test` on a thread that sits in a new network namespace with loopback up.
pub fn on_a_host(test: impl FnOnce() + Send) {
    assert!(
        rustix::process::geteuid().is_root(),
        "network tests need root: they make network namespaces"
    );
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            wharf_sys::netns::unshare().expect("new network namespace");
            run("ip link set lo up");
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

thread_local! {
    static BACKEND: Cell<FirewallBackend> = const { Cell::new(FirewallBackend::Auto) };
}

/// Runs `test` on a host of its own for each firewall back end.
pub fn on_each_backend(test: impl Fn() + Send + Sync) {
    for backend in [FirewallBackend::Nftables, FirewallBackend::Iptables] {
        on_a_host(|| {
            BACKEND.set(backend);
            test();
        });
    }
}

/// Whether the test runs with nftables.
pub fn is_nftables() -> bool {
    BACKEND.get() == FirewallBackend::Nftables
}

/// All IPv4 rules, without counters.
pub fn rules() -> String {
    if is_nftables() {
        run("nft --stateless list table ip wharf-bridges")
    } else {
        run("iptables -S") + &run("iptables -t nat -S") + &run("iptables -t raw -S")
    }
}

/// The defaults, with the back end of the test.
pub fn config() -> NetworkConfig {
    NetworkConfig {
        firewall_backend: BACKEND.get(),
        ..NetworkConfig::default()
    }
}

/// Runs `body` on a thread inside `netns`.
pub fn inside<T: Send>(netns: &OwnedFd, body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            wharf_sys::netns::enter(netns.as_fd()).expect("enter network namespace");
            body()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a program in the calling thread's namespace and returns what it prints.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a program");
    let output = Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A machine on the network `10.9.9.0/24` of the calling thread's host, which has `10.9.9.1` there.
pub fn neighbour(name: &str) -> OwnedFd {
    let netns = std::thread::spawn(|| {
        wharf_sys::netns::unshare().expect("new network namespace");
        wharf_sys::netns::current().expect("its descriptor")
    })
    .join()
    .expect("thread");
    let own = std::process::id();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&netns);
    run(&format!("ip link add {name} type veth peer name lan0"));
    run(&format!("ip link set lan0 netns /proc/{own}/fd/{fd}"));
    run(&format!("ip addr add 10.9.9.1/24 dev {name}"));
    run(&format!("ip link set {name} up"));
    inside(&netns, || {
        run("ip link set lo up");
        run("ip addr add 10.9.9.2/24 dev lan0");
        run("ip link set lan0 up");
    });
    netns
}

/// Opens a TCP listener in `netns` that answers every connection with the client's address.
pub fn serve(netns: &OwnedFd, address: &str) {
    let listener = inside(netns, || TcpListener::bind(address).expect("listen"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let peer = stream.peer_addr().expect("peer").ip().to_string();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
}

/// Connects from the calling thread's namespace; the answer is the address under which the server saw us.
pub fn ask(address: &str) -> std::io::Result<String> {
    ask_within(address, DEADLINE)
}

/// The same with a deadline of its own, for connections that must not succeed.
pub fn ask_within(address: &str, deadline: Duration) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().expect("address and port");
    let mut stream = TcpStream::connect_timeout(&address, deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
