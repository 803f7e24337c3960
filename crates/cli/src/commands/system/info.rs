//! `info`

use serde_json::{Value, json};
use wharf_api::system::Info;

use crate::client::ClientError;
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::size::{as_float, binary};
use wharf_template::{Data, Template};

/// `info`
///
/// # Errors
/// No daemon answers; what is known of the client is printed all the same.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let server: Result<Info, ClientError> = session.client.json(Request::get("/info"));
    let format = match matches.text_or_empty("format") {
        "json" => "{{json .}}",
        format => format,
    };
    if !format.is_empty() {
        return formatted(session, format, server);
    }
    let mut out = format!(
        "Client: Wharf\n Version:    {}\n Context:    {}\n Debug Mode: {}\n\nServer:\n",
        env!("CARGO_PKG_VERSION"),
        session.context,
        session.debug
    );
    match &server {
        Ok(info) => out.push_str(&Lines::of(info)),
        Err(_) => {
            print::out(&out)?;
            return server
                .map(drop)
                .map_err(|error| Failure::new(error.to_string()));
        }
    }
    print::out(&out)?;
    if let Ok(info) = &server {
        for warning in info.warnings.iter().flatten() {
            print::error_line(warning);
        }
    }
    Ok(())
}

fn formatted(
    session: &Session,
    format: &str,
    server: Result<Info, ClientError>,
) -> Result<(), Failure> {
    let template = Template::parse(format)
        .map_err(|error| Failure::with_code(64, format!("template parsing error: {error}")))?;
    let client = json!({
        "Debug": session.debug, "Context": session.context, "Plugins": [], "Warnings": null,
        "Version": env!("CARGO_PKG_VERSION"), "Platform": {"Name": "Wharf"},
    });
    let (mut value, errors) = match server {
        Ok(info) => (
            serde_json::to_value(&info).map_err(|error| Failure::new(error.to_string()))?,
            None,
        ),
        Err(error) => (json!({}), Some(error)),
    };
    if let Value::Object(map) = &mut value {
        if let Some(error) = &errors {
            map.insert("ServerErrors".into(), json!([error.to_string()]));
        }
        map.insert("ClientInfo".into(), client);
        if let Some(config) = map.get_mut("RegistryConfig") {
            sort_keys(config);
        }
    }
    match template.render(&Data::row(&value, "system.dockerInfo")) {
        Ok(text) => print::out_line(&text)?,
        Err(error) => {
            print::out_line("")?;
            return Err(Failure::new(error.to_string()));
        }
    }
    errors.map_or(Ok(()), |error| Err(error.into()))
}

/// Docker's client writes this part of the answer as maps, and Go writes maps with sorted keys.
fn sort_keys(value: &mut Value) {
    if let Value::Object(map) = value {
        map.sort_keys();
        map.values_mut().for_each(sort_keys);
    }
}

/// The server's part, a line at a time.
struct Lines(String);

impl Lines {
    fn of(info: &Info) -> String {
        let mut lines = Lines(String::new());
        lines.counts(info);
        lines.plugins(info);
        lines.runtimes(info);
        lines.host(info);
        lines.rest(info);
        lines.0
    }

    fn line(&mut self, depth: usize, name: &str, value: impl std::fmt::Display) {
        self.0
            .push_str(&format!("{}{name}: {value}\n", " ".repeat(depth)));
    }

    fn line_if(&mut self, depth: usize, name: &str, value: &str) {
        if !value.is_empty() {
            self.line(depth, name, value);
        }
    }

    fn counts(&mut self, info: &Info) {
        self.line(1, "Containers", info.containers);
        self.line(2, "Running", info.containers_running);
        self.line(2, "Paused", info.containers_paused);
        self.line(2, "Stopped", info.containers_stopped);
        self.line(1, "Images", info.images);
        self.line_if(1, "Server Version", &info.server_version);
        self.line_if(1, "Storage Driver", &info.driver);
        for [name, value] in &info.driver_status {
            self.line(2, name, value);
        }
        self.line_if(1, "Logging Driver", &info.logging_driver);
        self.line_if(1, "Cgroup Driver", &info.cgroup_driver);
        self.line_if(1, "Cgroup Version", &info.cgroup_version);
    }

