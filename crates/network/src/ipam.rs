//! Address management: which addresses and subnets are free. Pure; derived from what lives, stored nowhere.

mod pool;
mod subnets;

pub(crate) use pool::{AddressPool, Refusal};
pub(crate) use subnets::{SubnetSource, default_sources, local_source, overlap, pick_subnet};
