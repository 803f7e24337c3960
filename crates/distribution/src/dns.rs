//! Names of registries. A static glibc has no name service switch, so `/etc/hosts` and `/etc/resolv.conf` are read here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Looks names up as the host's configuration says at the moment.
#[derive(Clone, Default)]
pub(crate) struct Dns {
    current: Arc<Mutex<Option<Current>>>,
}

/// A resolver, and the files it was made from.
type Current = (Version, Arc<TokioResolver>);

/// When the files were changed last.
type Version = [Option<SystemTime>; 2];

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dns")
    }
}

/// Go's words for a name without addresses.
#[derive(Debug, thiserror::Error)]
#[error("lookup {name}{server}: {why}")]
pub(crate) struct LookupError {
    name: String,
    server: String,
    why: String,
}

impl Dns {
    /// Addresses of a name, IPv4 first.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let resolver = self.resolver().map_err(|error| LookupError {
            name: name.to_owned(),
            server: String::new(),
            why: error.to_string(),
        })?;
        match resolver.lookup_ip(name).await {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                addresses.sort_by_key(IpAddr::is_ipv6);
                Ok(addresses)
            }
            Err(error) => Err(LookupError {
                name: name.to_owned(),
                why: reason(&error),
                server: first_server(),
            }),
        }
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, NetError> {
        let version = FILES.map(|path| {
            std::fs::metadata(path)
                .and_then(|file| file.modified())
                .ok()
        });
        if let Some((known, resolver)) = &*self.current.lock()
            && *known == version
        {
            return Ok(resolver.clone());
        }
        let mut builder = TokioResolver::builder_tokio()?;
        builder.options_mut().ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
        let resolver = Arc::new(builder.build()?);
        *self.current.lock() = Some((version, resolver.clone()));
        Ok(resolver)
    }
}

fn reason(error: &NetError) -> String {
    if error.is_no_records_found() || error.is_nx_domain() {
        return "no such host".to_owned();
    }
    match error {
        NetError::NoConnections => format!(
            "dial udp{}: connect: network is unreachable",
            first_server().trim_start_matches(" on")
        ),
        NetError::Timeout => "i/o timeout".to_owned(),
        other => other.to_string(),
    }
}

/// ` on 10.0.0.1:53`, as Go shows it.
fn first_server() -> String {
    let text = std::fs::read_to_string(FILES[0]).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(|rest| format!(" on {}:53", rest.trim()))
        .next()
        .unwrap_or_default()
}

impl Resolve for Dns {
    fn resolve(&self, name: Name) -> Resolving {
        let dns = self.clone();
        Box::pin(async move {
            let addresses = dns.lookup(name.as_str()).await?;
            let sockets = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(sockets.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}
