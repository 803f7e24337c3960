//! SELinux labels of containers (`--selinux-enabled`, `--security-opt label=…`, `:z` and `:Z`), as go-selinux gives them.
//!
//! A container's processes get one label, its files another, and both the same pair of categories, which no other container has.
//! On a host without SELinux nothing is labelled and what is asked for has no effect, as under Docker.

mod context;
mod relabel;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use wharf_api::container::HostConfig;

use crate::container::files::Files;
use crate::container::record::Record;
use crate::{Engine, Error, Result};
pub use context::Context;
use context::Defaults;
pub use relabel::{is_shared, needs_relabel, relabel};

/// Where the host's policy says how containers are labelled.
const CONFIG: &str = "/etc/selinux/config";

/// Labels of one container; empty where there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub mount: String,
}

/// Labels that the policy gives to containers, where SELinux is to be used.
#[derive(Debug, Clone)]
pub struct Policy(Defaults);

impl Policy {
    /// Reads the host's policy. `None`: there is none, and so there are no labels.
    pub fn load() -> Option<Policy> {
        let config = fs::read_to_string(CONFIG).unwrap_or_default();
        let kind = config
            .lines()
            .find_map(|line| line.trim().strip_prefix("SELINUXTYPE="))
            .unwrap_or("targeted")
            .trim();
        let contexts = Path::new("/etc/selinux")
            .join(kind)
            .join("contexts/lxc_contexts");
        Defaults::parse(&fs::read_to_string(contexts).ok()?).map(Policy)
    }

    /// The labels of a new container. `taken`: levels of all others.
    pub fn labels(&self, options: &[&str], taken: &HashSet<String>) -> Result<Labels> {
        let level = context::free_level(taken, &mut random_categories)
            .ok_or_else(|| Error::internal("no SELinux categories are left for the container"))?;
        self.0.labels(options, &level).map_err(Error::invalid)
    }
}

/// Two of the 1024 categories.
fn random_categories() -> (u16, u16) {
    let mut bytes = [0; 4];
    // Without chance the search goes through them in order.
    let _ = getrandom::fill(&mut bytes);
    let number = |high: u8, low: u8| u16::from_be_bytes([high, low]) % context::CATEGORIES;
    (number(bytes[0], bytes[1]), number(bytes[2], bytes[3]))
}

/// Options `label=…` without the key.
pub fn options(host: &HostConfig) -> Vec<&str> {
    let all = host.security_opt.iter().flatten();
    all.filter_map(|option| {
        option
            .strip_prefix("label=")
            .or_else(|| option.strip_prefix("label:"))
    })
    .collect()
}

impl Engine {
    /// What a request says about labels by other means (moby `generateSecurityOpt`): who shares the host's processes or memory is not
    /// labelled, who shares another container's has its label.
    pub(crate) fn imply_labels(&self, host: &mut HostConfig) -> Result<()> {
        if host.security_opt.is_some() {
            return Ok(());
        }
        if host.ipc_mode == "host" || host.pid_mode == "host" || host.privileged {
            host.security_opt = Some(vec!["label=disable".into()]);
            return Ok(());
        }
        let label_of = |mode: &str| -> Option<String> {
            let owner = self.containers.get(mode.strip_prefix("container:")?).ok()?;
            Some(owner.record().process_label.clone()).filter(|label| !label.is_empty())
        };
        let (ipc, pid) = (label_of(&host.ipc_mode), label_of(&host.pid_mode));
        let label = match (ipc, pid) {
            (Some(ipc), Some(pid)) if ipc != pid => {
                return Err(Error::invalid(
                    "--ipc and --pid containers SELinux labels aren't the same",
                ));
            }
            (ipc, pid) => ipc.or(pid),
        };
        host.security_opt = label
            .and_then(|label| Context::parse(&label))
            .map(|context| context.as_options());
        Ok(())
    }

    /// The labels of a new container.
    pub(crate) fn new_labels(&self, host: &HostConfig) -> Result<Labels> {
        let Some(policy) = &self.selinux else {
            return Ok(Labels::default());
        };
        let taken = self.containers.all();
        let taken = taken
            .iter()
            .filter_map(|container| Context::parse(&container.record().mount_label))
            .map(|context| context.level)
            .collect();
        policy.labels(&options(host), &taken)
    }

    /// Gives the sources of mounts with `z` or `Z` the container's label.
    pub(crate) fn label_sources(&self, record: &Record) -> Result<()> {
        if self.selinux.is_none() || record.mount_label.is_empty() {
            return Ok(());
        }
        let files = Files::in_dir(&self.files_dir(record));
        for file in [&files.hosts, &files.hostname, &files.resolv_conf] {
            let is_shared = record.host_config.network_mode.starts_with("container:");
            relabel(file, &record.mount_label, is_shared)?;
        }
        let wanted = record.mounts.iter().filter(|mount| {
            matches!(mount.kind.as_str(), "bind" | "volume") && needs_relabel(&mount.mode)
        });
        for mount in wanted {
            relabel(
                Path::new(&mount.source),
                &record.mount_label,
                is_shared(&mount.mode),
            )
            .map_err(|error| {
                error.context(format!(
                    "error setting label on mount source '{}'",
                    mount.source
                ))
            })?;
        }
        Ok(())
    }
}
