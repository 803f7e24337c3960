//! What a user asks of a network for one container: checked, and told apart from what came of it.

use std::net::IpAddr;

use wharf_api::network::EndpointSettings;

use crate::{Error, Result};

/// Interface settings, as moby's `netlabel.EndpointSysctls`.
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Refuses settings that make no sense whatever the network's addresses are (moby `validateEndpointSettings`). `network`: its
/// name.
pub(crate) fn validate(network: &str, settings: &EndpointSettings) -> Result<()> {
    let mut problems = Vec::new();
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    if ["bridge", "host", "none", "default"].contains(&network) {
        if !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty() {
            problems.push(
                "user specified IP address is supported on user defined networks only".to_owned(),
            );
        }
        if settings
            .aliases
            .as_ref()
            .is_some_and(|aliases| !aliases.is_empty())
        {
            problems.push(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            );
        }
    }
    address_problems(&mut problems, "IPv4", &ipam.ipv4_address, |address| {
        address.is_ipv4()
    });
    address_problems(&mut problems, "IPv6", &ipam.ipv6_address, |address| {
        address.is_ipv6()
    });
    for text in &ipam.link_local_ips {
        address_problems(&mut problems, "link-local IP", text, |_| true);
    }
    sysctl_problems(&mut problems, settings);
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::invalid(format!("invalid endpoint settings:\n{one}"))),
        more => Err(Error::invalid(format!(
            "invalid endpoint settings:\n* {}",
            more.join("\n* ")
        ))),
    }
}

fn address_problems(problems: &mut Vec<String>, what: &str, text: &str, fits: fn(&IpAddr) -> bool) {
    if text.is_empty() {
        return;
    }
    let address: Option<IpAddr> = text.parse().ok();
    if !address.is_some_and(|address| fits(&address) && !address.is_unspecified()) {
        problems.push(format!("invalid {what} address: {text}"));
    }
}

fn sysctl_problems(problems: &mut Vec<String>, settings: &EndpointSettings) {
    let options = settings.driver_opts.as_ref();
    let Some(text) = options.and_then(|options| options.get(SYSCTLS)) else {
        return;
    };
    for sysctl in text.split(',') {
        let parts: Vec<&str> = sysctl.splitn(5, '.').collect();
        let known = parts.len() == 5
            && ["ipv4", "ipv6", "mpls"].contains(&parts[1])
            && ["IFNAME", "ifname"].contains(&parts[3]);
        if !known {
            problems.push(format!(
                "unrecognised network interface sysctl '{sysctl}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            ));
        }
    }
}

/// Takes out what only a network can say (moby `cleanOperationalData`).
pub(crate) fn clear_results(settings: &mut EndpointSettings) {
    *settings = EndpointSettings {
        ipam_config: settings.ipam_config.take(),
        links: settings.links.take(),
        aliases: settings.aliases.take(),
        mac_address: std::mem::take(&mut settings.mac_address),
        driver_opts: settings.driver_opts.take(),
        gw_priority: settings.gw_priority,
        ..EndpointSettings::default()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str, json: &str) -> Result<(), String> {
        let settings = serde_json::from_str(json).expect("JSON");
        validate(network, &settings).map_err(|error| error.to_string())
    }

    #[test]
    fn nonsense_is_refused_with_dockers_words() {
        assert_eq!(
            check(
                "n",
                r#"{"IPAMConfig":{"IPv4Address":"10.0.0.5"},"Aliases":["a"]}"#
            ),
            Ok(())
        );
        for (network, json, message) in [
            (
                "bridge",
                r#"{"Aliases":["a"]}"#,
                "invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks",
            ),
            (
                "bridge",
                r#"{"IPAMConfig":{"IPv4Address":"10.0.0.5"}}"#,
                "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
            ),
            (
                "n",
                r#"{"IPAMConfig":{"IPv4Address":"fd00::1","IPv6Address":"x"}}"#,
                "invalid endpoint settings:\n* invalid IPv4 address: fd00::1\n* invalid IPv6 address: x",
            ),
            (
                "n",
                r#"{"IPAMConfig":{"LinkLocalIPs":["y"]}}"#,
                "invalid endpoint settings:\ninvalid link-local IP address: y",
            ),
        ] {
            assert_eq!(check(network, json), Err(message.to_owned()));
        }
        let odd = r#"{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.eth0.log_martians=1"}}"#;
        assert!(
            check("n", odd)
                .is_err_and(|error| error.contains("unrecognised network interface sysctl"))
        );
    }
}
