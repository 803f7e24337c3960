//! Shell completions, generated from the command table.

use clap::{Arg, ArgAction};

use super::spec::{Flag, Kind};
use crate::commands;

/// Shells that [`script`] writes for.
pub const SHELLS: [&str; 4] = ["bash", "elvish", "fish", "zsh"];

/// The completion script for a shell, `None` if the shell is not known.
pub fn script(program: &'static str, shell: &str, globals: &[&'static Flag]) -> Option<Vec<u8>> {
    let shell: clap_complete::Shell = shell.parse().ok()?;
    let mut tree = tree(program, globals);
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut tree, program, &mut out);
    Some(out)
}

fn tree(program: &'static str, globals: &[&'static Flag]) -> clap::Command {
    let groups = commands::GROUPS.iter().map(|group| {
        clap::Command::new(group.name)
            .about(group.about)
            .subcommands(commands::of_group(group.name).map(|(name, command)| node(name, command)))
    });
    let top = commands::top_level().map(|(name, command)| node(name, command));
    clap::Command::new(program)
        .args(globals.iter().map(|flag| arg(flag)))
        .subcommands(groups)
        .subcommands(top)
}

fn node(name: &'static str, command: &commands::Command) -> clap::Command {
    clap::Command::new(name)
        .about(command.about)
        .disable_help_flag(true)
        .args(command.all_flags().filter(|flag| !flag.hidden).map(arg))
}

fn arg(flag: &Flag) -> Arg {
    let action = match flag.kind {
        Kind::Bool => ArgAction::SetTrue,
        Kind::List => ArgAction::Append,
        Kind::Text | Kind::Int => ArgAction::Set,
    };
    let mut arg = Arg::new(flag.name)
        .long(flag.name)
        .help(flag.about)
        .action(action);
    if let Some(letter) = flag.short {
        arg = arg.short(letter);
    }
    arg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_names_the_commands() {
        for shell in SHELLS {
            let script =
                String::from_utf8(script("wharf", shell, &[]).expect("known")).expect("text");
            assert!(
                script.contains("container") && script.contains("publish"),
                "{shell}"
            );
        }
        assert!(script("wharf", "tcl", &[]).is_none());
    }
}
