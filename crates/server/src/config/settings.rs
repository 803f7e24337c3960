//! The merged configuration as a plain value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use wharf_api::container::Ulimit;
use wharf_api::gojson;
use wharf_api::units::ram_in_bytes;
use wharf_engine::StoreSettings;

use super::builder::Builder;

/// Every option that is obeyed. Defaults are dockerd's, paths ours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[allow(missing_docs)] // named as the options are; the table has their help
pub struct Settings {
    pub hosts: Vec<String>,
    pub group: String,
    pub pidfile: String,
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub storage_driver: String,
    pub storage_opts: Vec<String>,
    pub exec_opts: Vec<String>,
    pub labels: Vec<String>,

    pub debug: bool,
    pub log_level: String,
    pub log_format: String,
    pub metrics_addr: String,
    /// `authorization-plugins`.
    pub authorization_plugins: Vec<String>,
    /// `authorization-policy`; empty for none.
    pub authorization_policy: String,
    pub image_gc_max_age: String,
    #[serde(deserialize_with = "size")]
    pub image_gc_max_size: i64,
    #[serde(deserialize_with = "size")]
    pub build_cache_max_size: i64,
    pub builder: Builder,
    pub image_keep_compressed: bool,
    pub image_max_expansion: u64,
    pub raw_logs: bool,
    pub experimental: bool,

    pub tls: Option<bool>,
    pub tlsverify: Option<bool>,
    pub tlscacert: Option<PathBuf>,
    pub tlscert: Option<PathBuf>,
    pub tlskey: Option<PathBuf>,

    pub bip: String,
    pub bip6: String,
    pub ipv6: bool,
    pub fixed_cidr_v6: String,
    pub default_gateway: String,
    pub default_gateway_v6: String,
    pub default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    pub firewall_backend: String,
    pub allow_direct_routing: bool,
    pub ip_forward_no_drop: bool,
    pub ip6tables: bool,
    pub bridge: String,
    pub fixed_cidr: String,
    pub mtu: i64,
    pub icc: bool,
    pub ip: String,
    pub ip_masq: bool,
    pub ip_forward: bool,
    pub iptables: bool,
    pub default_address_pools: Vec<Pool>,
    pub userland_proxy: bool,
    pub publish_default_address: String,
    pub resolv_conf: String,
    pub dns: Vec<String>,
    pub dns_opts: Vec<String>,
    pub dns_search: Vec<String>,
    pub host_gateway_ips: Vec<String>,
    pub host_gateway_ip: String,

    pub cgroup_parent: String,
    pub default_cgroupns_mode: String,
    pub default_ipc_mode: String,
    pub default_runtime: String,
    pub runtimes: BTreeMap<String, Runtime>,
    pub features: BTreeMap<String, bool>,
    #[serde(deserialize_with = "size")]
    pub default_shm_size: i64,
    pub default_stop_timeout: i64,
    pub default_ulimits: BTreeMap<String, Ulimit>,
    pub init: bool,
    pub no_new_privileges: bool,
    pub selinux_enabled: bool,
    pub seccomp_profile: String,
    pub userns_remap: String,
    pub cdi_spec_dirs: Vec<String>,
    pub cpu_rt_period: i64,
    pub cpu_rt_runtime: i64,
    pub live_restore: bool,
    pub log_driver: String,
    pub log_opts: BTreeMap<String, String>,

    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    pub max_concurrent_downloads: i64,
    pub max_concurrent_uploads: i64,
    pub max_download_attempts: i64,
    /// Of the database that networks of a swarm share: checked, and nothing more.
    pub network_diagnostic_port: i64,
    pub shutdown_timeout: i64,
}

/// A range that subnets of new networks are cut from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// CIDR.
    pub base: String,
    /// Prefix length of the subnets.
    pub size: u8,
}

