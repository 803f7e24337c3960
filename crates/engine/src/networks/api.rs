//! The network requests of the API.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wharf_api::filters::Filters;
use wharf_api::network::{ConfigReference, EndpointResource, Ipam, IpamConfig, Network};
use wharf_network::{Endpoint, NetworkRecord, SubnetRecord};

use crate::{Engine, Error, Result};

const LIST_FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Every network here is of this machine only.
const SCOPE: &str = "local";

impl Engine {
    /// `GET /networks`. Containers are shown by inspect only, as Docker does since 1.28.
    pub async fn network_list(&self, filters: Filters) -> Result<Vec<Network>> {
        filters.validate(&LIST_FILTERS)?;
        let dangling = dangling(&filters)?;
        check_types(&filters)?;
        let records = self.network.networks();
        let chosen = records.iter().filter(|record| {
            matches(&filters, record)
                && dangling.is_none_or(|dangling| dangling == self.is_dangling(record))
        });
        Ok(chosen.map(|record| wire(record, BTreeMap::new())).collect())
    }

    /// `GET /networks/{id}`. `scope`: where to look for it, everywhere if empty.
    pub async fn network_inspect(&self, reference: &str, scope: &str) -> Result<Network> {
        if !["", SCOPE].contains(&scope) {
            return Err(Error::new(
                wharf_api::error::Kind::NotFound,
                format!("network {reference} not found"),
            ));
        }
        let record = self.network.network(reference)?;
        let containers = self.attached(&record.id);
        Ok(wire(&record, containers))
    }

    /// Running containers on a network.
    pub(super) fn attached(&self, network_id: &str) -> BTreeMap<String, EndpointResource> {
        let mut attached = BTreeMap::new();
        for container in self.containers.all() {
            let endpoints = container.state().endpoints;
            if let Some(endpoint) = endpoints
                .iter()
                .find(|endpoint| endpoint.network_id == network_id)
            {
                attached.insert(container.id.clone(), resource(endpoint, container.name()));
            }
        }
        attached
    }

    /// Adds to a refused port which container has it; beyond Docker, which only says that it is taken.
    pub(crate) fn name_port_holder(&self, error: Error) -> Error {
        let holder = error.network().and_then(|network| {
            let id = network.port_holder()?;
            let has_it = |endpoint: &Endpoint| endpoint.endpoint_id == id;
            let containers = self.containers.all();
            let mut holders = containers.iter();
            let holder = holders.find(|one| one.state().endpoints.iter().any(has_it))?;
            Some(holder.name())
        });
        match holder {
            Some(name) => error.followed_by(format_args!(" (by container {name})")),
            None => error,
        }
    }

    /// Nobody uses it and somebody made it.
    pub(super) fn is_dangling(&self, record: &NetworkRecord) -> bool {
        !record.is_predefined() && self.attached(&record.id).is_empty()
    }
}

/// The tri-state `dangling` filter, with Docker's refusals.
fn dangling(filters: &Filters) -> Result<Option<bool>> {
    match filters.get("dangling") {
        [] => Ok(None),
        [value] => match value.as_str() {
            "1" | "true" => Ok(Some(true)),
            "0" | "false" => Ok(Some(false)),
            _ => Err(Error::invalid(
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
            )),
        },
        _ => Err(Error::invalid(
            "got more than one value for filter key \"dangling\"",
        )),
    }
}

fn check_types(filters: &Filters) -> Result<()> {
    match filters
        .get("type")
        .iter()
        .find(|value| !["builtin", "custom"].contains(&value.as_str()))
    {
        Some(value) => Err(Error::invalid(format!("invalid filter: 'type'='{value}'"))),
        None => Ok(()),
    }
}

fn matches(filters: &Filters, record: &NetworkRecord) -> bool {
    let kind = if record.is_predefined() {
        "builtin"
    } else {
        "custom"
    };
    filters.matches_exact("driver", &record.driver)
        && filters.matches("name", &record.name)
        && filters.matches("id", &record.id)
        && filters.matches_labels("label", Some(&record.labels))
        && filters.matches_exact("scope", SCOPE)
        && filters.matches_exact("type", kind)
}

fn wire(record: &NetworkRecord, containers: BTreeMap<String, EndpointResource>) -> Network {
    Network {
        name: record.name.clone(),
        id: record.id.clone(),
        created: record.created.clone(),
        scope: SCOPE.into(),
        driver: record.driver.clone(),
        enable_ipv4: record.enable_ipv4,
        enable_ipv6: record.enable_ipv6,
        ipam: Ipam {
            driver: record.ipam.driver.clone(),
            options: record.ipam.options.clone(),
            // `null`, not an empty list, for networks without addresses.
            config: (!record.ipam.config.is_empty())
                .then(|| record.ipam.config.iter().map(subnet).collect()),
        },
        internal: record.internal,
        attachable: record.attachable,
        containers,
        options: record.options.clone(),
        labels: record.labels.clone(),
        config_only: record.config_only,
        config_from: ConfigReference {
            network: record.config_from.clone(),
        },
        ..Network::default()
    }
}

