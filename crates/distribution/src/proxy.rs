//! Which proxy a request goes through, by the rules of Go's `golang.org/x/net/http/httpproxy`, which Docker's daemon follows.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use crate::config::Config;
use crate::error::RegistryError;

/// Proxies, and what is reached without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    /// `*`
    All,
    /// `10.0.0.0/8`
    Network(IpNet),
    /// `10.0.0.1`, `10.0.0.1:5000`
    Address(IpAddr, Option<u16>),
    /// `example.com`, which has `a.example.com` in it; of `.example.com` and `*.example.com` only those below.
    Domain {
        /// With a dot before it.
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the settings. An address of a proxy that is none is an error.
    pub(crate) fn new(config: &Config) -> Result<Proxies, RegistryError> {
        Ok(Proxies {
            http: proxy(&config.http_proxy)?,
            https: proxy(&config.https_proxy)?,
            exceptions: config.no_proxy.split(',').filter_map(exception).collect(),
        })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// The proxy for an address; `None` to go straight there.
    pub(crate) fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        };
        proxy.filter(|_| !self.excepts(url))
    }

    fn excepts(&self, url: &Url) -> bool {
        let (name, address) = match url.host() {
            None => return true,
            Some(Host::Domain("localhost")) => return true,
            Some(Host::Domain(name)) => (name.trim_end_matches('.').to_ascii_lowercase(), None),
            Some(Host::Ipv4(address)) => (String::new(), Some(IpAddr::V4(address))),
            Some(Host::Ipv6(address)) => (String::new(), Some(IpAddr::V6(address))),
        };
        if address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let port = url.port_or_known_default();
        let fits = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        self.exceptions.iter().any(|exception| match exception {
            Exception::All => true,
            Exception::Network(network) => {
                address.is_some_and(|address| network.contains(&address))
            }
            Exception::Address(except, wanted) => address == Some(*except) && fits(wanted),
            Exception::Domain {
                suffix,
                itself,
                port: wanted,
            } => {
                address.is_none()
                    && (name.ends_with(suffix) || *itself && name == suffix[1..])
                    && fits(wanted)
            }
        })
    }
}

/// `[scheme://][user:password@]host[:port]`; the scheme is `http` where none is given.
fn proxy(text: &str) -> Result<Option<Url>, RegistryError> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&whole)
        .map_err(|error| RegistryError::Invalid(format!("invalid proxy address: {error}")))?;
    Ok(Some(url))
}

fn exception(entry: &str) -> Option<Exception> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry.is_empty() {
        return None;
    }
    if entry == "*" {
        return Some(Exception::All);
    }
    if let Ok(network) = entry.parse() {
        return Some(Exception::Network(network));
    }
    let (host, port) = split_port(&entry);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return None;
    }
    if let Ok(address) = host.parse() {
        return Some(Exception::Address(address, port));
    }
    let below = host.strip_prefix('*').filter(|rest| rest.starts_with('.'));
    let host = below.unwrap_or(host);
    let itself = !host.starts_with('.');
    let suffix = if itself {
        format!(".{host}")
    } else {
        host.to_owned()
    };
    Some(Exception::Domain {
        suffix,
        itself,
        port,
    })
}

/// Host and port; an IPv6 address without brackets has none.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        let config = Config {
            http_proxy: "plain.test:3128".into(),
            https_proxy: "http://user:secret@safe.test:3129".into(),
            no_proxy: no_proxy.into(),
            ..Config::default()
        };
        Proxies::new(&config).expect("valid")
    }

    #[test]
    fn exceptions_are_gos() {
        for (no_proxy, url, direct) in [
            ("", "https://quay.io/v2/", false),
            ("", "http://localhost:5000/v2/", true),
            ("", "http://127.8.0.1:5000/v2/", true),
            ("", "https://[::1]/v2/", true),
            ("*", "https://quay.io/v2/", true),
            ("quay.io", "https://quay.io/v2/", true),
            ("quay.io", "https://cdn.Quay.io/v2/", true),
            ("quay.io", "https://notquay.io/v2/", false),
            (".quay.io", "https://quay.io/v2/", false),
            ("*.quay.io", "https://cdn.quay.io/v2/", true),
            ("a.test, quay.io:443", "https://quay.io/v2/", true),
            ("quay.io:5000", "https://quay.io/v2/", false),
            ("reg.test:5000", "http://reg.test:5000/v2/", true),
            ("10.0.0.0/8", "https://10.2.3.4:5000/v2/", true),
            ("10.0.0.0/8", "https://11.2.3.4:5000/v2/", false),
            ("10.2.3.4", "https://10.2.3.4/v2/", true),
            ("10.2.3.4:5000", "https://10.2.3.4/v2/", false),
            ("fd00::/8", "https://[fd00::2]/v2/", true),
            ("[fd00::2]:443", "https://[fd00::2]/v2/", true),
            (":443", "https://quay.io/v2/", false),
        ] {
            let url = Url::parse(url).expect("valid");
            assert_eq!(
                proxies(no_proxy).of(&url).is_none(),
                direct,
                "{no_proxy} {url}"
            );
        }
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        for (url, expected) in [
            ("http://a.test/", "http://plain.test:3128/"),
            ("https://a.test/", "http://user:secret@safe.test:3129/"),
        ] {
            let url = Url::parse(url).expect("valid");
            let proxies = proxies("");
            assert_eq!(proxies.of(&url).map(Url::as_str), Some(expected));
        }
    }
}
