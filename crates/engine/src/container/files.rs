//! The files the engine writes for a container: `hosts`, `hostname`, `resolv.conf` in its directory, mounted over `/etc`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use wharf_api::container::{Config, HostConfig};

use super::links::Linked;

/// Host paths of the three files.
#[derive(Debug, Clone)]
pub struct Files {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl Files {
    /// The paths below a container's directory.
    pub fn in_dir(dir: &Path) -> Files {
        Files {
            hosts: dir.join("hosts"),
            hostname: dir.join("hostname"),
            resolv_conf: dir.join("resolv.conf"),
        }
    }
}

/// Writes a file in place: a running container may have it mounted, so it must stay the same inode.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}

/// `/etc/hostname` (moby `BuildHostnameFile`).
pub fn hostname(config: &Config) -> String {
    format!("{}\n", config.hostname)
}

/// `/etc/hosts` (moby `libnetwork/etchosts`). `addresses`: the container's own. `gateway`: what `host-gateway` stands for. `linked`:
/// names of others and their addresses.
pub fn hosts(
    config: &Config,
    host: &HostConfig,
    addresses: &[IpAddr],
    gateway: Option<IpAddr>,
    linked: &[Linked],
) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    append_extra_hosts(&mut text, host, gateway);
    for other in linked {
        text.push_str(&format!("{}\t{}\n", other.address, other.names));
    }
    let names = if config.domainname.is_empty() {
        config.hostname.clone()
    } else {
        format!("{0}.{1} {0}", config.hostname, config.domainname)
    };
    for address in addresses {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    text
}

/// `/etc/hosts` with the host's own network: the host's file and what the user adds.
pub fn hosts_of_host(own: &str, host: &HostConfig, gateway: Option<IpAddr>) -> String {
    let mut text = own.to_owned();
    append_extra_hosts(&mut text, host, gateway);
    text
}

/// `--add-host`.
fn append_extra_hosts(text: &mut String, host: &HostConfig, gateway: Option<IpAddr>) {
    for extra in host.extra_hosts.iter().flatten() {
        if let Some((name, address)) = extra.split_once(':').or_else(|| extra.split_once('=')) {
            let address = match (address, gateway) {
                ("host-gateway", Some(gateway)) => gateway.to_string(),
                _ => address
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned(),
            };
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_the_container_and_extra_hosts() {
        let config = Config {
            hostname: "web".into(),
            domainname: "example.org".into(),
            ..Config::default()
        };
        let host = HostConfig {
            extra_hosts: Some(vec![
                "db:10.1.1.1".into(),
                "gw:host-gateway".into(),
                "six:::1".into(),
            ]),
            ..HostConfig::default()
        };
        let text = hosts(
            &config,
            &host,
            &["172.17.0.2".parse().expect("ip")],
            "172.17.0.1".parse().ok(),
            &[Linked {
                names: "store db".into(),
                address: "172.17.0.9".parse().expect("ip"),
                variables: Vec::new(),
            }],
        );
        let tail: Vec<&str> = text.lines().skip(6).collect();
        assert_eq!(
            tail,
            [
                "10.1.1.1\tdb",
                "172.17.0.1\tgw",
                "::1\tsix",
                "172.17.0.9\tstore db",
                "172.17.0.2\tweb.example.org web"
            ]
        );
    }
}
