//! Settings of registries: what the client is told, and what `info` shows.

use std::collections::BTreeMap;

use wharf_api::system::{IndexConfig, RegistryConfig};
use wharf_api::version;
use wharf_distribution::Config;
use wharf_distribution::config::{Mirror, validate_insecure};

use crate::LiveConfig;

/// Docker's registry.
const HUB: &str = "docker.io";

/// Settings of the client of registries; an error in Docker's words.
pub(crate) fn config(live: &LiveConfig) -> Result<Config, String> {
    let mirrors = live.registry_mirrors.iter().map(|text| Mirror::parse(text));
    live.insecure_registries
        .iter()
        .try_for_each(|text| validate_insecure(text))?;
    let [http_proxy, https_proxy, no_proxy] = live.proxies.clone();
    Ok(Config {
        insecure: live.insecure_registries.clone(),
        mirrors: mirrors.collect::<Result<_, _>>()?,
        http_proxy,
        https_proxy,
        no_proxy,
        attempts: u32::try_from(live.max_download_attempts).unwrap_or(1),
        user_agent: format!(
            "docker/{} wharf/{}",
            version::ENGINE,
            env!("CARGO_PKG_VERSION")
        ),
        ..Config::default()
    })
}

/// `RegistryConfig` of `info` (moby `daemon/pkg/registry` `newServiceConfig`).
pub(crate) fn shown(live: &LiveConfig) -> RegistryConfig {
    let mirrors: Vec<Mirror> = live
        .registry_mirrors
        .iter()
        .filter_map(|text| Mirror::parse(text).ok())
        .collect();
    let of = |name: &str| -> Vec<String> {
        let own = mirrors.iter().filter(|mirror| mirror.registry == name);
        own.map(|mirror| mirror.url.to_string()).collect()
    };
    let index = |name: &str, secure: bool| IndexConfig {
        name: name.to_owned(),
        mirrors: of(name),
        secure,
        official: name == HUB,
    };
    let mut cidrs: Vec<String> = vec!["::1/128".into(), "127.0.0.0/8".into()];
    let mut indexes: BTreeMap<String, IndexConfig> = [(HUB.to_owned(), index(HUB, true))].into();
    for entry in &live.insecure_registries {
        if entry.parse::<ipnet::IpNet>().is_ok() {
            cidrs.push(entry.clone());
        } else {
            indexes.insert(entry.clone(), index(entry, false));
        }
    }
    RegistryConfig {
        insecure_registry_cidrs: cidrs,
        index_configs: indexes,
        mirrors: Some(of(HUB)).filter(|mirrors| !mirrors.is_empty()),
    }
}
