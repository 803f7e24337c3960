//! Names of containers: who is called what on which network, asked over DNS.
//!
//! [`names`] knows, [`answer`] speaks the wire format, [`server`] owns sockets inside containers, [`upstream`] asks others,
//! [`socket`] is the daemon's part: it makes the sockets.

pub(crate) mod answer;
pub(crate) mod names;
mod redirect;
pub(crate) mod resolv_conf;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod upstream;