/// An OCI runtime, as the file describes it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// Program.
    pub path: String,
    /// Its first arguments.
    #[serde(rename = "runtimeArgs")]
    pub args: Vec<String>,
    /// A containerd shim; there are none here.
    #[serde(rename = "runtimeType")]
    pub kind: String,
    /// Of such a shim.
    pub options: Map<String, Value>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            hosts: Vec::new(),
            group: "docker".into(),
            pidfile: "/run/wharf/wharf.pid".into(),
            data_root: "/var/lib/wharf".into(),
            exec_root: "/run/wharf".into(),
            storage_driver: String::new(),
            storage_opts: Vec::new(),
            exec_opts: Vec::new(),
            labels: Vec::new(),
            debug: false,
            log_level: "info".into(),
            log_format: "text".into(),
            metrics_addr: String::new(),
            authorization_plugins: Vec::new(),
            authorization_policy: String::new(),
            image_gc_max_age: String::new(),
            image_gc_max_size: 0,
            build_cache_max_size: 0,
            builder: Builder::default(),
            image_keep_compressed: StoreSettings::default().keep_compressed,
            image_max_expansion: StoreSettings::default().max_expansion,
            raw_logs: false,
            experimental: false,
            tls: None,
            tlsverify: None,
            tlscacert: None,
            tlscert: None,
            tlskey: None,
            bip: String::new(),
            bip6: String::new(),
            ipv6: false,
            fixed_cidr_v6: String::new(),
            default_gateway: String::new(),
            default_gateway_v6: String::new(),
            default_network_opts: BTreeMap::new(),
            firewall_backend: String::new(),
            allow_direct_routing: false,
            ip_forward_no_drop: false,
            ip6tables: true,
            bridge: String::new(),
            fixed_cidr: String::new(),
            mtu: 0,
            icc: true,
            ip: String::new(),
            ip_masq: true,
            ip_forward: true,
            iptables: true,
            default_address_pools: Vec::new(),
            userland_proxy: true,
            publish_default_address: String::new(),
            resolv_conf: String::new(),
            dns: Vec::new(),
            dns_opts: Vec::new(),
            dns_search: Vec::new(),
            host_gateway_ips: Vec::new(),
            host_gateway_ip: String::new(),
            cgroup_parent: String::new(),
            default_cgroupns_mode: String::new(),
            default_ipc_mode: "private".into(),
            default_runtime: "runc".into(),
            runtimes: BTreeMap::new(),
            features: BTreeMap::new(),
            default_shm_size: 64 << 20,
            default_stop_timeout: 10,
            default_ulimits: BTreeMap::new(),
            init: false,
            no_new_privileges: false,
            selinux_enabled: false,
            seccomp_profile: String::new(),
            userns_remap: String::new(),
            cdi_spec_dirs: Vec::new(),
            cpu_rt_period: 0,
            cpu_rt_runtime: 0,
            live_restore: false,
            log_driver: "json-file".into(),
            log_opts: BTreeMap::new(),
            http_proxy: String::new(),
            https_proxy: String::new(),
            no_proxy: String::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            network_diagnostic_port: 0,
            shutdown_timeout: 15,
        }
    }
}

/// Names that stand for this engine's own runtime.
const OWN_RUNTIMES: [&str; 3] = ["runc", "io.containerd.runc.v2", "wharf"];

impl Settings {
    /// Makes the value from merged options, all of known names.
    pub fn from_options(options: Map<String, Value>) -> Result<Settings, String> {
        gojson::from_value(Value::Object(options)).map_err(|e| e.to_string())
    }

