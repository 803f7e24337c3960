//! Running the programs.

use std::io::Write;
use std::process::{Command, Stdio};

use super::plan::Family;
use crate::error::{NetworkError, Step};

/// Where distributions put them, whatever the daemon's `PATH` is.
const PATH: &str = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin";

/// All rules, as `iptables-save` prints them.
pub(super) fn save(family: Family) -> Result<String, NetworkError> {
    let name = format!("{}-save", family.program());
    let output = command(&name)
        .stdin(Stdio::null())
        .output()
        .step(|| format!("run {name} (--firewall-backend=nftables does without)"))?;
    if !output.status.success() {
        return Err(failure(&name, &output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Applies a script without touching other rules; waits for others that change rules.
pub(super) fn restore(family: Family, script: &str) -> Result<(), NetworkError> {
    let name = format!("{}-restore", family.program());
    let mut child = command(&name)
        .args(["--noflush", "--wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .step(|| format!("run {name}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ends early says why on its way out.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child
        .wait_with_output()
        .step(|| format!("wait for {name}"))?;
    if !output.status.success() {
        tracing::debug!(script, "refused by {name}");
        return Err(failure(&name, &output.stderr));
    }
    Ok(())
}

fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", PATH);
    command
}

fn failure(name: &str, stderr: &[u8]) -> NetworkError {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    NetworkError::io(
        format!("{name} failed"),
        std::io::Error::other(text.to_owned()),
    )
}
