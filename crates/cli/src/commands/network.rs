//! Commands on networks.

use std::collections::BTreeMap;

use wharf_api::network::{
    ConfigReference, ConnectRequest, DisconnectRequest, EndpointIpamConfig, EndpointSettings, Ipam,
    IpamConfig, Network, NetworkCreateRequest, NetworkCreateResponse, NetworkPruneReport,
};

use super::listing::{self, Listing, Row, short_id};
use super::{Arity, Command, filter, inspect, int, list, switch, text};
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::request::keys_values;
use crate::session::Session;

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["network ls", "network list"],
        usage: "[OPTIONS]",
        about: "List networks",
        arity: Arity::None,
        flags: &[&[
            filter::FLAG,
            listing::FORMAT,
            switch("no-trunc", "Do not truncate the output"),
            switch("quiet", "Only display network IDs").short('q'),
        ]],
        stops_at_first_argument: false,
        run: ls,
    },
    Command {
        paths: &["network inspect"],
        usage: "[OPTIONS] NETWORK [NETWORK...]",
        about: "Display detailed information on one or more networks",
        arity: Arity::AtLeast(1),
        flags: &[&[
            inspect::FORMAT,
            switch("verbose", "Verbose output for diagnostics").short('v'),
        ]],
        stops_at_first_argument: false,
        run: inspect::networks,
    },
    Command {
        paths: &["network create"],
        usage: "[OPTIONS] NETWORK",
        about: "Create a network",
        arity: Arity::Exactly(1),
        flags: &[&[
            switch("attachable", "Enable manual container attachment"),
            list(
                "aux-address",
                "Auxiliary IPv4 or IPv6 addresses used by Network driver",
            )
            .value("map"),
            text(
                "config-from",
                "The network from which to copy the configuration",
            ),
            switch("config-only", "Create a configuration only network"),
            text("driver", "Driver to manage the Network")
                .short('d')
                .default("\"bridge\""),
            list("gateway", "IPv4 or IPv6 Gateway for the master subnet").value("ipSlice"),
            switch("ingress", "Create swarm routing-mesh network"),
            switch("internal", "Restrict external access to the network"),
            list("ip-range", "Allocate container ip from a sub-range").value("ipNetSlice"),
            text("ipam-driver", "IP Address Management Driver").default("\"default\""),
            list("ipam-opt", "Set IPAM driver specific options").value("map"),
            switch("ipv4", "Enable or disable IPv4 address assignment").default("true"),
            switch("ipv6", "Enable or disable IPv6 address assignment"),
            list("label", "Set metadata on a network").check(keys_values::check_label),
            list("opt", "Set driver specific options")
                .short('o')
                .value("map"),
            text("scope", "Control the network's scope"),
            list(
                "subnet",
                "Subnet in CIDR format that represents a network segment",
            )
            .value("ipNetSlice"),
        ]],
        stops_at_first_argument: false,
        run: create,
    },
    Command {
        paths: &["network rm", "network remove"],
        usage: "NETWORK [NETWORK...]",
        about: "Remove one or more networks",
        arity: Arity::AtLeast(1),
        flags: &[&[switch("force", "Do not error if the network does not exist").short('f')]],
        stops_at_first_argument: false,
        run: rm,
    },
    Command {
        paths: &["network connect"],
        usage: "[OPTIONS] NETWORK CONTAINER",
        about: "Connect a container to a network",
        arity: Arity::Exactly(2),
        flags: &[&[
            list("alias", "Add network-scoped alias for the container"),
            list("driver-opt", "driver options for the network"),
            int(
                "gw-priority",
                "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
            ),
            text("ip", "IPv4 address (e.g., \"172.30.100.104\")"),
            text("ip6", "IPv6 address (e.g., \"2001:db8::33\")"),
            list("link", "Add link to another container")
                .check(crate::request::address::check_link),
            list(
                "link-local-ip",
                "Add a link-local address for the container",
            ),
        ]],
        stops_at_first_argument: false,
        run: connect,
    },
    Command {
        paths: &["network disconnect"],
        usage: "[OPTIONS] NETWORK CONTAINER",
        about: "Disconnect a container from a network",
        arity: Arity::Exactly(2),
        flags: &[&[switch("force", "Force the container to disconnect from a network").short('f')]],
        stops_at_first_argument: false,
        run: disconnect,
    },
    Command {
        paths: &["network prune"],
        usage: "[OPTIONS]",
        about: "Remove all unused networks",
        arity: Arity::None,
        flags: &[&[
            filter::LONG_FLAG,
            switch("force", "Do not prompt for confirmation").short('f'),
        ]],
        stops_at_first_argument: false,
        run: prune_command,
    },
];