    /// What cannot be wrong with one option alone, in dockerd's words where it has them.
    pub fn validate(&self) -> Result<(), String> {
        one_of(
            "log level",
            &self.log_level,
            &[
                "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic",
            ],
        )
        .map_err(|_| format!("invalid logging level: {}", self.log_level))?;
        one_of("log format", &self.log_format, &["text", "json"])
            .map_err(|_| format!("invalid log format: {}", self.log_format))?;
        self.validate_runtimes()?;
        one_of(
            "firewall backend",
            &self.firewall_backend,
            &["", "auto", "iptables", "nftables"],
        )
        .map_err(|_| format!("invalid firewall-backend {:?}", self.firewall_backend))?;
        one_of(
            "ipc mode",
            &self.default_ipc_mode,
            &["private", "shareable"],
        )
        .map_err(|_| {
            format!(
                "IPC mode \"{}\" is not supported as default value",
                self.default_ipc_mode
            )
        })?;
        one_of(
            "cgroup namespace mode",
            &self.default_cgroupns_mode,
            &["", "private", "host"],
        )
        .map_err(|_| {
            format!(
                "default cgroup namespace mode ({}) is invalid; use \"host\" or \"private\"",
                self.default_cgroupns_mode
            )
        })?;
        for (what, value) in [
            ("default MTU", self.mtu),
            ("max concurrent downloads", self.max_concurrent_downloads),
            ("max concurrent uploads", self.max_concurrent_uploads),
            ("max download attempts", self.max_download_attempts),
            ("default stop timeout", self.default_stop_timeout),
        ] {
            if value < 0 {
                return Err(format!("invalid {what}: {value}"));
            }
        }
        if !(0..=65535).contains(&self.network_diagnostic_port) {
            return Err(format!(
                "invalid network-diagnostic-port ({}): value must be between 0 and 65535",
                self.network_diagnostic_port
            ));
        }
        if !self.bridge.is_empty() && self.bridge != "none" && !self.bip.is_empty() {
            return Err(
                "you specified -b & --bip, mutually exclusive options. Please specify only one"
                    .to_owned(),
            );
        }
        if !self.icc && !self.iptables {
            return Err("you specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true".to_owned());
        }
        for (option, text) in [
            ("ip", &self.ip),
            ("publish-default-address", &self.publish_default_address),
        ] {
            if !text.is_empty() && text.parse::<std::net::IpAddr>().is_err() {
                return Err(format!(
                    "invalid argument \"{text}\" for \"--{option}\" flag: failed to parse \"{text}\" as an IP address"
                ));
            }
        }
        self.validate_lists()
    }

    fn validate_runtimes(&self) -> Result<(), String> {
        for (name, runtime) in &self.runtimes {
            if OWN_RUNTIMES.contains(&name.as_str()) {
                return Err(format!("runtime name '{name}' is reserved"));
            }
            match (runtime.path.as_str(), runtime.kind.as_str()) {
                ("", "") => {
                    return Err(format!(
                        "runtime {name}: either a runtimeType or a path must be configured"
                    ));
                }
                ("", kind) => {
                    return Err(format!(
                        "runtime {name}: runtimeType {kind} is not supported by this engine; configure the path of an OCI runtime"
                    ));
                }
                (_, "") if runtime.options.is_empty() => {}
                (_, "") => {
                    return Err(format!(
                        "runtime {name}: options cannot be used with a path runtime"
                    ));
                }
                _ => {
                    return Err(format!(
                        "runtime {name}: cannot configure both path and runtimeType for the same runtime"
                    ));
                }
            }
        }
        let default = &self.default_runtime;
        if default.is_empty()
            || OWN_RUNTIMES.contains(&default.as_str())
            || self.runtimes.contains_key(default)
        {
            return Ok(());
        }
        Err(format!(
            "specified default runtime '{default}' does not exist"
        ))
    }

    /// `image-gc-max-age`; `None` for no limit.
    pub fn image_age(&self) -> Result<Option<std::time::Duration>, String> {
        if self.image_gc_max_age.is_empty() {
            return Ok(None);
        }
        wharf_api::time::parse_go_duration(&self.image_gc_max_age)
            .and_then(|nanos| u64::try_from(nanos).ok())
            .map(|nanos| Some(std::time::Duration::from_nanos(nanos)))
            .ok_or_else(|| format!("invalid image-gc-max-age: {}", self.image_gc_max_age))
    }

