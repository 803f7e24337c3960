//! User namespaces of containers: for all of them (`--userns-remap`), or ranges of ids of its own for one (`--userns auto`).
//!
//! Layers and volumes stay as they are on disk, whoever uses them: they are mounted with their ids mapped, so nothing is ever
//! re-owned, and a container can be started under another mapping. Binds are not mapped, as under Docker: what is the host's
//! stays the host's.
//!
//! Reading order: [`Mode`] (what is asked) → [`subid`] (whose ranges) → [`automatic`] (ranges of one's own) → the methods of [`Engine`].

pub mod automatic;
pub mod subid;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use wharf_api::container::HostConfig;
use wharf_runtime::plan::{IdRange, Mappings};

use crate::container::network;
use crate::container::record::Record;
use crate::{Engine, Error, Result};

/// `HostConfig.UsernsMode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// As the daemon is configured.
    Default,
    /// The host's.
    Host,
    /// A range of its own, of so many ids (extension).
    Auto(u32),
    /// Another container's, by id or name (extension).
    Container(String),
}

impl Mode {
    /// Reads the text. `None`: it means nothing.
    pub fn parse(text: &str) -> Option<Mode> {
        Some(match text {
            "" | "private" => Mode::Default,
            "host" => Mode::Host,
            "auto" => Mode::Auto(automatic::SIZE),
            other => match other.split_once(':')? {
                ("auto", size) => {
                    let size = size.strip_prefix("size=")?.parse().ok()?;
                    Mode::Auto(Some(size).filter(|size| (1..=automatic::MOST).contains(size))?)
                }
                ("container", name) if !name.is_empty() => Mode::Container(name.to_owned()),
                _ => return None,
            },
        })
    }

    /// The mode of a checked configuration.
    pub fn of(host: &HostConfig) -> Mode {
        Mode::parse(&host.userns_mode).unwrap_or(Mode::Default)
    }
}

/// What a container's processes see users by.
#[derive(Debug, Default)]
pub struct UserNamespace {
    /// Its ids; empty is the host's namespace.
    pub mappings: Mappings,
    /// Where to join it. Valid while `held` is.
    pub path: Option<PathBuf>,
    /// A network namespace that belongs to it, to be configured and joined.
    pub network: Option<OwnedFd>,
    #[expect(dead_code, reason = "open for as long as `path` is needed")]
    held: Option<OwnedFd>,
}

impl Engine {
    /// Whether a container will have ids of its own.
    pub(crate) fn is_remapped(&self, host: &HostConfig) -> bool {
        match Mode::of(host) {
            Mode::Host => false,
            Mode::Default => self.config.userns_remap.is_some(),
            Mode::Auto(_) | Mode::Container(_) => true,
        }
    }

    /// Makes or finds the namespace for a start.
    pub(crate) fn user_namespace(&self, record: &Record) -> Result<UserNamespace> {
        let host = &record.host_config;
        let mappings = match Mode::of(host) {
            Mode::Host => return Ok(UserNamespace::default()),
            Mode::Container(owner) => return self.join_user_namespace(&owner),
            Mode::Auto(size) => automatic::mappings(record.first_id, size),
            Mode::Default => match &self.config.userns_remap {
                Some(remap) => remap.mappings.clone(),
                None => return Ok(UserNamespace::default()),
            },
        };
        // Other namespaces can only be shared together with the one that they belong to (moby `WithNamespaces`).
        if let Some(owner) = shared_with(host) {
            return self.join_user_namespace(owner);
        }
        new(mappings).map_err(|error| Error::caused("create a user namespace", error))
    }

    fn join_user_namespace(&self, owner: &str) -> Result<UserNamespace> {
        let context = |error: Error| error.context("failed to join user namespace");
        let live = self.containers.get(owner).and_then(|c| c.running());
        let live = live.map_err(context)?;
        Ok(UserNamespace {
            mappings: live.plan.rootfs_mappings.clone(),
            path: Some(PathBuf::from(format!("/proc/{}/ns/user", live.pid))),
            ..UserNamespace::default()
        })
    }

    /// The namespace of a container that runs, as far as a plan needs it that is not launched any more.
    pub(crate) fn user_namespace_of(&self, record: &Record) -> UserNamespace {
        let mappings = match Mode::of(&record.host_config) {
            Mode::Auto(size) => automatic::mappings(record.first_id, size),
            Mode::Default => {
                let remap = self.config.userns_remap.as_ref();
                remap
                    .map(|remap| remap.mappings.clone())
                    .unwrap_or_default()
            }
            Mode::Host | Mode::Container(_) => Mappings::default(),
        };
        let path = self
            .is_remapped(&record.host_config)
            .then(|| PathBuf::from("/proc/self/ns/user"));
        UserNamespace {
            mappings,
            path,
            ..UserNamespace::default()
        }
    }
}

/// The container whose network, IPC or process namespace is shared.
fn shared_with(host: &HostConfig) -> Option<&str> {
    [&host.network_mode, &host.ipc_mode, &host.pid_mode]
        .into_iter()
        .find_map(|mode| mode.strip_prefix("container:"))
}

fn new(mappings: Mappings) -> std::io::Result<UserNamespace> {
    let uids = Mappings::text(&mappings.uids);
    let gids = Mappings::text(&mappings.gids);
    let made = wharf_sys::userns::make(&uids, &gids)?;
    // Through our own `/proc` entry: the spawner opens it while we hold the descriptor.
    let path = format!("/proc/{}/fd/{}", std::process::id(), made.user.as_raw_fd());
    Ok(UserNamespace {
        mappings,
        path: Some(path.into()),
        network: Some(made.network),
        held: Some(made.user),
    })
}

/// One range from 0 on.
fn one_range(host: u32, size: u32) -> Vec<IdRange> {
    vec![IdRange {
        container: 0,
        host,
        size,
    }]
}

/// What contradicts ids of one's own (moby `verifyPlatformContainerSettings`).
pub fn conflicts(host: &HostConfig) -> Result<()> {
    let refuse = |text: &str| Err(Error::invalid(text));
    if host.privileged {
        return refuse(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        );
    }
    if network::Mode::of(host) == network::Mode::Host {
        return refuse(
            "cannot share the host's network namespace when user namespaces are enabled",
        );
    }
    if !host.wharf.time_offsets.is_empty() {
        return refuse("clocks ahead of the host's are incompatible with user namespaces");
    }
    if host.pid_mode == "host" {
        return refuse("cannot share the host PID namespace when user namespaces are enabled");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read() {
        for (text, expected) in [
            ("", Some(Mode::Default)),
            ("host", Some(Mode::Host)),
            ("auto", Some(Mode::Auto(65_536))),
            ("auto:size=1000", Some(Mode::Auto(1000))),
            ("auto:size=0", None),
            ("container:x", Some(Mode::Container("x".into()))),
            ("container:", None),
            ("odd", None),
        ] {
            assert_eq!(Mode::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_the_hosts_cannot_be_had_with_other_ids() {
        let check = |edit: fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            edit(&mut host);
            conflicts(&host).is_ok()
        };
        assert!(check(|_| {}));
        assert!(!check(|host| host.privileged = true));
        assert!(!check(|host| host.network_mode = "host".into()));
        assert!(!check(|host| host.pid_mode = "host".into()));
    }
}
