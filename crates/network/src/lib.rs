//! Container networks: address management, plans, netlink, firewall.
//!
//! In: network definitions and endpoint requests. Out: ready network namespaces with addresses. Blocking code, no async.
//! Knows nothing of containers but their id and names. Owns no database: the engine stores [`NetworkRecord`]s and gives back
//! the [`Endpoint`]s of containers that live; everything else is derived from them.

#![forbid(unsafe_code)]
// A panic is how a test fails.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod addresses;
mod attach;
mod bridge;
mod conntrack;
mod dns;
mod driver;
mod error;
mod firewall;
mod forward;
mod gateway;
mod host;
mod ipam;
mod link;
mod links;
mod manager;
mod name;
mod namespace;
pub mod netd;
mod netlink;
mod networks;
mod option;
mod parent;
mod ports;
mod predefined;
mod record;
mod user_defined;

pub use dns::socket::ResolverSockets;
pub use error::{ErrorKind, NetworkError};
pub use manager::NetworkManager;
pub use netd::protocol::{Resolving, ResolvingEndpoint};
pub use record::{
    Endpoint, EndpointRequest, FirewallBackend, IpamRecord, LinkedPort, NetdConfig, NetworkConfig,
    NetworkRecord, NewNetwork, PortMapping, PortRequest, Protocol, Sandbox, SubnetRecord,
};