    fn validate_lists(&self) -> Result<(), String> {
        self.image_age()?;
        self.build_cache_limit()?;
        if let Some(label) = self.labels.iter().find(|l| !l.contains('=')) {
            return Err(format!("bad attribute format: {label}"));
        }
        if let Some(address) = self.dns.iter().find(|a| a.parse::<IpAddr>().is_err()) {
            return Err(format!("{address} is not an ip address"));
        }
        for opt in &self.exec_opts {
            match opt.split_once('=') {
                Some(("native.cgroupdriver", "cgroupfs" | "systemd")) => {}
                Some(("native.cgroupdriver", driver)) => {
                    return Err(format!("native.cgroupdriver option {driver} not supported"));
                }
                _ => return Err(format!("invalid exec-opt: {opt}")),
            }
        }
        let parent = &self.cgroup_parent;
        let is_slice = parent.is_empty() || wharf_engine::config::is_slice(parent);
        if self.cgroup_driver() == "systemd" && !is_slice {
            return Err(
                "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\""
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Who makes control groups: `cgroupfs` (we do) or `systemd`. The last word counts.
    #[must_use]
    pub fn cgroup_driver(&self) -> &str {
        let mut options = self.exec_opts.iter().rev();
        options
            .find_map(|opt| opt.strip_prefix("native.cgroupdriver="))
            .unwrap_or("cgroupfs")
    }

    /// Whether connections over TCP are encrypted, and whether clients must show a certificate: `--tlsverify`, given
    /// either way, turns TLS on, and TLS without a word about verification verifies.
    #[must_use]
    pub fn tls_mode(&self) -> Option<bool> {
        let on = self.tlsverify.is_some() || self.tls == Some(true);
        on.then(|| self.tlsverify.unwrap_or(true))
    }
}

fn one_of(what: &str, value: &str, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&value) {
        Ok(())
    } else {
        Err(format!("unknown {what}: {value}"))
    }
}

/// Bytes as a number or as text with a unit of 1024 (go-units `RAMInBytes`).
fn size<'de, D: Deserializer<'de>>(de: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(i64),
        Text(String),
    }
    match Size::deserialize(de)? {
        Size::Bytes(n) => Ok(n),
        Size::Text(text) => ram_in_bytes(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("invalid size: '{text}'"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(value: &Value) -> Result<Settings, String> {
        let settings = Settings::from_options(value.as_object().cloned().expect("an object"))?;
        settings.validate().map(|()| settings)
    }

    #[test]
    fn options_become_fields() {
        let s = settings(&json!({"hosts": ["fd://"], "default-shm-size": "1g", "mtu": 1400, "log-opts": {"a": "b"},
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 2, "Soft": 1}}, "iptables": false}))
        .expect("valid");
        assert_eq!(
            (s.hosts, s.default_shm_size, s.mtu, s.iptables, s.icc),
            (vec!["fd://".to_owned()], 1 << 30, 1400, false, true)
        );
        assert_eq!(s.default_ulimits["nofile"].hard, 2);
        assert_eq!(s.log_opts["a"], "b");
    }

    #[test]
    fn bad_values_are_refused() {
        for (value, message) in [
            (json!({"log-level": "loud"}), "invalid logging level: loud"),
            (
                json!({"max-concurrent-downloads": -1}),
                "invalid max concurrent downloads: -1",
            ),
            (
                json!({"network-diagnostic-port": 70000}),
                "invalid network-diagnostic-port (70000): value must be between 0 and 65535",
            ),
            (json!({"labels": ["x"]}), "bad attribute format: x"),
            (json!({"dns": ["x"]}), "x is not an ip address"),
            (
                json!({"runtimes": {"runc": {"path": "x"}}}),
                "runtime name 'runc' is reserved",
            ),
            (
                json!({"runtimes": {"x": {}}}),
                "runtime x: either a runtimeType or a path must be configured",
            ),
            (
                json!({"default-runtime": "kata"}),
                "specified default runtime 'kata' does not exist",
            ),
        ] {
            assert_eq!(settings(&value).expect_err("refused"), message);
        }
        assert!(settings(&json!({"mtu": "big"})).is_err());
    }

    #[test]
    fn tlsverify_in_either_sense_turns_tls_on() {
        for (value, expected) in [
            (json!({}), None),
            (json!({"tls": false}), None),
            (json!({"tls": true}), Some(true)),
            (json!({"tls": true, "tlsverify": false}), Some(false)),
            (json!({"tlsverify": true}), Some(true)),
            (json!({"tlsverify": false}), Some(false)),
        ] {
            assert_eq!(
                settings(&value).expect("valid").tls_mode(),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, expected) in [
            ("64m", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("10", 10),
            ("2kb", 2048),
        ] {
            assert_eq!(ram_in_bytes(text), Some(expected), "{text}");
        }
        assert_eq!(ram_in_bytes("many"), None);
    }
}
