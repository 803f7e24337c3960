//! What daemon and netd tell each other: one message per packet, descriptors beside it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::record::Protocol;

/// Changes with every change of a message. A daemon that finds a netd of another version takes everything from it and starts
/// its own.
pub(crate) const VERSION: u32 = 1;

/// From the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first message. Answered with everything that is held, then [`Answer::Complete`].
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// Names that a container may ask for and is asked for. Comes with its two sockets, UDP and TCP, or without to keep those held.
    Resolve(Box<Resolving>),
    /// Adds ports to an endpoint, one bound socket for each.
    Forward {
        /// Endpoint's id.
        id: String,
        /// In the order of the sockets.
        ports: Vec<ForwardedPort>,
    },
    /// Comes with the pidfd of a container: when that process ends, everything of these ids goes.
    Watch {
        /// Container's id.
        id: String,
        /// Ids of its endpoints.
        endpoints: Vec<String>,
    },
    /// Everything of these ids goes. A descriptor that comes along is closed when it is gone.
    Forget {
        /// Of containers and endpoints.
        ids: Vec<String>,
    },
}

/// From netd, after [`Request::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The first one.
    Version(u32),
    /// A container's sockets are held, and here.
    Resolving(Box<Resolving>),
    /// An endpoint's sockets are held, and here. An endpoint with many ports takes several answers.
    Forwarding {
        /// Endpoint's id.
        id: String,
        /// In the order of the sockets.
        ports: Vec<ForwardedPort>,
    },
    /// There is no more.
    Complete,
}

/// A container whose names are resolved, as daemon and netd know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolving {
    /// Container's id.
    pub id: String,
    /// Its attachments, the preferred first. Those without DNS (`bridge`) are left out.
    pub endpoints: Vec<ResolvingEndpoint>,
    /// Name servers that the user or the daemon's configuration chose, asked from the container's namespace. Empty: those of the
    /// host's file, asked from the host's.
    pub servers: Vec<IpAddr>,
    /// Path of the host's `resolv.conf`.
    pub host_file: String,
    /// Whether it is on a network that is not internal; only then the host's servers are asked.
    pub external: bool,
    /// Somebody chose `ndots`: names without a dot are not asked of other servers.
    pub ndots_chosen: bool,
    /// What `host.docker.internal` stands for.
    pub host_addresses: Vec<IpAddr>,
}

/// One attachment with its names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvingEndpoint {
    /// Network's id.
    pub network_id: String,
    /// Network's name, which may follow a container's: `web.backend`.
    pub network_name: String,
    /// Addresses, of both families.
    pub addresses: Vec<IpAddr>,
    /// Under which others on the network find it; the first is what its address is resolved to.
    pub names: Vec<String>,
    /// Names of others that only this container uses: alias and real name (`--link`).
    pub links: Vec<(String, String)>,
}

/// A port of the host that netd serves where address translation does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForwardedPort {
    pub(crate) protocol: Protocol,
    pub(crate) host_address: IpAddr,
    pub(crate) host_port: u16,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// Whether connections that reach the socket are served; otherwise it only keeps the port.
    pub(crate) serve: bool,
}
