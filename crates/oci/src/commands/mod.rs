//! The commands, one file each, and what is common to their command lines.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::failure::{Failure, Log};
use crate::options::{Flag, Parsed, parse, switch, valued};
use crate::seal;

/// What every command is given.
#[derive(Debug)]
pub struct Context {
    /// All words of the command line, for starting again.
    pub words: Vec<OsString>,
    /// `--root`.
    pub root: PathBuf,
    /// `--systemd-cgroup`.
    pub systemd: bool,
    /// We are not the host's root.
    pub rootless: bool,
    /// Where complaints go.
    pub log: Log,
}

/// How a command ends when it does not fail.
pub type Done = Result<u8, Failure>;

/// One command.
struct Command {
    name: &'static str,
    args: &'static str,
    help: &'static str,
    flags: &'static [Flag],
    /// Flags may stand behind arguments; not where those are another program's.
    interspersed: bool,
    /// It starts processes in containers.
    launches: bool,
    run: fn(&Context, &Parsed) -> Done,
}

const GLOBAL: &[Flag] = &[
    valued("root", "DIR", "directory for container state"),
    valued("log", "FILE", "also write complaints to FILE"),
    valued("log-format", "FORMAT", "format of that file: text or json"),
    switch("debug", "more in the log"),
    switch("systemd-cgroup", "let systemd manage control groups"),
    valued(
        "rootless",
        "BOOL",
        "ignore what only root may do: true, false or auto",
    ),
    valued("cgroup-manager", "MANAGER", "cgroupfs or systemd"),
    valued("criu", "PATH", "accepted for compatibility"),
    switch("version", "print the version").short('v'),
];

const COMMANDS: &[Command] = &[
    Command {
        name: "create",
        args: "ID",
        help: "create a container",
        flags: create::FLAGS,
        interspersed: true,
        launches: true,
        run: create::run,
    },
    Command {
        name: "start",
        args: "ID",
        help: "start a created container",
        flags: &[],
        interspersed: true,
        launches: false,
        run: start::run,
    },
    Command {
        name: "run",
        args: "ID",
        help: "create and start a container",
        flags: run::FLAGS,
        interspersed: true,
        launches: true,
        run: run::run,
    },
    Command {
        name: "exec",
        args: "ID [COMMAND [ARG...]]",
        help: "run a further program in a container",
        flags: exec::FLAGS,
        interspersed: false,
        launches: true,
        run: exec::run,
    },
    Command {
        name: "state",
        args: "ID",
        help: "print a container's state",
        flags: &[],
        interspersed: true,
        launches: false,
        run: state::run,
    },
    Command {
        name: "kill",
        args: "ID [SIGNAL]",
        help: "send a signal (TERM) to a container's init",
        flags: kill::FLAGS,
        interspersed: true,
        launches: false,
        run: kill::run,
    },
    Command {
        name: "delete",
        args: "ID",
        help: "remove what is left of a container",
        flags: delete::FLAGS,
        interspersed: true,
        launches: false,
        run: delete::run,
    },
    Command {
        name: "list",
        args: "",
        help: "list containers",
        flags: list::FLAGS,
        interspersed: true,
        launches: false,
        run: list::run,
    },
    Command {
        name: "ps",
        args: "ID [PS-OPTION...]",
        help: "list a container's processes",
        flags: ps::FLAGS,
        interspersed: false,
        launches: false,
        run: ps::run,
    },
    Command {
        name: "pause",
        args: "ID",
        help: "stop all processes of a container",
        flags: &[],
        interspersed: true,
        launches: false,
        run: pause::pause,
    },
    Command {
        name: "resume",
        args: "ID",
        help: "let them go on",
        flags: &[],
        interspersed: true,
        launches: false,
        run: pause::resume,
    },
    Command {
        name: "update",
        args: "ID",
        help: "change a container's limits",
        flags: update::FLAGS,
        interspersed: true,
        launches: false,
        run: update::run,
    },
    Command {
        name: "events",
        args: "ID",
        help: "print a container's statistics, and when it runs out of memory",
        flags: events::FLAGS,
        interspersed: true,
        launches: false,
        run: events::run,
    },
    Command {
        name: "features",
        args: "",
        help: "print what this runtime can do",
        flags: &[],
        interspersed: true,
        launches: false,
        run: features::run,
    },
    Command {
        name: "spec",
        args: "",
        help: "write a config.json to begin with",
        flags: spec::FLAGS,
        interspersed: true,
        launches: false,
        run: spec::run,
    },
];

