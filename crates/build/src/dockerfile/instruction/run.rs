//! `RUN`.

use super::super::arguments::Arguments;
use super::super::error::Problem;
use super::super::expand::quote;
use super::super::flags::{Flags, Kind};
use super::super::node::Node;
use super::command::CommandLine;
use super::mount;

/// A command to run while building.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: CommandLine,
    /// `--mount` as written; [`super::Mount::parse`] reads one once variables are known.
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// Flags that were given, in order.
    pub flags: Vec<&'static str>,
}

/// Network of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// That of the build.
    #[default]
    Default,
    /// None but loopback.
    None,
    /// The host's; needs the entitlement `network.host`.
    Host,
}

/// Confinement of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// As any container.
    #[default]
    Sandbox,
    /// Privileged; needs the entitlement `security.insecure`.
    Insecure,
}

const FLAGS: [(&str, Kind); 3] = [
    ("mount", Kind::Many),
    ("network", Kind::One),
    ("security", Kind::One),
];

pub(crate) fn parse(node: &Node) -> Result<Run, Problem> {
    let flags = Flags::parse(&node.flags, &FLAGS)?;
    let mounts = flags.values("mount");
    mounts.iter().try_for_each(|text| mount::check(text))?;
    let network = match flags.text("network").as_str() {
        "" if !flags.has("network") => Network::Default,
        "default" => Network::Default,
        "none" => Network::None,
        "host" => Network::Host,
        other => return Err(Problem::NetworkMode(quote(other))),
    };
    let security = match flags.text("security").as_str() {
        "" if !flags.has("security") => Security::Sandbox,
        "sandbox" => Security::Sandbox,
        "insecure" => Security::Insecure,
        other => return Err(Problem::Security(quote(other))),
    };
    Ok(Run {
        command: command(node),
        mounts,
        network,
        security,
        flags: flags.names(),
    })
}

/// The command line of `RUN`, `CMD` or `ENTRYPOINT`.
pub(crate) fn command(node: &Node) -> CommandLine {
    let (words, shell) = match &node.arguments {
        Arguments::Json(words) => (words.clone(), false),
        Arguments::Text(text) => (vec![text.clone()], true),
        _ => (Vec::new(), true),
    };
    CommandLine {
        words,
        shell,
        heredocs: node.heredocs.clone(),
    }
}
