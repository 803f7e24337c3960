//! `/etc/hosts` of a running container when its networks change.

use std::net::IpAddr;

use wharf_api::container::Config;
use wharf_network::Endpoint;

/// The file without the addresses of `gone` and with those of `new`. Lines of others, the user's among them, stay.
pub(super) fn updated(text: &str, config: &Config, gone: &[Endpoint], new: &[Endpoint]) -> String {
    let names = names(config);
    let gone: Vec<String> = addresses(gone)
        .map(|address| line(address, &names))
        .collect();
    let mut kept: String = text
        .split_inclusive('\n')
        .filter(|own| !gone.iter().any(|gone| gone == own))
        .collect();
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    for address in addresses(new) {
        kept.push_str(&line(address, &names));
    }
    kept
}

fn addresses(endpoints: &[Endpoint]) -> impl Iterator<Item = IpAddr> {
    endpoints.iter().flat_map(Endpoint::addresses)
}

fn line(address: IpAddr, names: &str) -> String {
    format!("{address}\t{names}\n")
}

fn names(config: &Config) -> String {
    if config.domainname.is_empty() {
        config.hostname.clone()
    } else {
        format!("{0}.{1} {0}", config.hostname, config.domainname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_lines_come_and_go() {
        let config = Config {
            hostname: "box".into(),
            ..Config::default()
        };
        let endpoint = |address: [u8; 4]| Endpoint {
            address: Some(address.into()),
            ..Endpoint::default()
        };
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tbox\n10.0.0.3 friend\n";
        let text = updated(
            text,
            &config,
            &[endpoint([10, 0, 0, 2])],
            &[endpoint([10, 1, 0, 2])],
        );
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost\n10.0.0.3 friend\n10.1.0.2\tbox\n"
        );
    }
}
