//! Links, addresses and routes: plans as plain values, and their netlink messages.

mod bridge;
mod endpoint;
mod message;
mod pair;

pub(crate) use bridge::{BridgePlan, BridgeState, delete_link, read_bridge};
pub(crate) use endpoint::{EndpointPlan, Inside, Port};
pub(crate) use message::{change_link, routes};
pub(crate) use pair::{Pair, without_ipv6_address};