    fn plugins(&mut self, info: &Info) {
        let words = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().join(" ");
        self.0.push_str(" Plugins:\n");
        self.line(2, "Volume", words(&info.plugins.volume));
        self.line(2, "Network", words(&info.plugins.network));
        if info
            .plugins
            .authorization
            .as_ref()
            .is_some_and(|list| !list.is_empty())
        {
            self.line(2, "Authorization", words(&info.plugins.authorization));
        }
        self.line(2, "Log", words(&info.plugins.log));
        if !info.cdi_spec_dirs.is_empty() {
            self.0.push_str(" CDI spec directories:\n");
            for directory in &info.cdi_spec_dirs {
                self.0.push_str(&format!("  {directory}\n"));
            }
        }
        self.line(1, "Swarm", &info.swarm.local_node_state);
    }

    fn runtimes(&mut self, info: &Info) {
        if !info.runtimes.is_empty() {
            let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
            self.line(1, "Runtimes", names.join(" "));
            self.line(1, "Default Runtime", &info.default_runtime);
        }
        self.line(1, "Init Binary", &info.init_binary);
        self.line(1, "containerd version", &info.containerd_commit.id);
        self.line(1, "runc version", &info.runc_commit.id);
        self.line(1, "init version", &info.init_commit.id);
        if !info.security_options.is_empty() {
            self.0.push_str(" Security Options:\n");
            for option in &info.security_options {
                self.security_option(option);
            }
        }
    }

    /// `name=seccomp,profile=builtin` is a name, and options below it.
    fn security_option(&mut self, option: &str) {
        for (i, pair) in option.split(',').enumerate() {
            let (key, value) = pair.split_once('=').unwrap_or(("", pair));
            if i == 0 && (key == "name" || key.is_empty()) {
                self.0.push_str(&format!("  {value}\n"));
            } else {
                let mut chars = key.chars();
                let title: String = chars
                    .next()
                    .into_iter()
                    .flat_map(char::to_uppercase)
                    .chain(chars)
                    .collect();
                self.line(3, &title, value);
            }
        }
    }

    fn host(&mut self, info: &Info) {
        self.line_if(1, "Kernel Version", &info.kernel_version);
        self.line_if(1, "Operating System", &info.operating_system);
        self.line_if(1, "OSType", &info.os_type);
        self.line_if(1, "Architecture", &info.architecture);
        self.line(1, "CPUs", info.n_cpu);
        self.line(1, "Total Memory", binary(as_float(info.mem_total)));
        self.line_if(1, "Name", &info.name);
        self.line_if(1, "ID", &info.id);
        self.line(1, "Docker Root Dir", &info.docker_root_dir);
        self.line(1, "Debug Mode", info.debug);
        if info.debug {
            self.line(2, "File Descriptors", info.n_fd);
            self.line(2, "Goroutines", info.n_goroutines);
            self.line(2, "System Time", &info.system_time);
            self.line(2, "EventsListeners", info.n_events_listener);
        }
    }

    fn rest(&mut self, info: &Info) {
        self.line_if(1, "HTTP Proxy", &info.http_proxy);
        self.line_if(1, "HTTPS Proxy", &info.https_proxy);
        self.line_if(1, "No Proxy", &info.no_proxy);
        if !info.labels.is_empty() {
            self.0.push_str(" Labels:\n");
            for label in &info.labels {
                self.0.push_str(&format!("  {label}\n"));
            }
        }
        self.line(1, "Experimental", info.experimental_build);
        if let Some(registry) = &info.registry_config {
            self.0.push_str(" Insecure Registries:\n");
            for index in registry
                .index_configs
                .values()
                .filter(|index| !index.secure)
            {
                self.0.push_str(&format!("  {}\n", index.name));
            }
            for network in &registry.insecure_registry_cidrs {
                self.0.push_str(&format!("  {network}\n"));
            }
            let mirrors = registry.mirrors.as_deref().unwrap_or_default();
            if !mirrors.is_empty() {
                self.0.push_str(" Registry Mirrors:\n");
                for mirror in mirrors {
                    self.0.push_str(&format!("  {mirror}\n"));
                }
            }
        }
        self.line(1, "Live Restore Enabled", info.live_restore_enabled);
        self.line_if(1, "Product License", &info.product_license);
        if !info.default_address_pools.is_empty() {
            self.0.push_str(" Default Address Pools:\n");
            for pool in &info.default_address_pools {
                self.0
                    .push_str(&format!("   Base: {}, Size: {}\n", pool.base, pool.size));
            }
        }
        if let Some(backend) = &info.firewall_backend {
            self.line(1, "Firewall Backend", &backend.driver);
            for [name, value] in &backend.info {
                self.line(2, name, value);
            }
        }
        self.0.push('\n');
    }
}
