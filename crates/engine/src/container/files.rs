//! The files the engine writes for a container: `hosts`, `hostname`, `resolv.conf` in its directory, mounted over `/etc`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use wharf_api::container::{Config, HostConfig};

use crate::EngineConfig;

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

/// `/etc/hosts` (moby `libnetwork/etchosts`). `addresses`: the container's own. `gateway`: what `host-gateway` stands for.
pub fn hosts(
    config: &Config,
    host: &HostConfig,
    addresses: &[IpAddr],
    gateway: Option<IpAddr>,
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

/// Name servers used when the host names none that a container can reach (moby `libnetwork/internal/resolvconf`).
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// `/etc/resolv.conf`: the host's without loopback name servers, with what the user or the daemon chose instead.
/// `host_text`: the host's file. `keep_loopback`: with the host's own network.
pub fn resolv_conf(
    host_text: &str,
    host: &HostConfig,
    engine: &EngineConfig,
    keep_loopback: bool,
) -> String {
    let lists = Lists::parse(host_text);
    let choose = |own: Option<&Vec<String>>, daemon: &Vec<String>, hosts: Vec<String>| match own {
        Some(own) if !own.is_empty() => own.clone(),
        _ if !daemon.is_empty() => daemon.clone(),
        _ => hosts,
    };
    let chosen = choose(host.dns.as_ref(), &engine.dns, Vec::new());
    let servers = if chosen.is_empty() {
        usable(lists.servers, keep_loopback)
    } else {
        chosen
    };
    let mut search = choose(host.dns_search.as_ref(), &engine.dns_search, lists.search);
    // `--dns-search .` asks for no search domain at all.
    if search == ["."] {
        search.clear();
    }
    let options = choose(
        host.dns_options.as_ref(),
        &engine.dns_options,
        lists.options,
    );
    let mut text = String::new();
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

fn usable(servers: Vec<String>, keep_loopback: bool) -> Vec<String> {
    if keep_loopback {
        return servers;
    }
    let reachable: Vec<String> = servers
        .into_iter()
        .filter(|server| {
            let address = server.split('%').next().unwrap_or(server);
            !address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
        })
        .collect();
    if reachable.is_empty() {
        FALLBACK.map(str::to_owned).into()
    } else {
        reachable
    }
}

#[derive(Default)]
struct Lists {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Lists {
    fn parse(text: &str) -> Lists {
        let mut lists = Lists::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let rest = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => lists.servers.extend(rest.take(1)),
                Some("search" | "domain") => lists.search = rest.collect(),
                Some("options") => lists.options.extend(rest),
                _ => {}
            }
        }
        lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_name_servers_are_left_out() {
        let engine = EngineConfig::new("/d".into(), "/e".into(), "/b".into());
        let host = HostConfig::default();
        let text = "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a b\noptions edns0\n";
        let expected = "nameserver 10.0.0.1\nsearch a b\noptions edns0\n";
        assert_eq!(resolv_conf(text, &host, &engine, false), expected);
        assert_eq!(
            resolv_conf("nameserver ::1\n", &host, &engine, false),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
        );
        assert_eq!(
            resolv_conf("nameserver ::1\n", &host, &engine, true),
            "nameserver ::1\n"
        );
    }

    #[test]
    fn the_users_choice_wins() {
        let mut engine = EngineConfig::new("/d".into(), "/e".into(), "/b".into());
        engine.dns = vec!["9.9.9.9".into()];
        let text = "nameserver 10.0.0.1\nsearch a\n";
        let host = HostConfig {
            dns_search: Some(vec![".".into()]),
            ..HostConfig::default()
        };
        assert_eq!(
            resolv_conf(text, &host, &engine, false),
            "nameserver 9.9.9.9\n"
        );
        let host = HostConfig {
            dns: Some(vec!["1.1.1.1".into()]),
            ..HostConfig::default()
        };
        assert_eq!(
            resolv_conf(text, &host, &engine, false),
            "nameserver 1.1.1.1\nsearch a\n"
        );
    }

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
        );
        let tail: Vec<&str> = text.lines().skip(6).collect();
        assert_eq!(
            tail,
            [
                "10.1.1.1\tdb",
                "172.17.0.1\tgw",
                "::1\tsix",
                "172.17.0.2\tweb.example.org web"
            ]
        );
    }
}
