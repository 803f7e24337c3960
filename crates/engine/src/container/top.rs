//! `GET /containers/{id}/top`: the host's `ps`, cut down to the container (moby `daemon/top_unix.go`).

use std::process::Command;

use wharf_api::container::TopResponse;

use crate::{Engine, Error, Result};

impl Engine {
    /// Lists a container's processes. Empty `ps_args` is `-ef`.
    pub async fn container_top(&self, name: &str, ps_args: &str) -> Result<TopResponse> {
        let ps_args = if ps_args.is_empty() { "-ef" } else { ps_args };
        validate(ps_args)?;
        let container = self.containers.get(name)?;
        let live = container.running()?;
        let path = live.plan.cgroup.path.clone();
        let args: Vec<String> = ps_args.split(' ').map(str::to_owned).collect();
        let answer = crate::blocking(move || {
            let pids = path
                .pids()
                .map_err(|error| Error::caused("list processes", error))?;
            parse(&run_ps(&args, &pids)?, &pids)
        })
        .await?;
        self.tell(&container, "top", &[]);
        Ok(answer)
    }
}

/// Refuses to rename the pid column to something that looks like another (CVE-2018-like confusion in moby).
fn validate(args: &str) -> Result<()> {
    for word in args.split_whitespace().skip(1) {
        if let Some((key, value)) = word.split_once('=')
            && value.starts_with("PID")
            && key != "pid"
        {
            return Err(Error::internal(format!(
                "specifying \"{key}={value}\" is not allowed"
            )));
        }
    }
    Ok(())
}

/// With `-q` where that goes together with the arguments, else all processes.
fn run_ps(args: &[String], pids: &[i32]) -> Result<String> {
    let list = pids
        .iter()
        .map(i32::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let run = |extra: Option<String>| Command::new("ps").args(args).args(extra).output();
    let failed = |error| Error::caused("ps", error);
    let output = run(Some(format!("-q{list}"))).map_err(failed)?;
    let output = if output.status.success() {
        output
    } else {
        run(None).map_err(failed)?
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::internal(format!(
            "ps: {}",
            text.lines().next().unwrap_or("failed")
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse(output: &str, pids: &[i32]) -> Result<TopResponse> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    let column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::internal("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    // Threads (`-` in the pid column) belong to the process before them.
    let mut inside = false;
    for line in lines.filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let pid = fields.get(column).copied().unwrap_or_default();
        if pid != "-" {
            let pid: i32 = pid
                .parse()
                .map_err(|error| Error::internal(format!("Unexpected pid '{pid}': {error}")))?;
            inside = pids.contains(&pid);
        }
        if inside && fields.len() >= titles.len() {
            let (head, last) = fields.split_at(titles.len() - 1);
            let mut row: Vec<String> = head.iter().map(|field| (*field).to_owned()).collect();
            row.push(last.join(" "));
            processes.push(row);
        }
    }
    Ok(TopResponse { processes, titles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_kept() {
        let output = "UID PID CMD\nroot 1 init\nroot 7 sh -c x\nroot - thread\nroot 9 other\n";
        let answer = parse(output, &[7]).expect("parse");
        assert_eq!(answer.titles, ["UID", "PID", "CMD"]);
        assert_eq!(
            answer.processes,
            [["root", "7", "sh -c x"], ["root", "-", "thread"]]
        );
        assert!(parse("A B\n", &[]).is_err());
    }

    #[test]
    fn disguised_columns_are_refused() {
        assert!(validate("-eo pid=PID").is_ok());
        assert!(validate("-eo uid=PID").is_err());
    }
}
