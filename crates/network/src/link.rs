//! Links, addresses and routes: plans as plain values, and their netlink messages.

mod bridge;
mod child;
mod endpoint;
mod message;
mod pair;
mod shaping;

pub(crate) use bridge::{BridgePlan, BridgeState, delete_link, delete_link_soon, read_bridge};
pub(crate) use child::{ChildKind, ChildPlan, ParentPlan, is_made_kind};
pub(crate) use endpoint::{DefaultRoute, Inside, Port};
pub(crate) use message::{change_link, link_by_name, link_names, routes};
pub(crate) use pair::{Pair, without_ipv6_address};
pub(crate) use shaping::Rate;
