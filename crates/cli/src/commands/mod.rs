//! The commands: a flat table of what can be said, and what carries it out.

pub mod build;
pub mod completion;
pub mod container;
pub mod each;
pub mod filter;
pub mod image;
pub mod inspect;
pub mod listing;
pub mod manifest;
pub mod network;
pub mod registry;
pub mod system;
pub mod volume;
pub mod volume_extras;

pub use crate::flags::spec::{Arity, Command, Flag, int, list, switch, text};

use crate::failure::Failure;
use crate::flags::help;
use crate::flags::parse::{self, FlagError, Matches};
use crate::print;
use crate::session::Session;

/// Commands that belong together, said as `container ls`.
#[derive(Debug)]
pub struct Group {
    /// The word before theirs.
    pub name: &'static str,
    /// One sentence for help.
    pub about: &'static str,
}

/// The groups, as help lists them.
pub const GROUPS: &[Group] = &[
    Group {
        name: "builder",
        about: "Manage builds",
    },
    Group {
        name: "container",
        about: "Manage containers",
    },
    Group {
        name: "image",
        about: "Manage images",
    },
    Group {
        name: "manifest",
        about: "Manage Docker image manifests and manifest lists",
    },
    Group {
        name: "network",
        about: "Manage networks",
    },
    Group {
        name: "system",
        about: "Manage the engine",
    },
    Group {
        name: "volume",
        about: "Manage volumes",
    },
];

/// The commands that help lists first.
pub const COMMON: &[&str] = &["run", "exec", "ps", "build", "images", "version", "info"];

const TABLES: &[&[Command]] = &[
    build::COMMANDS,
    container::COMMANDS,
    image::COMMANDS,
    manifest::COMMANDS,
    network::COMMANDS,
    registry::COMMANDS,
    volume::COMMANDS,
    system::COMMANDS,
];

/// Flags before the command.
pub const GLOBALS: &[Flag] = &[
    text("config", "Location of client config files"),
    switch("debug", "Enable debug mode").short('D'),
    list("host", "Daemon socket to connect to").short('H'),
    text(
        "log-level",
        "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")",
    )
    .short('l')
    .default("\"info\""),
    switch("version", "Print version information and quit").short('v'),
];

/// Every command.
pub fn all() -> impl Iterator<Item = &'static Command> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// The commands of a group by their proper names there, sorted.
pub fn of_group(group: &str) -> impl Iterator<Item = (&'static str, &'static Command)> {
    let mut commands: Vec<_> = all()
        .filter_map(|command| {
            let name = command
                .paths
                .iter()
                .find_map(|path| path.strip_prefix(group)?.strip_prefix(' '))?;
            Some((name, command))
        })
        .collect();
    commands.sort_by_key(|(name, _)| *name);
    commands.into_iter()
}

/// The commands that can be said with one word, sorted.
pub fn top_level() -> impl Iterator<Item = (&'static str, &'static Command)> {
    let mut commands: Vec<_> = all()
        .filter_map(|command| {
            Some((
                *command.paths.iter().find(|path| !path.contains(' '))?,
                command,
            ))
        })
        .collect();
    commands.sort_by_key(|(name, _)| *name);
    commands.into_iter()
}

/// Does what the words say.
///
/// # Errors
/// The words make no sense, or the command failed.
pub fn dispatch(program: &'static str, words: &[String]) -> Result<(), Failure> {
    let flags: Vec<&'static Flag> = GLOBALS.iter().collect();
    let globals = parse::parse(&flags, true, words).map_err(|error| {
        bad_flags(
            &error,
            &format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]"),
            program,
        )
    })?;
    if globals.on("version") {
        return print::out_line(&version_line(program));
    }
    let Some((first, rest)) = globals.args.split_first().filter(|_| !globals.help) else {
        return print::out(&help::program(program, &flags));
    };
    match first.as_str() {
        "help" => explain(program, rest, &flags),
        "completion" => completion::run(program, rest, &flags),
        word => match GROUPS.iter().find(|group| group.name == word) {
            Some(group) => dispatch_in_group(program, group, rest, &globals),
            None => call(program, word, rest, &globals),
        },
    }
}

fn version_line(program: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    // Scripts that ask `docker --version` read Docker's line.
    if program == "docker" {
        format!("Docker version 28.2.2, build wharf-{version}")
    } else {
        format!("wharf version {version}")
    }
}

fn dispatch_in_group(
    program: &'static str,
    group: &Group,
    words: &[String],
    globals: &Matches,
) -> Result<(), Failure> {
    match words.split_first() {
        None => print::out(&help::group(program, group)),
        Some((word, _)) if word == "--help" || word == "-h" => {
            print::out(&help::group(program, group))
        }
        Some((word, _)) if word.starts_with('-') => {
            let error = FlagError::Unknown(word.trim_start_matches('-').to_owned());
            let name = format!("{program} {}", group.name);
            Err(bad_flags(&error, &format!("Usage:  {name}"), &name))
        }
        Some((word, rest)) => call(program, &format!("{} {word}", group.name), rest, globals),
    }
}

