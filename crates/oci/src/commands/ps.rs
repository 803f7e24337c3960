//! `ps`

use std::process::Command;

use serde_json::json;

use super::{Context, Done};
use crate::container::Container;
use crate::failure::{Context as _, Failure};
use crate::options::{Flag, Parsed, valued};

/// runc's.
pub const FLAGS: &[Flag] = &[valued("format", "FORMAT", "table or json").short('f')];

/// Lists a container's processes: what `ps` says of them, or their pids.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let Some((id, options)) = parsed.args.split_first() else {
        return Err(Failure::usage(
            "ps: at least 1 argument required, the container's ID",
        ));
    };
    let container = Container::load(&context.root, id)?;
    let pids = container.record.cgroup.pids()?;
    match parsed.text("format") {
        Some("json") => println!("{}", json!(pids)),
        None | Some("table") => print!("{}", table(options, &pids)?),
        Some(_) => return Err(Failure::usage("invalid format option")),
    }
    Ok(0)
}

fn table(options: &[String], pids: &[i32]) -> Result<String, Failure> {
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    }
    let output = command.args(options).output().context(|| "run ps".into())?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("ps: {}", why.trim())));
    }
    select(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The head, and the lines about `pids`.
fn select(text: &str, pids: &[i32]) -> Result<String, Failure> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or("");
    let column = head
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Failure::new("couldn't find PID field in ps output"))?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column);
        pid.and_then(|p| p.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(head)
        .chain(lines.filter(is_ours))
        .map(|line| format!("{line}\n"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::select;

    #[test]
    fn lines_are_chosen_by_the_pid_column() {
        let text = "UID PID CMD\nroot 7 seven\nroot 71 other 7\n";
        assert_eq!(
            select(text, &[7]).expect("valid"),
            "UID PID CMD\nroot 7 seven\n"
        );
        assert!(select("UID CMD\n", &[7]).is_err());
    }
}
