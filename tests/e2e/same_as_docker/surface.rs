//! The list of commands and flags is made from the stock CLI's help, so that none can be forgotten.

use std::process::Command;

use wharf_e2e::cli::{Output, Running, docker_program};
use wharf_e2e::engine::wharf_program;

/// Swarm mode, which this engine does not have, and plugins of the CLI, which are programs of others.
const NOT_OURS: [&str; 9] = [
    "swarm", "node", "service", "stack", "secret", "config", "buildx", "compose", "scout",
];

/// Flags of cluster volumes, which belong to swarm mode.
const CLUSTER: [&str; 10] = [
    "availability",
    "group",
    "limit-bytes",
    "required-bytes",
    "scope",
    "secret",
    "sharing",
    "topology-preferred",
    "topology-required",
    "type",
];

#[test]
fn every_command_and_flag_of_the_stock_cli_is_known() {
    let mut missing = Vec::new();
    let (mut commands, mut flags) = (0, 0);
    let mut paths = vec![Vec::new()];
    while let Some(path) = paths.pop() {
        let help = Help::of(&path);
        commands += usize::from(help.commands.is_empty());
        for command in &help.commands {
            if path.is_empty() && NOT_OURS.contains(&command.as_str()) {
                continue;
            }
            paths.push([&path[..], std::slice::from_ref(command)].concat());
        }
        for flag in &help.flags {
            if path == ["volume", "create"] && CLUSTER.contains(&flag.name.as_str()) {
                continue;
            }
            flags += 1;
            if !flag.is_known(&path) {
                missing.push(format!("{} --{}", path.join(" "), flag.name));
            }
        }
        if help.commands.is_empty() && !is_command(&path) {
            missing.push(path.join(" "));
        }
    }
    println!("{commands} commands, {flags} flags");
    assert!(
        commands > 90 && flags > 600,
        "help was not understood: {commands} commands, {flags} flags"
    );
    assert!(missing.is_empty(), "not known: {missing:#?}");
}

fn is_command(path: &[String]) -> bool {
    let output = run(&mut wharf(path, &["--help"]));
    output.code == 0
        && output
            .stdout
            .starts_with(&format!("Usage:  wharf {}", path.join(" ")))
}

fn wharf(path: &[String], rest: &[&str]) -> Command {
    let mut command = Command::new(wharf_program());
    command.args(path).args(rest);
    command
}

fn run(command: &mut Command) -> Output {
    Running::start(command.env("DOCKER_HOST", "unix:///nowhere")).finish()
}

/// What the stock CLI says about a command or group.
struct Help {
    commands: Vec<String>,
    flags: Vec<Flag>,
}

struct Flag {
    name: String,
    takes_value: bool,
}

impl Help {
    fn of(path: &[String]) -> Help {
        let mut command = Command::new(docker_program());
        command.args(path).arg("--help");
        let output = run(&mut command);
        let mut help = Help {
            commands: Vec::new(),
            flags: Vec::new(),
        };
        let mut section = "";
        for line in output.stdout.lines().chain(output.stderr.lines()) {
            if line.ends_with(':') && !line.starts_with(' ') {
                section = line;
            } else if section.contains("ommands") {
                // `  ls          List contexts`, not further indented
                let name = line
                    .strip_prefix("  ")
                    .and_then(|rest| rest.split([' ', '*']).next());
                help.commands
                    .extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
            } else if section.contains("ptions") {
                help.flags.extend(Flag::read(line));
            }
        }
        help
    }
}

impl Flag {
    /// `  -f, --filter filter   Filter output` or `      --force   Do it`
    fn read(line: &str) -> Option<Flag> {
        let head = line.get(..6)?;
        let rest = line.get(6..)?.strip_prefix("--")?;
        if !head.starts_with("  ") {
            return None;
        }
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Flag {
            name: name.to_owned(),
            takes_value: !rest.is_empty() && !rest.starts_with(' '),
        })
    }

    /// Given with `--help` after it: a flag that is not known is refused first. Whether the value fits is of no interest.
    fn is_known(&self, path: &[String]) -> bool {
        let flag = format!("--{}", self.name);
        let rest: &[&str] = if self.takes_value {
            &[&flag, "1", "--help"]
        } else {
            &[&flag, "--help"]
        };
        let output = run(&mut wharf(path, rest));
        output.code == 0 || output.stderr.starts_with("invalid argument")
    }
}