const NETWORKS: Listing = Listing {
    type_name: "*network.networkContext",
    headers: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    raw: Some([
        "network_id: {{.ID}}",
        "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    ]),
};

fn ls(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let format = match matches.text_or_empty("format") {
        "" if !matches.on("quiet") => session.config().networks_format.clone(),
        format => format.to_owned(),
    };
    let filters = filter::filters(matches);
    let request =
        Request::get("/networks").query_if(!filters.is_empty(), "filters", filters.to_query());
    let mut networks: Vec<Network> = session.client.json(request)?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let truncate = !matches.on("no-trunc");
    let rows: Vec<Row> = networks
        .iter()
        .map(|network| row(network, truncate))
        .collect();
    print::out(&NETWORKS.render(&format, matches.on("quiet"), &rows)?)
}

fn row(network: &Network, truncate: bool) -> Row {
    Row::new()
        .with("CreatedAt", go_time_of(&network.created))
        .with("Driver", network.driver.clone())
        .with(
            "ID",
            if truncate {
                short_id(&network.id)
            } else {
                network.id.clone()
            },
        )
        .with("IPv4", network.enable_ipv4.to_string())
        .with("IPv6", network.enable_ipv6.to_string())
        .with("Internal", network.internal.to_string())
        .with_labels(Some(&network.labels))
        .with("Name", network.name.clone())
        .with("Scope", network.scope.clone())
}

/// An RFC 3339 time as Go prints one, with as many decimals as it has.
fn go_time_of(text: &str) -> String {
    let Ok(at) = text.parse::<jiff::Timestamp>() else {
        return text.to_owned();
    };
    at.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S%.f %z %Z")
        .to_string()
}

fn create(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let request = plan_create(matches).map_err(Failure::new)?;
    let body = serde_json::to_value(&request).map_err(|error| Failure::new(error.to_string()))?;
    let answer: NetworkCreateResponse = session
        .client
        .json(Request::post("/networks/create").json(&body))?;
    print::out_line(&answer.id)
}

fn plan_create(matches: &Matches) -> Result<NetworkCreateRequest, String> {
    let text = |name: &str| matches.text_or_empty(name).to_owned();
    let config_from = matches.text("config-from").filter(|name| !name.is_empty());
    Ok(NetworkCreateRequest {
        name: matches.args[0].clone(),
        driver: matches.text("driver").unwrap_or("bridge").to_owned(),
        scope: text("scope"),
        enable_ipv4: matches.given("ipv4").then(|| matches.on("ipv4")),
        enable_ipv6: matches.given("ipv6").then(|| matches.on("ipv6")),
        ipam: Some(Ipam {
            driver: matches.text("ipam-driver").unwrap_or("default").to_owned(),
            options: Some(keys_values::map(matches.list("ipam-opt"))),
            config: Some(pools(matches)?),
        }),
        internal: matches.on("internal"),
        attachable: matches.on("attachable"),
        ingress: matches.on("ingress"),
        config_only: matches.on("config-only"),
        config_from: config_from.map(|name| ConfigReference {
            network: name.to_owned(),
        }),
        options: Some(keys_values::map(matches.list("opt"))),
        labels: Some(keys_values::map(matches.list("label"))),
        check_duplicate: None,
    })
}

/// One pool for each subnet, with the range, gateway and auxiliary addresses that lie in it.
fn pools(matches: &Matches) -> Result<Vec<IpamConfig>, String> {
    let subnets = comma_list(matches.list("subnet"));
    let (ranges, gateways) = (
        comma_list(matches.list("ip-range")),
        comma_list(matches.list("gateway")),
    );
    if subnets.is_empty() {
        return match (ranges.len(), gateways.len()) {
            (0, 0) => Ok(Vec::new()),
            _ => Err("every ip-range or gateway must have a corresponding subnet".into()),
        };
    }
    let mut pools: Vec<IpamConfig> = subnets
        .into_iter()
        .map(|subnet| IpamConfig {
            subnet,
            ..IpamConfig::default()
        })
        .collect();
    for range in ranges {
        let address = range.split('/').next().unwrap_or_default();
        let pool = pool_of(&mut pools, address)
            .ok_or_else(|| format!("no matching subnet for range {range}"))?;
        pool.ip_range = range;
    }
    for gateway in gateways {
        let pool = pool_of(&mut pools, &gateway)
            .ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
        pool.gateway = gateway;
    }
    for (name, address) in keys_values::map(matches.list("aux-address")) {
        let pool = pool_of(&mut pools, &address)
            .ok_or(format!("no matching subnet for aux-address {address}"))?;
        pool.auxiliary_addresses.insert(name, address);
    }
    Ok(pools)
}

fn comma_list(values: &[String]) -> Vec<String> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .map(str::to_owned)
        .collect()
}

fn pool_of<'a>(pools: &'a mut [IpamConfig], address: &str) -> Option<&'a mut IpamConfig> {
    pools
        .iter_mut()
        .find(|pool| contains(&pool.subnet, address))
}

