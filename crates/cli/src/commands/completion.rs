//! `completion SHELL`, and what the scripts ask for: `__complete WORDS...`

use crate::client::Client;
use crate::client::request::Request;
use crate::commands::{self, Command, Flag};
use crate::failure::Failure;
use crate::flags::complete;
use crate::flags::parse::{self, Matches};
use crate::flags::spec::Kind;
use crate::print;
use crate::session::Session;
use serde_json::Value;

/// Prints the completion script for a shell.
///
/// # Errors
/// The shell is not known.
pub fn run(program: &'static str, words: &[String]) -> Result<(), Failure> {
    let known = complete::SHELLS.join(", ");
    match words {
        [shell] if !shell.starts_with('-') => match complete::script(program, shell) {
            Some(script) => print::out(&script),
            None => Err(Failure::new(format!(
                "unknown shell {shell}; known are {known}"
            ))),
        },
        _ => Err(Failure::new(format!(
            "Usage:  {program} completion SHELL\n\nShells: {known}"
        ))),
    }
}

/// What may stand where the last word is.
#[derive(Debug)]
enum Wanted<'a> {
    /// A command of this group; of none at the beginning.
    Command(&'a str),
    /// A flag of this command, or one before all commands.
    Flag(Option<&'static Command>),
    /// A value of a kind.
    Value(What),
}

/// Kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Containers,
    Running,
    Stopped,
    Images,
    Networks,
    Volumes,
    Contexts,
    Anything,
    Words(&'static [&'static str]),
    Files,
    Nothing,
}

/// Answers a script: candidates, one a line with what they are after a tab, then what to do without any.
///
/// # Errors
/// Standard output cannot be written.
pub fn candidates(program: &'static str, words: &[String]) -> Result<(), Failure> {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let (globals, wanted) = wanted(before, last);
    // `--flag=value`: the flag is part of the word.
    let (prefix, last) = match last.split_once('=') {
        Some((flag, value)) if last.starts_with("--") => (format!("{flag}="), value),
        _ => (String::new(), last),
    };
    let found = match wanted {
        Wanted::Command(group) => commands_of(program, group),
        Wanted::Flag(command) => flags_of(command),
        Wanted::Value(what) => values(program, &globals, what),
    };
    let mut out = String::new();
    for (name, about) in found.iter().filter(|(name, _)| name.starts_with(last)) {
        let about = about.lines().next().unwrap_or_default();
        let tab = if about.is_empty() { "" } else { "\t" };
        out.push_str(&format!("{prefix}{name}{tab}{about}\n"));
    }
    // 0: names of files will do; 4: they will not.
    let directive = match wanted {
        Wanted::Value(What::Files) => 0,
        _ => 4,
    };
    print::out(&format!("{out}:{directive}\n"))
}

/// What the words before it make of the last one.
fn wanted(before: &[String], last: &str) -> (Matches, Wanted<'static>) {
    let (used, globals) = leading_flags(before);
    let rest = &before[used.min(before.len())..];
    if used > before.len() {
        let flag = before
            .last()
            .map_or("", |word| word.trim_start_matches('-'));
        return (globals, Wanted::Value(of_flag(flag)));
    }
    let (path, rest) = command_path(rest);
    let is_group = |name: &str| commands::GROUPS.iter().find(|group| group.name == name);
    let Some(command) = commands::find(&path) else {
        let wanted = match is_group(&path) {
            _ if last.starts_with('-') => Wanted::Flag(None),
            Some(group) if rest.is_empty() => Wanted::Command(group.name),
            None if path.is_empty() && rest.is_empty() => Wanted::Command(""),
            _ => Wanted::Value(What::Nothing),
        };
        return (globals, wanted);
    };
    (globals, in_command(command, &path, rest, last))
}

