//! Commands on the daemon as a whole.

pub mod check;
pub mod df;
mod df_format;
pub mod dial;
pub mod events;
pub mod info;
pub mod prune;
pub mod version;

use super::{Arity, Command, filter, inspect, listing, switch, text};

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["inspect"],
        usage: "[OPTIONS] NAME|ID [NAME|ID...]",
        about: "Return low-level information on objects",
        arity: Arity::AtLeast(1),
        flags: &[&[
            inspect::FORMAT,
            switch("size", "Display total file sizes if the type is container").short('s'),
            text("type", "Only inspect objects of the given type"),
        ]],
        stops_at_first_argument: false,
        run: inspect::any,
    },
    Command {
        paths: &["system events", "events"],
        usage: "[OPTIONS]",
        about: "Get real time events from the server",
        arity: Arity::None,
        flags: &[&[
            filter::FLAG,
            text(
                "format",
                "Format output using a custom template:\n'json':             Print in JSON format\n\
                 'TEMPLATE':         Print output using the given Go template",
            ),
            text("since", "Show all events created since timestamp"),
            text("until", "Stream events until this timestamp"),
        ]],
        stops_at_first_argument: false,
        run: events::run,
    },
    Command {
        paths: &["system info", "info"],
        usage: "[OPTIONS]",
        about: "Display system-wide information",
        arity: Arity::None,
        flags: &[&[inspect::FORMAT]],
        stops_at_first_argument: false,
        run: info::run,
    },
    Command {
        paths: &["version"],
        usage: "[OPTIONS]",
        about: "Show the version information",
        arity: Arity::None,
        flags: &[&[inspect::FORMAT]],
        stops_at_first_argument: false,
        run: version::run,
    },
    Command {
        paths: &["system check"],
        usage: "[OPTIONS]",
        about: "Find damage in what is stored, and repair it (not in Docker)",
        arity: Arity::None,
        flags: &[&[switch(
            "repair",
            "Remove leftovers and pull damaged layers again from where they came",
        )]],
        stops_at_first_argument: false,
        run: check::run,
    },
    Command {
        paths: &["system dial-stdio"],
        usage: "",
        about: "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
        arity: Arity::None,
        flags: &[],
        stops_at_first_argument: false,
        run: dial::run,
    },
    Command {
        paths: &["system df"],
        usage: "[OPTIONS]",
        about: "Show disk usage",
        arity: Arity::None,
        flags: &[&[
            listing::FORMAT,
            switch("verbose", "Show detailed information on space usage").short('v'),
        ]],
        stops_at_first_argument: false,
        run: df::run,
    },
    Command {
        paths: &["system prune"],
        usage: "[OPTIONS]",
        about: "Remove unused data",
        arity: Arity::None,
        flags: &[&[
            switch("all", "Remove all unused images not just dangling ones").short('a'),
            filter::LONG_FLAG,
            switch("force", "Do not prompt for confirmation").short('f'),
            switch("volumes", "Prune anonymous volumes"),
        ]],
        stops_at_first_argument: false,
        run: prune::run,
    },
];