fn explain(
    program: &'static str,
    words: &[String],
    flags: &[&'static Flag],
) -> Result<(), Failure> {
    let path = words.join(" ");
    if path.is_empty() {
        return print::out(&help::program(program, flags));
    }
    if let Some(group) = GROUPS.iter().find(|group| group.name == path) {
        return print::out(&help::group(program, group));
    }
    match find(&path) {
        Some(command) => print::out(&help::command(program, &path, command)),
        None => Err(Failure::new(format!("unknown help topic: {path}"))),
    }
}

fn find(path: &str) -> Option<&'static Command> {
    all().find(|command| command.paths.contains(&path))
}

fn call(
    program: &'static str,
    path: &str,
    words: &[String],
    globals: &Matches,
) -> Result<(), Failure> {
    let command = find(path).ok_or_else(|| unknown(program, path))?;
    let name = format!("{program} {path}");
    let usage = help::usage_line(program, path, command);
    let flags: Vec<&'static Flag> = command.all_flags().collect();
    let matches = parse::parse(&flags, command.stops_at_first_argument, words)
        .map_err(|error| bad_flags(&error, &usage, &name))?;
    if matches.help {
        if matches.help_by_letter {
            print::out_line("Flag shorthand -h has been deprecated, use --help")?;
        }
        return print::out(&help::command(program, path, command));
    }
    parse::check_arity(command.arity, matches.args.len()).map_err(|reason| {
        let verb = if matches!(command.arity, Arity::AtLeast(_)) {
            "See"
        } else {
            "Run"
        };
        Failure::new(format!(
            "{program}: '{name}' {reason}\n\n{usage}\n\n{verb} '{name} --help' for more information"
        ))
    })?;
    let session = Session::new(program, path.to_owned(), globals)?;
    (command.run)(&session, &matches)
}

fn bad_flags(error: &FlagError, usage: &str, name: &str) -> Failure {
    Failure::with_code(
        125,
        format!("{error}\n\n{usage}\n\nRun '{name} --help' for more information"),
    )
}

fn unknown(program: &str, path: &str) -> Failure {
    let (usage, scope) = match path.split_once(' ') {
        Some((group, _)) => (
            format!("Usage:  {program} {group}\n\n"),
            format!("{program} {group}"),
        ),
        None => (String::new(), program.to_owned()),
    };
    Failure::new(format!(
        "{program}: unknown command: {program} {path}\n\n{usage}Run '{scope} --help' for more information"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_way_to_say_a_command_is_said_once() {
        let mut seen = HashSet::new();
        for path in all().flat_map(|command| command.paths) {
            assert!(seen.insert(path), "{path} twice");
        }
    }

    #[test]
    fn flags_of_a_command_do_not_clash() {
        for command in all() {
            let mut seen = HashSet::new();
            for flag in command.all_flags() {
                assert!(
                    seen.insert(flag.name.to_owned()),
                    "{:?} --{}",
                    command.paths,
                    flag.name
                );
                if let Some(letter) = flag.short {
                    assert!(
                        seen.insert(letter.to_string()),
                        "{:?} -{letter}",
                        command.paths
                    );
                }
            }
        }
    }

    #[test]
    fn misuse_reads_as_dockers_client_says_it() {
        let words = |words: &str| {
            words
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (line, code, message) in [
            (
                "foo",
                1,
                "docker: unknown command: docker foo\n\nRun 'docker --help' for more information",
            ),
            (
                "container foo",
                1,
                "docker: unknown command: docker container foo\n\nUsage:  docker container\n\n\
                 Run 'docker container --help' for more information",
            ),
            (
                "run",
                1,
                "docker: 'docker run' requires at least 1 argument\n\n\
                 Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nSee 'docker run --help' for more information",
            ),
            (
                "ps a",
                1,
                "docker: 'docker ps' accepts no arguments\n\nUsage:  docker ps [OPTIONS]\n\n\
                 Run 'docker ps --help' for more information",
            ),
            (
                "ps --foo",
                125,
                "unknown flag: --foo\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information",
            ),
            (
                "--foo",
                125,
                "unknown flag: --foo\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]\n\nRun 'docker --help' for more information",
            ),
        ] {
            let failure = dispatch("docker", &words(line)).expect_err("misuse");
            assert_eq!(
                (failure.code, failure.message.as_str()),
                (code, message),
                "{line}"
            );
        }
    }
}