fn in_command(
    command: &'static Command,
    path: &str,
    rest: &[String],
    last: &str,
) -> Wanted<'static> {
    let mut n_arguments = 0;
    let mut words = rest.iter();
    let mut only_arguments = false;
    while let Some(word) = words.next() {
        if word == "--" {
            only_arguments = true;
        } else if !only_arguments && word.starts_with('-') && word.len() > 1 {
            if let Some(flag) = valued(command.all_flags(), word)
                && words.next().is_none()
            {
                return Wanted::Value(of_flag(flag.name));
            }
        } else {
            n_arguments += 1;
            // What follows is another program's command line.
            only_arguments |= command.stops_at_first_argument;
        }
    }
    if !only_arguments && last.starts_with('-') {
        return match last.split_once('=') {
            Some((flag, _)) => Wanted::Value(of_flag(flag.trim_start_matches('-'))),
            None => Wanted::Flag(Some(command)),
        };
    }
    Wanted::Value(of_argument(command, path, n_arguments))
}

/// How many words the flags before the command are, one more than there are if the last of them wants a value.
fn leading_flags(words: &[String]) -> (usize, Matches) {
    let flags: Vec<&'static Flag> = commands::GLOBALS.iter().collect();
    let mut used = 0;
    while let Some(word) = words.get(used).filter(|word| word.starts_with('-')) {
        used += 1 + usize::from(valued(flags.iter().copied(), word).is_some());
    }
    let given = &words[..used.min(words.len())];
    (used, parse::parse(&flags, true, given).unwrap_or_default())
}

