//! Creating and removing networks.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_api::filters::Filters;
use wharf_api::network::{
    Ipam, IpamConfig, NetworkCreateRequest, NetworkCreateResponse, NetworkPruneReport,
};
use wharf_network::{IpamRecord, NetworkRecord, NewNetwork, SubnetRecord};

use crate::state::Table;
use crate::{Engine, Error, Result};

const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

impl Engine {
    /// `POST /networks/create`.
    pub async fn network_create(
        &self,
        request: NetworkCreateRequest,
    ) -> Result<NetworkCreateResponse> {
        let new = new_network(request)?;
        self.finish(|engine| async move {
            let (network, database) = (Arc::clone(&engine.network), Arc::clone(&engine.database));
            let record = crate::blocking(move || {
                let record = network.create(new)?;
                if let Err(error) = database.save_document(Table::Networks, &record.id, &record) {
                    network.remove(&record.id)?;
                    return Err(error.into());
                }
                Ok(record)
            })
            .await?;
            engine.tell_network("create", &record.id, &record.name, &record.driver, None);
            Ok(NetworkCreateResponse {
                id: record.id,
                warning: String::new(),
            })
        })
        .await
    }

    /// `DELETE /networks/{id}`.
    pub async fn network_remove(&self, reference: &str) -> Result<()> {
        let record = self.network.network(reference)?;
        self.refuse_active(&record)?;
        self.delete_network(record).await
    }

    /// `POST /networks/prune`: those nobody runs on.
    pub async fn network_prune(&self, filters: Filters) -> Result<NetworkPruneReport> {
        filters.validate(&PRUNE_FILTERS)?;
        let until = until(&filters)?;
        let mut deleted = Vec::new();
        for record in self.network.networks() {
            let chosen = self.is_dangling(&record)
                && until.is_none_or(|until| created_ns(&record) <= until)
                && filters.matches_labels("label", Some(&record.labels))
                && !crate::matches_unwanted(&filters, Some(&record.labels));
            if !chosen {
                continue;
            }
            let name = record.name.clone();
            match self.delete_network(record).await {
                Ok(()) => deleted.push(name),
                // Somebody joined meanwhile: it is not unused, so it stays.
                Err(error) => tracing::warn!(network = name, %error, "network not pruned"),
            }
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]);
        self.events.publish("network", "prune", "", attributes);
        Ok(NetworkPruneReport {
            networks_deleted: (!deleted.is_empty()).then_some(deleted),
        })
    }

    async fn delete_network(&self, record: NetworkRecord) -> Result<()> {
        self.finish(|engine| async move {
            let (network, database) = (Arc::clone(&engine.network), Arc::clone(&engine.database));
            let id = record.id.clone();
            crate::blocking(move || {
                network.remove(&id)?;
                Ok(database.delete_document(Table::Networks, &id)?)
            })
            .await?;
            engine.tell_network("destroy", &record.id, &record.name, &record.driver, None);
            Ok(())
        })
        .await
    }

    /// Docker names the containers that are in the way.
    fn refuse_active(&self, record: &NetworkRecord) -> Result<()> {
        let attached = self.attached(&record.id);
        if record.is_predefined() || attached.is_empty() {
            return Ok(());
        }
        let show = |(id, endpoint): (&String, &wharf_api::network::EndpointResource)| {
            format!("name:{:?} id:{:?}", endpoint.name, crate::ids::short(id))
        };
        let endpoints: Vec<String> = attached.iter().map(show).collect();
        Err(Error::new(
            wharf_api::error::Kind::Forbidden,
            format!(
                "error while removing network: network {} has active endpoints ({})",
                record.name,
                endpoints.join(", ")
            ),
        ))
    }
}

fn new_network(request: NetworkCreateRequest) -> Result<NewNetwork> {
    if request.ingress || !matches!(request.scope.as_str(), "" | "local") {
        return Err(Error::not_implemented(
            "networks of a swarm are not supported",
        ));
    }
    let driver = if request.driver.is_empty() || request.driver == "default" {
        "bridge".to_owned()
    } else {
        request.driver
    };
    Ok(NewNetwork {
        name: request.name,
        driver,
        enable_ipv4: request.enable_ipv4,
        enable_ipv6: request.enable_ipv6,
        internal: request.internal,
        attachable: request.attachable,
        ipam: ipam(request.ipam.unwrap_or_default()),
        options: request.options.unwrap_or_default(),
        labels: request.labels.unwrap_or_default(),
        config_only: request.config_only,
        config_from: request.config_from.unwrap_or_default().network,
    })
}

fn ipam(ipam: Ipam) -> IpamRecord {
    let subnet = |config: IpamConfig| SubnetRecord {
        subnet: config.subnet,
        ip_range: config.ip_range,
        gateway: config.gateway,
        aux_addresses: config.auxiliary_addresses,
    };
    IpamRecord {
        driver: if ipam.driver.is_empty() {
            "default".to_owned()
        } else {
            ipam.driver
        },
        options: ipam.options,
        config: ipam
            .config
            .unwrap_or_default()
            .into_iter()
            .map(subnet)
            .collect(),
        user_chosen: false,
    }
}

/// The moment that the `until` filter names; only older networks go.
fn until(filters: &Filters) -> Result<Option<i64>> {
    match filters.get("until") {
        [] => Ok(None),
        [text] => wharf_api::time::parse_filter_time(text, jiff::Timestamp::now())
            .map(Some)
            .map_err(|error| Error::invalid(error.to_string())),
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}

/// Nanoseconds since 1970; one whose text is none of ours is as old as can be.
fn created_ns(record: &NetworkRecord) -> i64 {
    let created = record.created.parse::<jiff::Timestamp>();
    created
        .ok()
        .and_then(|created| i64::try_from(created.as_nanosecond()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_with_dockers_defaults() {
        let request: NetworkCreateRequest = serde_json::from_str(
            r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"10.0.0.0/24"}]},"Options":{"com.docker.network.bridge.name":"b0"}}"#,
        )
        .expect("JSON");
        let new = new_network(request).expect("a network");
        assert_eq!(
            (new.driver.as_str(), new.enable_ipv4, new.enable_ipv6),
            ("bridge", None, None)
        );
        assert_eq!(
            (new.ipam.driver.as_str(), new.ipam.config[0].subnet.as_str()),
            ("default", "10.0.0.0/24")
        );
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for text in [
            r#"{"Name":"n","Scope":"swarm"}"#,
            r#"{"Name":"n","Ingress":true}"#,
        ] {
            let request = serde_json::from_str(text).expect("JSON");
            assert_eq!(
                new_network(request).expect_err(text).kind(),
                wharf_api::error::Kind::NotImplemented
            );
        }
    }
}
