//! Commands on contexts. None of them needs a daemon.

mod edit;
mod file;
mod show;

use super::{Arity, Command, Flag, inspect, list, listing, switch, text};

const DESCRIPTION: Flag = text("description", "Description of the context");
const DOCKER: Flag = list(
    "docker",
    "set the docker endpoint: host=ADDRESS, from=CONTEXT, ca=FILE, cert=FILE, key=FILE, skip-tls-verify=BOOL, separated by commas",
)
.value("stringToString")
.check(edit::check_endpoint);

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["context create"],
        usage: "[OPTIONS] CONTEXT",
        about: "Create a context",
        arity: Arity::Exactly(1),
        flags: &[&[
            DESCRIPTION,
            DOCKER,
            text("from", "create context from a named context"),
        ]],
        stops_at_first_argument: false,
        run: edit::create,
    },
    Command {
        paths: &["context update"],
        usage: "[OPTIONS] CONTEXT",
        about: "Update a context",
        arity: Arity::Exactly(1),
        flags: &[&[DESCRIPTION, DOCKER]],
        stops_at_first_argument: false,
        run: edit::update,
    },
    Command {
        paths: &["context ls", "context list"],
        usage: "[OPTIONS]",
        about: "List contexts",
        arity: Arity::None,
        flags: &[&[
            listing::FORMAT,
            switch("quiet", "Only show context names").short('q'),
        ]],
        stops_at_first_argument: false,
        run: show::ls,
    },
    Command {
        paths: &["context inspect"],
        usage: "[OPTIONS] [CONTEXT] [CONTEXT...]",
        about: "Display detailed information on one or more contexts",
        arity: Arity::AtLeast(0),
        flags: &[&[inspect::FORMAT]],
        stops_at_first_argument: false,
        run: show::inspect,
    },
    Command {
        paths: &["context show"],
        usage: "",
        about: "Print the name of the current context",
        arity: Arity::None,
        flags: &[],
        stops_at_first_argument: false,
        run: show::current,
    },
    Command {
        paths: &["context use"],
        usage: "CONTEXT",
        about: "Set the current docker context",
        // Docker's client counts these itself, in other words.
        arity: Arity::AtLeast(0),
        flags: &[],
        stops_at_first_argument: false,
        run: edit::choose,
    },
    Command {
        paths: &["context rm", "context remove"],
        usage: "CONTEXT [CONTEXT...]",
        about: "Remove one or more contexts",
        arity: Arity::AtLeast(1),
        flags: &[&[switch("force", "Force the removal of a context in use").short('f')]],
        stops_at_first_argument: false,
        run: edit::rm,
    },
    Command {
        paths: &["context export"],
        usage: "[OPTIONS] CONTEXT [FILE|-]",
        about: "Export a context to a tar archive FILE or a tar stream on STDOUT.",
        arity: Arity::Between(1, 2),
        flags: &[],
        stops_at_first_argument: false,
        run: file::export,
    },
    Command {
        paths: &["context import"],
        usage: "CONTEXT FILE|-",
        about: "Import a context from a tar file",
        arity: Arity::Exactly(2),
        flags: &[],
        stops_at_first_argument: false,
        run: file::import,
    },
];
