//! Driver options by their Docker names.

pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(crate) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(crate) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
