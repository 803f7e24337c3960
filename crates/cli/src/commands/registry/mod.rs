//! Commands on registries themselves.

pub mod helper;
pub mod login;
pub mod logout;
pub mod search;

use super::{Arity, Command, filter, int, switch, text};

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        paths: &["login"],
        usage: "[OPTIONS] [SERVER]",
        about: "Authenticate to a registry",
        arity: Arity::AtMost(1),
        flags: &[&[
            text("password", "Password or Personal Access Token (PAT)").short('p'),
            switch(
                "password-stdin",
                "Take the Password or Personal Access Token (PAT) from stdin",
            ),
            text("username", "Username").short('u'),
        ]],
        stops_at_first_argument: false,
        run: login::run,
    },
    Command {
        paths: &["logout"],
        usage: "[SERVER]",
        about: "Log out from a registry",
        arity: Arity::AtMost(1),
        flags: &[],
        stops_at_first_argument: false,
        run: logout::run,
    },
    Command {
        paths: &["credential-helper"],
        usage: "get|store|erase|list",
        about: "Give credentials to other clients (as docker-credential-wharf)",
        arity: Arity::Exactly(1),
        flags: &[],
        stops_at_first_argument: false,
        run: helper::run,
    },
    Command {
        paths: &["search"],
        usage: "[OPTIONS] TERM",
        about: "Search Docker Hub for images",
        arity: Arity::Exactly(1),
        flags: &[&[
            filter::FLAG,
            text("format", "Pretty-print search using a Go template"),
            int("limit", "Max number of search results"),
            switch("no-trunc", "Don't truncate output"),
        ]],
        stops_at_first_argument: false,
        run: search::run,
    },
];
