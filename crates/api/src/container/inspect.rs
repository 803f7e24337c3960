//! `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Config, HostConfig, MountPoint, PortMap, State};
use crate::network::EndpointSettings;

/// A container in full.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerInspect {
    pub id: String,
    pub created: String,
    pub path: String,
    pub args: Vec<String>,
    pub state: State,
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    /// With the leading slash.
    pub name: String,
    pub restart_count: i64,
    pub driver: String,
    pub platform: String,
    pub mount_label: String,
    pub process_label: String,
    pub app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    pub host_config: HostConfig,
    pub graph_driver: DriverData,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    pub mounts: Vec<MountPoint>,
    pub config: Config,
    pub network_settings: NetworkSettings,
}

/// What the storage driver tells about a container or image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DriverData {
    pub data: Option<BTreeMap<String, String>>,
    pub name: String,
}

/// A container's place in its networks. The fields from `EndpointID` to `MacAddress` repeat the
/// endpoint of the network named `bridge`, up to API 1.51.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkSettings {
    pub bridge: String,
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    pub sandbox_key: String,
    pub ports: PortMap,
    pub hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: i64,
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<Address>>,
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<Address>>,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    pub gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    pub mac_address: String,
    pub networks: BTreeMap<String, EndpointSettings>,
}

impl NetworkSettings {
    /// Copies the endpoint of the network `bridge` into the old top-level fields.
    pub fn fill_bridge_fields(&mut self) {
        let Some(endpoint) = self.networks.get("bridge") else {
            return;
        };
        self.endpoint_id.clone_from(&endpoint.endpoint_id);
        self.gateway.clone_from(&endpoint.gateway);
        self.global_ipv6_address
            .clone_from(&endpoint.global_ipv6_address);
        self.global_ipv6_prefix_len = endpoint.global_ipv6_prefix_len;
        self.ip_address.clone_from(&endpoint.ip_address);
        self.ip_prefix_len = endpoint.ip_prefix_len;
        self.ipv6_gateway.clone_from(&endpoint.ipv6_gateway);
        self.mac_address.clone_from(&endpoint.mac_address);
    }
}

/// A further address, never filled in since Docker 1.9.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Address {
    pub addr: String,
    pub prefix_len: i64,
}
