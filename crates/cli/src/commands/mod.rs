//! The commands: a flat table of what can be said, and what carries it out.

pub mod build;
pub mod completion;
pub mod container;
pub mod context;
pub mod each;
pub mod filter;
pub mod image;
pub mod inspect;
pub mod listing;
pub mod man;
pub mod manifest;
pub mod network;
pub mod plugin;
pub mod refused;
pub mod registry;
pub mod system;
pub mod volume;
pub mod volume_extras;

pub use crate::flags::spec::{Arity, Command, Flag, Run, int, list, switch, text};

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
    /// Docker's usage line of this group ends in `COMMAND` when one of its commands is not known.
    pub usage_says_command: bool,
}

const fn group(name: &'static str, about: &'static str) -> Group {
    let usage_says_command = matches!(name.as_bytes(), b"manifest" | b"volume");
    Group {
        name,
        about,
        usage_says_command,
    }
}

/// The groups, as help lists them.
pub const GROUPS: &[Group] = &[
    group("builder", "Manage builds"),
    group("checkpoint", "Manage checkpoints"),
    group("container", "Manage containers"),
    group("context", "Manage contexts"),
    group("image", "Manage images"),
    group(
        "manifest",
        "Manage Docker image manifests and manifest lists",
    ),
    group("network", "Manage networks"),
    group("plugin", "Manage plugins"),
    group("system", "Manage the engine"),
    group("trust", "Manage trust on Docker images"),
    group("trust key", "Manage keys for signing Docker images"),
    group("trust signer", "Manage entities who can sign Docker images"),
    group("volume", "Manage volumes"),
];

/// The commands that help lists first.
pub const COMMON: &[&str] = &["run", "exec", "ps", "build", "images", "version", "info"];

const TABLES: &[&[Command]] = &[
    build::COMMANDS,
    container::COMMANDS,
    context::COMMANDS,
    image::COMMANDS,
    manifest::COMMANDS,
    network::COMMANDS,
    plugin::COMMANDS,
    refused::COMMANDS,
    registry::COMMANDS,
    volume::COMMANDS,
    system::COMMANDS,
];

/// Flags before the command.
pub const GLOBALS: &[Flag] = &[
    text("config", "Location of client config files"),
    text(
        "context",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"context use\")",
    )
    .short('c'),
    switch("debug", "Enable debug mode").short('D'),
    list("host", "Daemon socket to connect to").short('H'),
    text(
        "log-level",
        "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")",
    )
    .short('l')
    .default("\"info\""),
    switch("tls", "Use TLS; implied by --tlsverify"),
    text("tlscacert", "Trust certs signed only by this CA").default("\"~/.docker/ca.pem\""),
    text("tlscert", "Path to TLS certificate file").default("\"~/.docker/cert.pem\""),
    text("tlskey", "Path to TLS key file").default("\"~/.docker/key.pem\""),
    switch("tlsverify", "Use TLS and verify the remote"),
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
                .find_map(|path| path.strip_prefix(group)?.strip_prefix(' '))
                // `dial-stdio` is for programs.
                .filter(|name| !name.contains(' ') && *name != "dial-stdio")?;
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
        word if refused::SWARM.contains(&word) => Err(refused::swarm(program, word)),
        "completion" => completion::run(program, rest),
        "__complete" | "__completeNoDesc" => completion::candidates(program, rest),
        "man" if program == "wharf" => man::run(rest),
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
    let Some((word, rest)) = words.split_first() else {
        // Nothing was asked for, so nothing goes to standard output.
        print::error(&help::group(program, group));
        return Ok(());
    };
    if word == "--help" || word == "-h" {
        return print::out(&help::group(program, group));
    }
    if word.starts_with('-') {
        let name = format!("{program} {}", group.name);
        let flags: [&'static Flag; 0] = [];
        let error = parse::parse(&flags, true, words)
            .err()
            .unwrap_or_else(|| FlagError::Unknown(word.trim_start_matches('-').to_owned()));
        return Err(bad_flags(&error, &format!("Usage:  {name}"), &name));
    }
    let path = format!("{} {word}", group.name);
    match GROUPS.iter().find(|group| group.name == path) {
        Some(inner) => dispatch_in_group(program, inner, rest, globals),
        None => call(program, &path, rest, globals),
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
    if let Some(command) = find(&path) {
        return print::out(&help::command(program, &path, command));
    }
    // What is known of the beginning is no part of the topic.
    let known = (1..words.len())
        .rev()
        .find(|n| {
            let path = words[..*n].join(" ");
            find(&path).is_some() || GROUPS.iter().any(|group| group.name == path)
        })
        .unwrap_or(0);
    Err(Failure::new(format!(
        "unknown help topic: {}",
        words[known..].join(" ")
    )))
}

/// The command that is said so.
pub fn find(path: &str) -> Option<&'static Command> {
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
        let verb = match command.arity {
            Arity::AtLeast(_) => "See",
            // So it stands in Docker's client.
            Arity::AtMost(_) if program == "docker" => "SRun",
            _ => "Run",
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
    let (usage, scope) = match path.rsplit_once(' ') {
        Some((group, _)) => {
            let command = GROUPS
                .iter()
                .any(|known| known.name == group && known.usage_says_command);
            let command = if command { " COMMAND" } else { "" };
            (
                format!("Usage:  {program} {group}{command}\n\n"),
                format!("{program} {group}"),
            )
        }
        None => (String::new(), program.to_owned()),
    };
    // Docker's own client makes no suggestions, and whoever calls us by its name expects its words.
    let hint = match similar(path).filter(|_| program != "docker") {
        Some(near) => format!("Did you mean '{program} {near}'?\n\n"),
        None => String::new(),
    };
    Failure::new(format!(
        "{program}: unknown command: {program} {path}\n\n{hint}{usage}Run '{scope} --help' for more information"
    ))
}

/// The command that was probably meant: few letters away, or with this beginning.
fn similar(path: &str) -> Option<&'static str> {
    let group = path.rsplit_once(' ').map(|(group, _)| group);
    let known = all().flat_map(|command| command.paths.iter().copied());
    let known = known.chain(GROUPS.iter().map(|group| group.name));
    let mut near: Vec<(usize, &str)> = known
        .filter(|known| known.rsplit_once(' ').map(|(group, _)| group) == group)
        .map(|known| (distance(path, known), known))
        .filter(|(away, known)| *away <= 2 && *away < known.len() || known.starts_with(path))
        .collect();
    near.sort_unstable();
    near.first().map(|(_, known)| *known)
}

/// Letters to add, remove or change to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, c) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, d) in other.iter().enumerate() {
            let changed = corner + usize::from(c != *d);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
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
