//! Links: ports that one container may ask of another where containers may not talk to each other.
//!
//! A link holds for as long as the other container has its address: when it stops the rule goes, so that nobody inherits it with the
//! address, and when it starts again it is made anew.

use crate::error::NetworkError;
use crate::firewall::Change;
use crate::manager::NetworkManager;
use crate::networks::{Network, Networks};
use crate::record::{Endpoint, LinkedPort};

impl NetworkManager {
    /// Changes what an endpoint may ask of others. The links that it has then; `None` where containers may talk to each other anyway.
    pub fn relink(
        &self,
        endpoint_id: &str,
        links: Vec<LinkedPort>,
    ) -> Result<Option<Vec<LinkedPort>>, NetworkError> {
        let changed = self.networks.lock().relink(endpoint_id, links);
        let Some((links, changes)) = changed else {
            return Ok(None);
        };
        self.apply(&changes)?;
        Ok(Some(links))
    }
}

impl Networks {
    fn relink(
        &mut self,
        endpoint_id: &str,
        links: Vec<LinkedPort>,
    ) -> Option<(Vec<LinkedPort>, Vec<Change>)> {
        let network = self.with_endpoint(endpoint_id)?;
        if !network.is_linked() {
            return None;
        }
        let endpoint = network.endpoints.get(endpoint_id)?;
        let new = Endpoint {
            links,
            ..endpoint.clone()
        };
        let changes = differences(network, endpoint, &new);
        let links = new.links.clone();
        network.endpoints.insert(new.endpoint_id.clone(), new);
        Some((links, changes))
    }
}

impl Network {
    /// Takes what others may ask of addresses that are given back; what the firewall must forget.
    pub(crate) fn unlink(&mut self, gone: &Endpoint) -> Vec<Change> {
        let leads = |link: &LinkedPort| gone.addresses().any(|address| address == link.address);
        let linking = self.endpoints.values();
        let linking = linking.filter(|endpoint| endpoint.links.iter().any(leads));
        let changed: Vec<Endpoint> = linking
            .map(|endpoint| {
                let mut endpoint = endpoint.clone();
                endpoint.links.retain(|link| !leads(link));
                endpoint
            })
            .collect();
        let mut changes = Vec::new();
        for endpoint in changed {
            let before = &self.endpoints[&endpoint.endpoint_id];
            changes.extend(differences(self, before, &endpoint));
            self.endpoints
                .insert(endpoint.endpoint_id.clone(), endpoint);
        }
        changes
    }

    /// Takes links to addresses that nobody has: what they led to ended while no daemon ran.
    pub(crate) fn drop_dead_links(&mut self) {
        let living: Vec<_> = self
            .endpoints
            .values()
            .flat_map(Endpoint::addresses)
            .collect();
        for endpoint in self.endpoints.values_mut() {
            endpoint.links.retain(|link| living.contains(&link.address));
        }
    }
}

/// From one endpoint's links to another's. Several links may mean the same rule.
fn differences(network: &Network, before: &Endpoint, after: &Endpoint) -> Vec<Change> {
    let (old, new) = (network.link_rules(before), network.link_rules(after));
    let gone = old.iter().filter(|rule| !new.contains(rule));
    let come = new.iter().filter(|rule| !old.contains(rule));
    let changes = gone
        .cloned()
        .map(Change::RemoveLink)
        .chain(come.cloned().map(Change::AddLink));
    changes.fold(Vec::new(), |mut all, change| {
        if !all.contains(&change) {
            all.push(change);
        }
        all
    })
}