/// Whether the address lies in the subnet.
fn contains(subnet: &str, address: &str) -> bool {
    use std::net::IpAddr;
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let Some((network, length)) = subnet.split_once('/') else {
        return false;
    };
    let (Ok(network), Ok(length), Ok(address)) =
        (network.parse(), length.parse::<u32>(), address.parse())
    else {
        return false;
    };
    let ((network, size), (address, address_size)) = (bits(network), bits(address));
    let mask = if length == 0 {
        0
    } else {
        u128::MAX << (128 - length.min(128))
    };
    size == address_size && length <= size && network & mask == address & mask
}

fn rm(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let mut errors = Vec::new();
    for name in &matches.args {
        match session
            .client
            .done(Request::delete(format!("/networks/{name}")))
        {
            Ok(()) => print::out_line(name)?,
            Err(error) if matches.on("force") && error.status() == Some(404) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Docker's client says so and then ends with 1 without a further word.
    Err(Failure::new(format!(
        "{}\nexit status 1",
        errors.join("\n")
    )))
}

fn connect(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let text = |name: &str| matches.text_or_empty(name).to_owned();
    let optional = |name: &str| Some(matches.list(name).to_vec()).filter(|list| !list.is_empty());
    let driver_opts: BTreeMap<String, String> = keys_values::map(matches.list("driver-opt"));
    let request = ConnectRequest {
        container: matches.args[1].clone(),
        endpoint_config: Some(EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: text("ip"),
                ipv6_address: text("ip6"),
                link_local_ips: matches.list("link-local-ip").to_vec(),
            }),
            links: optional("link"),
            aliases: optional("alias"),
            driver_opts: Some(driver_opts).filter(|options| !options.is_empty()),
            gw_priority: matches.int("gw-priority").unwrap_or(0),
            ..EndpointSettings::default()
        }),
    };
    let body = serde_json::to_value(&request).map_err(|error| Failure::new(error.to_string()))?;
    Ok(session
        .client
        .done(Request::post(format!("/networks/{}/connect", matches.args[0])).json(&body))?)
}

fn disconnect(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let request = DisconnectRequest {
        container: matches.args[1].clone(),
        force: matches.on("force"),
    };
    let body = serde_json::to_value(&request).map_err(|error| Failure::new(error.to_string()))?;
    Ok(session
        .client
        .done(Request::post(format!("/networks/{}/disconnect", matches.args[0])).json(&body))?)
}

fn prune_command(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let question = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
    if !matches.on("force") && !print::confirm(question)? {
        return Ok(());
    }
    let deleted = prune(session, &filter::filters(matches).to_query())?;
    if deleted.is_empty() {
        return Ok(());
    }
    print::out(&format!("Deleted Networks:\n{}\n\n", deleted.join("\n")))
}

/// Removes unused networks; their names.
///
/// # Errors
/// The daemon refuses.
pub fn prune(session: &Session, filters: &str) -> Result<Vec<String>, Failure> {
    let request =
        Request::post("/networks/prune").query_if(!filters.is_empty(), "filters", filters);
    let report: NetworkPruneReport = session.client.json(request)?;
    Ok(report.networks_deleted.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_find_their_subnet() {
        assert!(contains("10.0.0.0/8", "10.2.3.4") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("fd00::/64", "fd00::1") && !contains("fd00::/64", "10.0.0.1"));
        assert!(!contains("10.0.0.0", "10.0.0.1"));
    }
}
