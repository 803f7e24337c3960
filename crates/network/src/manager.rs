//! Owns the host side of all networks.

use crate::error::NetworkError;
use crate::record::{Endpoint, EndpointRequest, NetworkConfig, NetworkRecord, Sandbox};

/// Owns the host side of all networks.
#[derive(Debug)]
pub struct NetworkManager {}

impl NetworkManager {
    /// Makes the default bridge and firewall rules true. `known`: records stored earlier; `in_use`: endpoints of containers that
    /// outlived an earlier daemon, whose addresses stay taken.
    pub fn open(
        _config: NetworkConfig,
        _known: Vec<NetworkRecord>,
        _in_use: Vec<Endpoint>,
    ) -> Result<NetworkManager, NetworkError> {
        Ok(NetworkManager {})
    }

    /// All networks, predefined first. After [`NetworkManager::open`] the caller stores those it did not know.
    pub fn networks(&self) -> Vec<NetworkRecord> {
        Vec::new()
    }

    /// A namespace with only loopback (`--network none`), with the endpoint that `none` shows.
    pub fn isolated(&self) -> Result<Sandbox, NetworkError> {
        Err(NetworkError::NotFound("none".into()))
    }

    /// The endpoint shown for a container on `host`, which has no interface of its own and no namespace to make.
    pub fn host_endpoint(&self) -> Result<Endpoint, NetworkError> {
        Err(NetworkError::NotFound("host".into()))
    }

    /// A namespace attached to every network asked for. The first is the one of the default route.
    pub fn attach(
        &self,
        _container_id: &str,
        requests: &[EndpointRequest],
    ) -> Result<Sandbox, NetworkError> {
        Err(NetworkError::NotFound(
            requests
                .first()
                .map_or_else(String::new, |request| request.network.clone()),
        ))
    }

    /// Gives an endpoint's addresses and ports back. Safe to repeat.
    pub fn release(&self, _endpoint: &Endpoint) {}
}
