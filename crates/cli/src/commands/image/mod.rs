//! Commands on images.

pub mod get;
pub mod history;
pub mod import;
pub mod load;
pub mod ls;
pub mod progress;
pub mod prune;
pub mod pull;
pub mod push;
pub mod reference;
pub mod rm;
pub mod save;
pub mod tag;
mod tree;

use super::{Arity, Command, Flag, filter, inspect, list, listing, switch, text};

const PLATFORM: Flag = text(
    "platform",
    "Set platform if server is multi-platform capable",
);
const QUIET: Flag = switch("quiet", "Suppress verbose output").short('q');
const NO_TRUNC: Flag = switch("no-trunc", "Don't truncate output");

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["image ls", "image list", "images"],
        usage: "[OPTIONS] [REPOSITORY[:TAG]]",
        about: "List images",
        arity: Arity::AtMost(1),
        flags: &[&[
            switch("all", "Show all images (default hides intermediate images)").short('a'),
            switch("digests", "Show digests"),
            filter::FLAG,
            listing::FORMAT,
            NO_TRUNC,
            switch("quiet", "Only show image IDs").short('q'),
            switch(
                "tree",
                "List multi-platform images as a tree (EXPERIMENTAL)",
            ),
        ]],
        stops_at_first_argument: false,
        run: ls::run,
    },
    Command {
        paths: &["image load", "load"],
        usage: "[OPTIONS]",
        about: "Load an image from a tar archive or STDIN",
        arity: Arity::None,
        flags: &[&[
            text("input", "Read from tar archive file, instead of STDIN").short('i'),
            text(
                "platform",
                "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
            ),
            switch("quiet", "Suppress the load output").short('q'),
        ]],
        stops_at_first_argument: false,
        run: load::run,
    },
    Command {
        paths: &["image save", "save"],
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
        arity: Arity::AtLeast(1),
        flags: &[&[
            text("output", "Write to a file, instead of STDOUT").short('o'),
            text(
                "platform",
                "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
            ),
        ]],
        stops_at_first_argument: false,
        run: save::run,
    },
    Command {
        paths: &["image import", "import"],
        usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        about: "Import the contents from a tarball to create a filesystem image",
        arity: Arity::AtLeast(1),
        flags: &[&[
            list(
                "change",
                "Apply Dockerfile instruction to the created image",
            )
            .short('c'),
            text("message", "Set commit message for imported image").short('m'),
            PLATFORM,
        ]],
        stops_at_first_argument: false,
        run: import::run,
    },
    Command {
        paths: &["image history", "history"],
        usage: "[OPTIONS] IMAGE",
        about: "Show the history of an image",
        arity: Arity::Exactly(1),
        flags: &[&[
            listing::FORMAT,
            switch("human", "Print sizes and dates in human readable format")
                .short('H')
                .default("true"),
            NO_TRUNC,
            text(
                "platform",
                "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
            ),
            switch("quiet", "Only show image IDs").short('q'),
        ]],
        stops_at_first_argument: false,
        run: history::run,
    },
    Command {
        paths: &["image tag", "tag"],
        usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        arity: Arity::Exactly(2),
        flags: &[],
        stops_at_first_argument: false,
        run: tag::run,
    },
    Command {
        paths: &["image rm", "image remove", "rmi"],
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Remove one or more images",
        arity: Arity::AtLeast(1),
        flags: &[&[
            switch("force", "Force removal of the image").short('f'),
            switch("no-prune", "Do not delete untagged parents"),
            list(
                "platform",
                "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
            ),
        ]],
        stops_at_first_argument: false,
        run: rm::run,
    },
    Command {
        paths: &["image inspect"],
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Display detailed information on one or more images",
        arity: Arity::AtLeast(1),
        flags: &[&[
            inspect::FORMAT,
            text(
                "platform",
                "Inspect a specific platform of the multi-platform image. If the image or the server is not multi-platform capable, the command will error out if the platform does not match. 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
            ),
        ]],
        stops_at_first_argument: false,
        run: inspect::images,
    },
    Command {
        paths: &["image prune"],
        usage: "[OPTIONS]",
        about: "Remove unused images",
        arity: Arity::None,
        flags: &[&[
            switch("all", "Remove all unused images, not just dangling ones").short('a'),
            filter::LONG_FLAG,
            switch("force", "Do not prompt for confirmation").short('f'),
        ]],
        stops_at_first_argument: false,
        run: prune::run,
    },
    Command {
        paths: &["image pull", "pull"],
        usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
        about: "Download an image from a registry",
        arity: Arity::Exactly(1),
        flags: &[&[
            switch("all-tags", "Download all tagged images in the repository").short('a'),
            switch("disable-content-trust", "Skip image verification")
                .default("true")
                .hidden(),
            PLATFORM,
            QUIET,
        ]],
        stops_at_first_argument: false,
        run: pull::run,
    },
    Command {
        paths: &["image push", "push"],
        usage: "[OPTIONS] NAME[:TAG]",
        about: "Upload an image to a registry",
        arity: Arity::Exactly(1),
        flags: &[&[
            switch("all-tags", "Push all tags of an image to the repository").short('a'),
            switch("disable-content-trust", "Skip image signing")
                .default("true")
                .hidden(),
            text(
                "platform",
                "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
            ),
            QUIET,
        ]],
        stops_at_first_argument: false,
        run: push::run,
    },
];
