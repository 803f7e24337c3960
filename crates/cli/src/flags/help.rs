//! The help text of the program, of a group and of a command, laid out as Docker's.

use super::spec::{Command, Flag};
use crate::commands::{self, Group};

/// Where lines are broken when nothing says how wide the terminal is.
const WIDTH: usize = 80;

/// Help of one command.
pub fn command(program: &str, path: &str, command: &Command) -> String {
    let mut out = format!(
        "{}\n\n{}\n",
        usage_line(program, path, command),
        command.about
    );
    if command.paths.len() > 1 {
        let names: Vec<String> = command
            .paths
            .iter()
            .map(|path| format!("{program} {path}"))
            .collect();
        out.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    let flags: Vec<&Flag> = command.all_flags().filter(|flag| !flag.hidden).collect();
    if !flags.is_empty() {
        out.push_str(&format!("\nOptions:\n{}", options(&flags)));
    }
    out
}

/// `Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]`
pub fn usage_line(program: &str, path: &str, command: &Command) -> String {
    let line = format!("Usage:  {program} {path} {}", command.usage);
    line.trim_end().to_owned()
}

/// Help of a group of commands.
pub fn group(program: &str, group: &Group) -> String {
    let mut rows: Vec<(&str, &str)> = commands::of_group(group.name)
        .map(|(name, command)| (name, command.about))
        .collect();
    rows.extend(commands::GROUPS.iter().filter_map(|inner| {
        let name = inner.name.strip_prefix(group.name)?.strip_prefix(' ')?;
        Some((name, inner.about))
    }));
    rows.sort_unstable();
    format!(
        "Usage:  {program} {name} COMMAND\n\n{about}\n\nCommands:\n{rows}\n\
         Run '{program} {name} COMMAND --help' for more information on a command.\n",
        name = group.name,
        about = group.about,
        rows = two_columns(&rows),
    )
}

/// Help of the whole program.
pub fn program(program: &str, globals: &[&'static Flag]) -> String {
    let mut groups: Vec<(&str, &str)> = commands::GROUPS
        .iter()
        .filter(|group| !group.name.contains(' '))
        .map(|group| (group.name, group.about))
        .collect();
    if program == "wharf" {
        // A program of its own, which Docker does not have.
        groups.push(("registry", "Run a registry of images"));
        groups.sort_unstable();
    }
    let (common, other): (Vec<_>, Vec<_>) = commands::top_level()
        .map(|(name, command)| (name, command.about))
        .partition(|(name, _)| commands::COMMON.contains(name));
    let shown: Vec<&Flag> = globals
        .iter()
        .copied()
        .filter(|flag| !flag.hidden)
        .collect();
    format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nA container engine\n\nCommon Commands:\n{}\nManagement Commands:\n{}\n\
         Commands:\n{}\nGlobal Options:\n{}\nRun '{program} COMMAND --help' for more information on a command.\n",
        two_columns(&common),
        two_columns(&groups),
        two_columns(&other),
        options(&shown),
    )
}

fn two_columns(rows: &[(&str, &str)]) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max(11);
    rows.iter()
        .map(|(name, about)| format!("  {name:width$} {about}\n"))
        .collect()
}

/// The table of flags, by name.
fn options(flags: &[&Flag]) -> String {
    let mut flags = flags.to_vec();
    flags.sort_by_key(|flag| flag.name);
    let heads: Vec<String> = flags.iter().map(|flag| head(flag)).collect();
    let indent = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut out = String::new();
    for (flag, head) in flags.iter().zip(&heads) {
        let mut about = flag.about.to_owned();
        if !flag.default.is_empty() {
            about.push_str(&format!(" (default {})", flag.default));
        }
        let lines = wrap(&about, WIDTH.saturating_sub(indent).max(24));
        out.push_str(&format!("{head:width$}{}\n", lines[0], width = indent));
        for line in &lines[1..] {
            out.push_str(&format!("{:indent$}{line}\n", ""));
        }
    }
    out
}

fn head(flag: &Flag) -> String {
    let letter = flag
        .short
        .map_or("    ".to_owned(), |letter| format!("-{letter}, "));
    format!("  {letter}--{} {}", flag.name, flag.value)
        .trim_end()
        .to_owned()
}

/// Breaks at blanks; keeps the line breaks of the text.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::spec::{switch, text};
    use super::*;

    #[test]
    fn options_are_sorted_and_aligned() {
        let (all, filter) = (
            switch("all", "Show all").short('a'),
            text("filter", "Keep what fits").default("\"x\""),
        );
        assert_eq!(
            options(&[&filter, &all]),
            "  -a, --all             Show all\n      --filter string   Keep what fits (default \"x\")\n"
        );
    }

    #[test]
    fn long_texts_break_at_blanks() {
        assert_eq!(wrap("aaa bbb ccc", 7), ["aaa bbb", "ccc"]);
    }
}
