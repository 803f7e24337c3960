//! Commands on manifests and lists of them. As in Docker's client, these talk to the registry themselves.

pub mod annotate;
pub mod create;
pub mod inspect;
mod local;
pub mod push;
mod remote;
pub mod rm;

use super::{Arity, Command, Flag, list, switch, text};
use crate::failure::Failure;
use wharf_spec::reference::Reference;

const INSECURE: Flag = switch("insecure", "Allow communication with an insecure registry");

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["manifest annotate"],
        usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
        about: "Add additional information to a local image manifest",
        arity: Arity::Exactly(2),
        flags: &[&[
            text("arch", "Set architecture"),
            text("os", "Set operating system"),
            list("os-features", "Set operating system feature").value("strings"),
            text("os-version", "Set operating system version"),
            text("variant", "Set architecture variant"),
        ]],
        stops_at_first_argument: false,
        run: annotate::run,
    },
    Command {
        paths: &["manifest create"],
        usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
        about: "Create a local manifest list for annotating and pushing to a registry",
        arity: Arity::AtLeast(2),
        flags: &[&[
            switch("amend", "Amend an existing manifest list").short('a'),
            INSECURE,
        ]],
        stops_at_first_argument: false,
        run: create::run,
    },
    Command {
        paths: &["manifest inspect"],
        usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        about: "Display an image manifest, or manifest list",
        arity: Arity::Between(1, 2),
        flags: &[&[
            INSECURE,
            switch(
                "verbose",
                "Output additional info including layers and platform",
            )
            .short('v'),
        ]],
        stops_at_first_argument: false,
        run: inspect::run,
    },
    Command {
        paths: &["manifest push"],
        usage: "[OPTIONS] MANIFEST_LIST",
        about: "Push a manifest list to a repository",
        arity: Arity::Exactly(1),
        flags: &[&[
            switch("insecure", "Allow push to an insecure registry"),
            switch("purge", "Remove the local manifest list after push").short('p'),
        ]],
        stops_at_first_argument: false,
        run: push::run,
    },
    Command {
        paths: &["manifest rm"],
        usage: "MANIFEST_LIST [MANIFEST_LIST...]",
        about: "Delete one or more manifest lists from local storage",
        arity: Arity::AtLeast(1),
        flags: &[],
        stops_at_first_argument: false,
        run: rm::run,
    },
];

fn name(text: &str) -> Result<Reference, Failure> {
    super::image::reference::parse(text).map(Reference::or_latest)
}
