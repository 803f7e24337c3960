//! Settings of the client.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use url::Url;

/// Where Docker keeps certificates of registries, one directory per `host[:port]`.
pub const CERTS_D: &str = "/etc/docker/certs.d";

/// Settings of one client.
#[derive(Debug, Clone)]
pub struct Config {
    /// Registries that may speak plain HTTP or show certificates of unknown authorities: `host[:port]` or CIDRs.
    pub insecure: Vec<String>,
    /// Mirrors, best first.
    pub mirrors: Vec<Mirror>,
    /// Directory of certificates, [`CERTS_D`].
    pub certs_dir: PathBuf,
    /// `HTTP_PROXY`; empty for none.
    pub http_proxy: String,
    /// `HTTPS_PROXY`; empty for none.
    pub https_proxy: String,
    /// `NO_PROXY`: hosts that are reached directly.
    pub no_proxy: String,
    /// How often one request or blob is tried.
    pub attempts: u32,
    /// Name and version told to registries.
    pub user_agent: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            certs_dir: CERTS_D.into(),
            http_proxy: String::new(),
            https_proxy: String::new(),
            no_proxy: String::new(),
            attempts: 5,
            user_agent: concat!("wharf/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Another place to find a registry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The registry it mirrors, `docker.io` unless said otherwise.
    pub registry: String,
    /// Its address, with a path below which `/v2/` is, if any.
    pub url: Url,
}

impl Mirror {
    /// Parses `https://host[:port]`, or with our extension `registry=https://host[:port]` for a registry other than Docker's. The
    /// words are moby's (`daemon/pkg/registry` `ValidateMirror`).
    pub fn parse(text: &str) -> Result<Mirror, String> {
        let (registry, address) = match text.split_once('=') {
            Some((registry, address)) if !registry.contains(['/', '?']) => (registry, address),
            _ => ("docker.io", text),
        };
        let url = Url::parse(address)
            .map_err(|error| format!("invalid mirror: {address:?} is not a valid URI: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "invalid mirror: unsupported scheme {:?} in {address:?}: must use either 'https://' or 'http://'",
                url.scheme()
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "invalid mirror: query or fragment at end of the URI {address:?}"
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!(
                "invalid mirror: username/password not allowed in URI {:?}",
                url.host_str().unwrap_or_default()
            ));
        }
        Ok(Mirror {
            registry: registry.to_owned(),
            url,
        })
    }
}

/// Checks one `insecure-registries` entry (moby `loadInsecureRegistries`).
pub fn validate_insecure(text: &str) -> Result<(), String> {
    let host = without_scheme(text);
    if host.parse::<IpNet>().is_ok() {
        return Ok(());
    }
    if text.contains("://") && host == text {
        return Err(format!("insecure registry {text} should not contain '://'"));
    }
    let invalid = |why: &str| format!("insecure registry {host} is not valid: {why}");
    if host.starts_with('-') || host.contains('/') || host.is_empty() {
        return Err(invalid(&format!("invalid host {host:?}")));
    }
    if let Some((_, port)) = host.rsplit_once(':')
        && host.parse::<IpAddr>().is_err()
        && port.parse::<u16>().is_err()
    {
        return Err(invalid(&format!("invalid port {port:?}")));
    }
    Ok(())
}

fn without_scheme(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    let cut = ["http://", "https://"]
        .iter()
        .find(|scheme| lower.starts_with(**scheme))
        .map_or(0, |scheme| scheme.len());
    &text[cut..]
}

impl Config {
    /// Whether `host[:port]` need not be trusted: loopback addresses and what was configured. Names count by what `addresses` they have.
    pub(crate) fn is_insecure(&self, authority: &str, addresses: &[IpAddr]) -> bool {
        let host = host_of(authority);
        if host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
            return true;
        }
        self.insecure
            .iter()
            .map(|entry| without_scheme(entry))
            .any(|entry| match entry.parse::<IpNet>() {
                Ok(net) => {
                    host.parse::<IpAddr>().is_ok_and(|ip| net.contains(&ip))
                        || addresses.iter().any(|ip| net.contains(ip))
                }
                Err(_) => entry == authority,
            })
    }

    /// Whether networks were configured, so that names have to be looked up.
    pub(crate) fn has_insecure_networks(&self) -> bool {
        self.insecure
            .iter()
            .any(|entry| without_scheme(entry).parse::<IpNet>().is_ok())
    }
}

/// The host in `host[:port]`, without the brackets of IPv6.
pub(crate) fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.split(':').next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_may_name_their_registry() {
        for (text, expected) in [
            (
                "https://m.example",
                Some(("docker.io", "https://m.example/")),
            ),
            ("quay.io=http://m:5000", Some(("quay.io", "http://m:5000/"))),
            ("m.example", None),
            ("ftp://m.example", None),
            ("https://u:p@m.example", None),
            ("https://m.example?a=b", None),
        ] {
            let mirror = Mirror::parse(text).ok();
            let got = mirror
                .as_ref()
                .map(|m| (m.registry.as_str(), m.url.as_str()));
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn loopback_is_insecure_and_what_is_configured() {
        let config = Config {
            insecure: vec!["10.0.0.0/8".into(), "http://reg:5000".into()],
            ..Config::default()
        };
        for (authority, addresses, expected) in [
            ("127.3.0.1:5000", vec![], true),
            ("localhost:5000", vec![], true),
            ("[::1]:5000", vec![], true),
            ("10.2.3.4", vec![], true),
            ("11.2.3.4", vec![], false),
            ("reg:5000", vec![], true),
            ("reg:5001", vec![], false),
            ("name", vec!["10.1.1.1".parse().expect("address")], true),
        ] {
            assert_eq!(
                config.is_insecure(authority, &addresses),
                expected,
                "{authority}"
            );
        }
    }
}
