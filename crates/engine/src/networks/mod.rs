//! Networks of the engine: rows of the database, and who is connected.
//!
//! The work is `wharf-network`'s; a network's users are not stored, they follow from the containers that run.

mod api;
mod change;
mod connect;
pub(crate) mod endpoint_settings;
mod hosts;

use std::collections::BTreeMap;

use wharf_network::{Endpoint, NetworkConfig, NetworkManager, NetworkRecord};

use crate::state::{Database, Table};
use crate::{Engine, Result};

/// Opens the networks that are stored, makes the predefined ones at the first start, and stores what changed. Blocking.
///
/// `in_use`: endpoints of containers that run.
pub(crate) fn open(
    config: NetworkConfig,
    database: &Database,
    in_use: Vec<Endpoint>,
) -> Result<NetworkManager> {
    let known: Vec<NetworkRecord> = database.load_documents(Table::Networks)?;
    let manager = NetworkManager::open(config, known.clone(), in_use)?;
    for record in manager.networks() {
        if !known.contains(&record) {
            database.save_document(Table::Networks, &record.id, &record)?;
        }
    }
    Ok(manager)
}

impl Engine {
    /// Tells of something that happened to a network. `container`: whom it happened with.
    pub(crate) fn tell_network(
        &self,
        action: &str,
        id: &str,
        name: &str,
        driver: &str,
        container: Option<&str>,
    ) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), name.to_owned()),
            ("type".to_owned(), driver.to_owned()),
        ]);
        attributes
            .extend(container.map(|container| ("container".to_owned(), container.to_owned())));
        self.events.publish("network", action, id, attributes);
    }

    /// Tells of a container that joined (`connect`) or left (`disconnect`) its networks.
    pub(crate) fn tell_attachments(&self, action: &str, container: &str, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            if let Ok(network) = self.network.network(&endpoint.network_id) {
                self.tell_network(
                    action,
                    &network.id,
                    &network.name,
                    &network.driver,
                    Some(container),
                );
            }
        }
    }
}