/// The flag, if its value is the next word.
fn valued(mut flags: impl Iterator<Item = &'static Flag>, word: &str) -> Option<&'static Flag> {
    let flag = match word.strip_prefix("--") {
        Some(name) => flags.find(|flag| flag.name == name),
        // `-it`: the last letter decides.
        None => {
            let letter = word.chars().last();
            flags.find(|flag| flag.short.is_some() && flag.short == letter)
        }
    };
    flag.filter(|flag| flag.kind != Kind::Bool)
}

/// The longest beginning that names a command or a group.
fn command_path(words: &[String]) -> (String, &[String]) {
    let known = |path: &str| {
        commands::find(path).is_some() || commands::GROUPS.iter().any(|group| group.name == path)
    };
    (1..=words.len().min(3))
        .rev()
        .map(|n| (words[..n].join(" "), &words[n..]))
        .find(|(path, _)| known(path))
        .unwrap_or((String::new(), words))
}

fn commands_of(program: &str, group: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = match group {
        "" => commands::top_level()
            .map(|(name, command)| (name.to_owned(), command.about.to_owned()))
            .chain([
                (
                    "completion".to_owned(),
                    "Generate the completion script for a shell".to_owned(),
                ),
                ("help".to_owned(), "Help about any command".to_owned()),
            ])
            .collect(),
        group => commands::of_group(group)
            .map(|(name, command)| (name.to_owned(), command.about.to_owned()))
            .collect(),
    };
    found.extend(commands::GROUPS.iter().filter_map(|known| {
        let name = match group {
            "" => known.name,
            group => known.name.strip_prefix(group)?.strip_prefix(' ')?,
        };
        (!name.contains(' ')).then(|| (name.to_owned(), known.about.to_owned()))
    }));
    if group.is_empty() && program == "wharf" {
        found.push(("daemon".to_owned(), "Run the engine".to_owned()));
        found.push(("registry".to_owned(), "Run a registry of images".to_owned()));
    }
    found.sort_unstable();
    found
}

fn flags_of(command: Option<&'static Command>) -> Vec<(String, String)> {
    let mut flags: Vec<&Flag> = match command {
        Some(command) => command.all_flags().collect(),
        None => commands::GLOBALS.iter().collect(),
    };
    flags.retain(|flag| !flag.hidden);
    flags.sort_by_key(|flag| flag.name);
    let mut found: Vec<(String, String)> = flags
        .into_iter()
        .map(|flag| (format!("--{}", flag.name), flag.about.to_owned()))
        .collect();
    found.push(("--help".to_owned(), "Print usage".to_owned()));
    found
}

/// What a flag's value is.
fn of_flag(name: &str) -> What {
    match name {
        "network" | "net" => What::Networks,
        "volumes-from" | "link" => What::Containers,
        "volume" | "v" => What::Volumes,
        "context" | "c" | "from" => What::Contexts,
        "restart" => What::Words(&["no", "always", "on-failure", "unless-stopped"]),
        "pull" => What::Words(&["always", "missing", "never"]),
        "platform" => What::Words(&["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386"]),
        "format" => What::Words(&["json", "table"]),
        "log-driver" => What::Words(&[
            "json-file",
            "local",
            "journald",
            "syslog",
            "gelf",
            "fluentd",
            "none",
        ]),
        "log-level" | "l" => What::Words(&["debug", "info", "warn", "error", "fatal"]),
        "type" => What::Words(&["container", "image", "network", "volume"]),
        "signal" | "stop-signal" | "s" => What::Words(&[
            "HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2", "STOP", "CONT",
        ]),
        "cap-add" | "cap-drop" => What::Words(&[
            "ALL",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "KILL",
            "NET_ADMIN",
            "NET_BIND_SERVICE",
            "NET_RAW",
            "SETGID",
            "SETUID",
            "SYS_ADMIN",
            "SYS_PTRACE",
            "SYS_TIME",
        ]),
        "filter" | "name" | "label" | "env" | "memory" | "cpus" | "hostname" | "user"
        | "publish" => What::Nothing,
        _ => What::Files,
    }
}

/// What the argument at a place is, by the command's usage line.
fn of_argument(command: &Command, path: &str, n: usize) -> What {
    let words: Vec<&str> = command
        .usage
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter(|word| *word != "[OPTIONS]")
        .collect();
    let word = match words
        .get(n)
        .or(words.last().filter(|word| word.contains("...")))
    {
        Some(word) => word.trim_matches(|c: char| "[].".contains(c)),
        None => return What::Nothing,
    };
    let verb = path.rsplit(' ').next().unwrap_or_default();
    match word {
        word if word.starts_with("CONTAINER:") => What::Containers,
        word if word.starts_with("CONTAINER") => match verb {
            "start" => What::Stopped,
            "attach" | "exec" | "kill" | "pause" | "stop" | "top" | "stats" => What::Running,
            _ => What::Containers,
        },
        word if word.starts_with("IMAGE") || word.starts_with("SOURCE_IMAGE") => What::Images,
        word if word.starts_with("NAME[:TAG") || word.starts_with("REPOSITORY") => What::Images,
        word if word.starts_with("NETWORK") => What::Networks,
        word if word.starts_with("VOLUME") && verb != "create" => What::Volumes,
        word if word.starts_with("CONTEXT") && verb != "create" && verb != "import" => {
            What::Contexts
        }
        "NAME|ID" => What::Anything,
        "COMMAND" | "ARG" | "PATH" | "file|URL|-" | "FILE|-" => What::Files,
        _ => What::Nothing,
    }
}

fn values(program: &'static str, globals: &Matches, what: What) -> Vec<(String, String)> {
    let plain = |names: Vec<String>| {
        names
            .into_iter()
            .map(|name| (name, String::new()))
            .collect()
    };
    if let What::Words(words) = what {
        return plain(words.iter().map(|word| (*word).to_owned()).collect());
    }
    if matches!(what, What::Files | What::Nothing) {
        return Vec::new();
    }
    let Ok(session) = Session::new(program, "context ls".to_owned(), globals) else {
        return Vec::new();
    };
    if what == What::Contexts {
        let kept = session.contexts().ok().and_then(|store| store.list().ok());
        let names = kept
            .unwrap_or_default()
            .into_iter()
            .map(|context| context.name);
        return plain(
            [crate::context::DEFAULT.to_owned()]
                .into_iter()
                .chain(names)
                .collect(),
        );
    }
    // A key press starts no daemon.
    let endpoint = session.client.endpoint().clone();
    let client = Client::new(endpoint, None, Box::new(|| Ok(false)));
    match what {
        What::Running => containers(&client, &["running"]),
        What::Stopped => containers(&client, &["created", "exited", "paused"]),
        What::Containers => containers(&client, &[]),
        What::Images => images(&client),
        What::Networks => named(&client, "/networks", ""),
        What::Volumes => named(&client, "/volumes", "Volumes"),
        _ => [
            containers(&client, &[]),
            images(&client),
            named(&client, "/networks", ""),
            named(&client, "/volumes", "Volumes"),
        ]
        .concat(),
    }
}

fn ask(client: &Client, path: &str) -> Value {
    // `all` means nothing but for containers.
    client
        .json(Request::get(path).query("all", "1"))
        .unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn containers(client: &Client, states: &[&str]) -> Vec<(String, String)> {
    let all = ask(client, "/containers/json");
    let fits = |container: &&Value| {
        states.is_empty()
            || container["State"]
                .as_str()
                .is_some_and(|state| states.contains(&state))
    };
    items(&all)
        .filter(fits)
        .flat_map(|container| items(&container["Names"]).map(move |name| (container, name)))
        .map(|(container, name)| {
            (
                text(name).trim_start_matches('/').to_owned(),
                text(&container["Image"]),
            )
        })
        .collect()
}

fn images(client: &Client) -> Vec<(String, String)> {
    let all = ask(client, "/images/json");
    items(&all)
        .flat_map(|image| items(&image["RepoTags"]))
        .map(|tag| (text(tag), String::new()))
        .filter(|(tag, _)| tag != "<none>:<none>")
        .collect()
}

fn named(client: &Client, path: &str, inside: &str) -> Vec<(String, String)> {
    let answer = ask(client, path);
    let list = if inside.is_empty() {
        &answer
    } else {
        &answer[inside]
    };
    items(list)
        .map(|item| (text(&item["Name"]), text(&item["Driver"])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_follow() {
        for (line, expected) in [
            ("", Wanted::Command("")),
            ("container ", Wanted::Command("container")),
            ("trust key ", Wanted::Command("trust key")),
            ("-H unix:///x container ", Wanted::Command("container")),
            ("-c ", Wanted::Value(What::Contexts)),
            ("stop ", Wanted::Value(What::Running)),
            ("container stop a ", Wanted::Value(What::Running)),
            ("start ", Wanted::Value(What::Stopped)),
            ("run ", Wanted::Value(What::Images)),
            ("run -it --network ", Wanted::Value(What::Networks)),
            ("run --rm busybox ", Wanted::Value(What::Files)),
            ("run --network=", Wanted::Value(What::Networks)),
            ("network connect ", Wanted::Value(What::Networks)),
            ("network connect x ", Wanted::Value(What::Containers)),
            ("volume create ", Wanted::Value(What::Nothing)),
            ("volume rm a ", Wanted::Value(What::Volumes)),
            ("inspect ", Wanted::Value(What::Anything)),
            ("context use ", Wanted::Value(What::Contexts)),
            ("ps x ", Wanted::Value(What::Nothing)),
            ("run busybox --", Wanted::Value(What::Files)),
        ] {
            let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let last = words.pop().unwrap_or_default();
            assert_eq!(
                format!("{:?}", wanted(&words, &last).1),
                format!("{expected:?}"),
                "{line}"
            );
        }
        let words = ["ps".to_owned()];
        assert!(
            matches!(wanted(&words, "--").1, Wanted::Flag(Some(command)) if command.paths.contains(&"ps"))
        );
        assert!(matches!(wanted(&[], "-").1, Wanted::Flag(None)));
    }
}
