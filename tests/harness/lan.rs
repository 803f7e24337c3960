//! Other machines around a daemon's host: a neighbour on its LAN, and one that only a router leads to.

use std::process::Command;

use crate::engine::Engine;
use crate::netns::NetNs;

/// The host's addresses on the LAN.
pub const HOST: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
/// The neighbour's.
pub const NEIGHBOUR: [&str; 2] = ["192.0.2.2", "2001:db8:1::2"];
/// Those of the machine behind the router.
pub const REMOTE: [&str; 2] = ["198.51.100.2", "2001:db8:2::2"];

/// The router's, on both sides.
const ROUTER: [&str; 2] = ["192.0.2.254", "2001:db8:1::fe"];
const ROUTER_FAR: [&str; 2] = ["198.51.100.1", "2001:db8:2::1"];

/// Network namespaces that are machines; they go when this is dropped.
#[derive(Debug)]
pub struct Lan {
    host: String,
    router: NetNs,
    /// On the host's LAN.
    pub neighbour: NetNs,
    /// Beyond the router.
    pub remote: NetNs,
}

impl Lan {
    /// Connects the daemon's host, by its interface `lan0`, with a neighbour and a router, and the router with a remote machine.
    /// The router is the LAN's switch too.
    #[must_use]
    pub fn around(engine: &Engine) -> Lan {
        let host = engine.cgroup_parent().to_owned();
        let machine = |what: &str| NetNs::create(&format!("{host}-{what}"));
        let lan = Lan {
            router: machine("router"),
            neighbour: machine("lan"),
            remote: machine("remote"),
            host,
        };
        lan.wire();
        lan
    }

    fn wire(&self) {
        let host = self.host.as_str();
        let [router, neighbour, remote] =
            ["router", "lan", "remote"].map(|what| format!("{host}-{what}"));
        for line in [
            "link add lan0 type bridge",
            &format!("link add port0 type veth peer name lan0 netns {host}"),
            &format!("link add port1 type veth peer name eth0 netns {neighbour}"),
            &format!("link add far0 type veth peer name eth0 netns {remote}"),
            "link set port0 master lan0 up",
            "link set port1 master lan0 up",
        ] {
            ip(&router, line);
        }
        set_up(&router, "lan0", ROUTER);
        set_up(&router, "far0", ROUTER_FAR);
        set_up(host, "lan0", HOST);
        set_up(&neighbour, "eth0", NEIGHBOUR);
        set_up(&remote, "eth0", REMOTE);
        for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            let mut sysctl = self.router.command("sysctl".as_ref());
            succeed(sysctl.args(["-qw", &format!("{name}=1")]));
        }
        lead(&remote, ROUTER_FAR);
        lead(&neighbour, ROUTER);
        lead(host, ROUTER);
    }

    /// Has other machines send what is for `subnet` to the host, as somebody does who wants past its firewall.
    pub fn route_to_host(&self, subnet: &str) {
        let via = HOST[usize::from(subnet.contains(':'))];
        for machine in ["router", "lan"] {
            let machine = format!("{}-{machine}", self.host);
            ip(&machine, &format!("route add {subnet} via {via}"));
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["-n", &self.host, "link", "delete", "lan0"])
            .status();
    }
}

fn set_up(machine: &str, link: &str, addresses: [&str; 2]) {
    ip(machine, &format!("addr add {}/24 dev {link}", addresses[0]));
    ip(
        machine,
        &format!("addr add {}/64 dev {link} nodad", addresses[1]),
    );
    ip(machine, &format!("link set {link} up"));
}

fn lead(machine: &str, via: [&str; 2]) {
    ip(machine, &format!("route add default via {}", via[0]));
    ip(machine, &format!("-6 route add default via {}", via[1]));
}

fn ip(machine: &str, line: &str) {
    succeed(
        Command::new("ip")
            .args(["-n", machine])
            .args(line.split(' ')),
    );
}

fn succeed(command: &mut Command) {
    let status = command.status().expect("the program runs");
    assert!(status.success(), "{command:?}: {status}");
}
