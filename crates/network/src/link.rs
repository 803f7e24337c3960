//! Links, addresses and routes: plans as plain values, and their netlink messages.

mod bridge;
mod endpoint;
mod message;

pub(crate) use bridge::{BridgePlan, BridgeState, delete_link, read_bridge};
pub(crate) use endpoint::{EndpointPlan, Inside, Veth};
pub(crate) use message::{change_link, link_by_name, links, routes};