/// Runs one command.
pub fn main(name: &str, words: Vec<OsString>) -> ExitCode {
    let mut log = Log::default();
    match dispatch(name, words, &mut log) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(name: &str, words: Vec<OsString>, log: &mut Log) -> Done {
    let (global, rest) = parse(GLOBAL, words.iter().cloned(), false)?;
    if global.on("version") {
        print_version(name);
        return Ok(0);
    }
    let context = context(&global, words, log)?;
    let mut rest = rest.into_iter();
    let Some(word) = rest.next().filter(|_| !global.help) else {
        print_help(name);
        return Ok(0);
    };
    let command = COMMANDS.iter().find(|c| word == c.name);
    let Some(command) = command else {
        if word == "help" {
            print_help(name);
            return Ok(0);
        }
        let hint = match word.to_str() {
            Some("checkpoint" | "restore") => ": checkpoints are not supported",
            _ => "",
        };
        let word = word.to_string_lossy();
        return Err(Failure::usage(format!("unknown command {word:?}{hint}")));
    };
    let (mut parsed, rest) = parse(command.flags, rest, command.interspersed)?;
    for word in rest {
        let word = word
            .into_string()
            .map_err(|w| Failure::usage(format!("{w:?} is not valid UTF-8")))?;
        parsed.args.push(word);
    }
    if parsed.help {
        print_command_help(name, command);
        return Ok(0);
    }
    if command.launches {
        seal::ensure(name, &context.words)?;
    }
    (command.run)(&context, &parsed)
}

fn context(global: &Parsed, words: Vec<OsString>, log: &mut Log) -> Result<Context, Failure> {
    log.file = global
        .text("log")
        .filter(|f| !f.is_empty())
        .map(PathBuf::from);
    log.debug = global.on("debug");
    log.json = match global.text("log-format") {
        None | Some("text" | "") => false,
        Some("json") => true,
        Some(other) => return Err(Failure::usage(format!("unknown log-format {other:?}"))),
    };
    let systemd = global.on("systemd-cgroup") || global.text("cgroup-manager") == Some("systemd");
    let rootless = match global.text("rootless") {
        None | Some("auto") => is_rootless(),
        Some("true") => true,
        Some("false") => false,
        Some(other) => {
            return Err(Failure::usage(format!(
                "invalid value {other:?} for --rootless"
            )));
        }
    };
    Ok(Context {
        words,
        root: global
            .text("root")
            .map_or_else(|| default_root(rootless), PathBuf::from),
        systemd,
        rootless,
        log: log.clone(),
    })
}

/// Not root, or root of a user namespace that knows more users: then the host's root is somebody else.
fn is_rootless() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let all = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    !std::fs::read_to_string("/proc/self/uid_map").is_ok_and(all)
}

/// Below a user's own runtime directory when we are that user.
fn default_root(rootless: bool) -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty() && rootless);
    own.map_or_else(|| PathBuf::from("/run"), PathBuf::from)
        .join("wharf-runtime")
}

/// Tools look for the last line.
fn print_version(name: &str) {
    println!("{name} version {}", env!("CARGO_PKG_VERSION"));
    println!("spec: {}", features::SPEC_VERSION);
}

fn print_help(name: &str) {
    println!("Usage: {name} [OPTIONS] COMMAND [ARGS]\n\nAn OCI runtime.\n\nCommands:");
    for command in COMMANDS {
        println!("  {:<10} {}", command.name, command.help);
    }
    println!("\nOptions:");
    print_flags(GLOBAL);
}

fn print_command_help(name: &str, command: &Command) {
    println!(
        "Usage: {name} {} [OPTIONS] {}\n\n{}",
        command.name, command.args, command.help
    );
    if !command.flags.is_empty() {
        println!("\nOptions:");
        print_flags(command.flags);
    }
}

fn print_flags(flags: &[Flag]) {
    for flag in flags {
        let short = flag
            .short
            .map_or_else(|| "    ".into(), |s| format!("-{s}, "));
        let value = flag.value.map_or_else(String::new, |v| format!(" {v}"));
        println!(
            "  {short}{:<28} {}",
            format!("--{}{value}", flag.name),
            flag.help
        );
    }
}
