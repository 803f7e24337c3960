//! Where a registry's API is: its mirrors first, then itself, encrypted and, if it may be, in the clear (moby `daemon/pkg/registry/service_v2.go`).

use std::net::IpAddr;

use url::Url;

use crate::config::Config;

/// Docker's own registry under the name its API has.
const HUB_API: &str = "registry-1.docker.io";

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// Everything before `/v2/`, with a slash at its end.
    pub(crate) base: Url,
    /// Certificates are verified.
    pub(crate) verify: bool,
    /// Not the registry itself.
    pub(crate) mirror: bool,
}

impl Endpoint {
    fn new(base: Url, verify: bool, mirror: bool) -> Endpoint {
        Endpoint {
            base,
            verify,
            mirror,
        }
    }

    /// `host[:port]`
    pub(crate) fn authority(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// An address of the API; `path` begins after `/v2/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}v2/{path}", self.base)
    }
}

/// Places to pull from. `addresses` are those of the registry's name, where networks are configured as insecure.
pub(crate) fn pull_endpoints(config: &Config, domain: &str, addresses: &[IpAddr]) -> Vec<Endpoint> {
    let mirrors = config
        .mirrors
        .iter()
        .filter(|mirror| mirror.registry == domain);
    let mut endpoints: Vec<Endpoint> = mirrors
        .map(|mirror| {
            let mut base = mirror.url.clone();
            if !base.path().ends_with('/') {
                base.set_path(&format!("{}/", mirror.url.path()));
            }
            let authority = Endpoint::new(base.clone(), true, true).authority();
            Endpoint::new(base, !config.is_insecure(&authority, &[]), true)
        })
        .collect();
    endpoints.extend(own_endpoints(config, domain, addresses));
    endpoints
}

/// Places to push to: the registry itself.
pub(crate) fn own_endpoints(config: &Config, domain: &str, addresses: &[IpAddr]) -> Vec<Endpoint> {
    let host = match domain {
        "docker.io" | "index.docker.io" => HUB_API,
        other => other,
    };
    let insecure = config.is_insecure(host, addresses);
    let base = |scheme: &str| Url::parse(&format!("{scheme}://{host}/")).ok();
    let encrypted = base("https").map(|base| Endpoint::new(base, !insecure, false));
    let clear = base("http")
        .filter(|_| insecure)
        .map(|base| Endpoint::new(base, false, false));
    encrypted.into_iter().chain(clear).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mirror;

    #[test]
    fn order_of_endpoints() {
        let config = Config {
            mirrors: vec![
                Mirror::parse("https://m1").expect("valid"),
                Mirror::parse("quay.io=http://127.0.0.1:5000/x").expect("valid"),
            ],
            ..Config::default()
        };
        let urls = |domain: &str| -> Vec<String> {
            pull_endpoints(&config, domain, &[])
                .iter()
                .map(|endpoint| endpoint.url(""))
                .collect()
        };
        assert_eq!(
            urls("docker.io"),
            ["https://m1/v2/", "https://registry-1.docker.io/v2/"]
        );
        assert_eq!(
            urls("quay.io"),
            ["http://127.0.0.1:5000/x/v2/", "https://quay.io/v2/"]
        );
        assert_eq!(
            urls("localhost:5000"),
            ["https://localhost:5000/v2/", "http://localhost:5000/v2/"]
        );
    }
}