fn subnet(record: &SubnetRecord) -> IpamConfig {
    IpamConfig {
        subnet: record.subnet.clone(),
        ip_range: record.ip_range.clone(),
        gateway: record.gateway.clone(),
        auxiliary_addresses: record.aux_addresses.clone(),
    }
}

fn resource(endpoint: &Endpoint, name: String) -> EndpointResource {
    let with_prefix = |address: Option<IpAddr>, length: u8| {
        address.map_or_else(String::new, |address| format!("{address}/{length}"))
    };
    EndpointResource {
        name,
        endpoint_id: endpoint.endpoint_id.clone(),
        mac_address: endpoint.mac.clone(),
        ipv4_address: with_prefix(endpoint.address, endpoint.prefix_len),
        ipv6_address: with_prefix(endpoint.address6.map(IpAddr::V6), endpoint.prefix_len6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_network::IpamRecord;

    fn record(name: &str, driver: &str) -> NetworkRecord {
        NetworkRecord {
            id: format!("{name:0<64}"),
            name: name.into(),
            driver: driver.into(),
            created: "2025-06-01T10:00:00.5Z".into(),
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            ipam: IpamRecord {
                driver: "default".into(),
                ..IpamRecord::default()
            },
            options: BTreeMap::new(),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            config_only: false,
            config_from: String::new(),
        }
    }

    #[test]
    fn filters_choose_networks() {
        let rows = [
            (r#"{"name":["bri"]}"#, vec!["bridge"]),
            (r#"{"driver":["null"]}"#, vec!["none"]),
            (r#"{"type":["custom"]}"#, vec!["mine"]),
            (
                r#"{"type":["builtin"],"scope":["local"]}"#,
                vec!["bridge", "none"],
            ),
            (r#"{"scope":["swarm"]}"#, vec![]),
            (r#"{"label":["tier=front"],"id":["^mine"]}"#, vec!["mine"]),
        ];
        let all = [
            record("bridge", "bridge"),
            record("none", "null"),
            record("mine", "bridge"),
        ];
        for (text, expected) in rows {
            let filters = Filters::parse(text).expect("filters");
            let found: Vec<&str> = all
                .iter()
                .filter(|record| matches(&filters, record))
                .map(|record| record.name.as_str())
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn bad_filters_are_refused() {
        let refuse = |text: &str| {
            let filters = Filters::parse(text).expect("filters");
            let error = dangling(&filters)
                .err()
                .or_else(|| check_types(&filters).err());
            error.expect("refused").to_string()
        };
        assert_eq!(
            refuse(r#"{"type":["odd"]}"#),
            "invalid filter: 'type'='odd'"
        );
        assert!(
            refuse(r#"{"dangling":["perhaps"]}"#)
                .starts_with("invalid value for filter 'dangling'")
        );
        assert!(refuse(r#"{"dangling":["0","1"]}"#).starts_with("got more than one value"));
    }

    #[test]
    fn inspect_is_dockers() {
        let mut bridge = record("bridge", "bridge");
        bridge.ipam.config = vec![SubnetRecord {
            subnet: "172.17.0.0/16".into(),
            gateway: "172.17.0.1".into(),
            ..SubnetRecord::default()
        }];
        let endpoint = Endpoint {
            endpoint_id: "e".into(),
            network_id: bridge.id.clone(),
            network_name: "bridge".into(),
            address: Some([172, 17, 0, 2].into()),
            prefix_len: 16,
            mac: "02:42:ac:11:00:02".into(),
            ..Endpoint::default()
        };
        let containers = BTreeMap::from([("c".to_owned(), resource(&endpoint, "web".into()))]);
        let text = serde_json::to_string(&wire(&bridge, containers)).expect("JSON");
        assert_eq!(
            text,
            format!(
                concat!(
                    r#"{{"Name":"bridge","Id":"{}","Created":"2025-06-01T10:00:00.5Z","Scope":"local","Driver":"bridge","#,
                    r#""EnableIPv4":true,"EnableIPv6":false,"IPAM":{{"Driver":"default","Options":null,"#,
                    r#""Config":[{{"Subnet":"172.17.0.0/16","Gateway":"172.17.0.1"}}]}},"Internal":false,"Attachable":false,"#,
                    r#""Ingress":false,"ConfigFrom":{{"Network":""}},"ConfigOnly":false,"Containers":{{"c":{{"Name":"web","#,
                    r#""EndpointID":"e","MacAddress":"02:42:ac:11:00:02","IPv4Address":"172.17.0.2/16","IPv6Address":""}}}},"#,
                    r#""Options":{{}},"Labels":{{"tier":"front"}}}}"#
                ),
                bridge.id
            )
        );
    }
}
