//! A named network namespace, so that several daemons with bridges and firewalls don't meet.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Created with loopback up, deleted on drop.
#[derive(Debug)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes `/run/netns/<name>`.
    #[must_use]
    pub fn create(name: &str) -> NetNs {
        ip(&["netns", "add", name]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        NetNs {
            name: name.to_owned(),
        }
    }

    /// The file that names it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that runs `program` inside. The process keeps its id: `nsenter` replaces itself.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg(program);
        command
    }

    /// Processes whose network namespace this is.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let Ok(me) = self.path().metadata() else {
            return Vec::new();
        };
        let lives_here = |pid: &u32| {
            Path::new(&format!("/proc/{pid}/ns/net"))
                .metadata()
                .is_ok_and(|m| m.ino() == me.ino())
        };
        processes().into_iter().filter(lives_here).collect()
    }

    /// Interfaces other than the loopback and the default bridge.
    #[must_use]
    pub fn interfaces(&self) -> Vec<String> {
        self.links(|_| true)
    }

    /// Those of them that are ports of a bridge.
    #[must_use]
    pub fn bridge_ports(&self) -> Vec<String> {
        self.links(|line| line.contains(" master "))
    }

    fn links(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let output = Command::new("ip")
            .args(["-n", &self.name, "-o", "link"])
            .output()
            .expect("ip runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let wanted = text.lines().filter(|line| is_wanted(line));
        let names = wanted
            .filter_map(|line| line.split(": ").nth(1))
            .map(|n| n.split('@').next().unwrap_or(n).to_owned());
        names.filter(|n| !is_permanent(n)).collect()
    }
}

/// The kernel may put tunnel fallback devices into each new namespace.
fn is_permanent(name: &str) -> bool {
    name == "lo"
        || name == "docker0"
        || name.ends_with('0')
            && [
                "tunl", "sit", "gre", "gretap", "erspan", "ip_vti", "ip6_vti", "ip6tnl", "ip6gre",
            ]
            .contains(&name.trim_end_matches('0'))
}

/// Every process id there is.
#[must_use]
pub fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is readable");
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .stderr(Stdio::null())
            .status();
    }
}

fn ip(args: &[&str]) {
    let status = Command::new("ip")
        .args(args)
        .status()
        .expect("ip (iproute2) runs");
    assert!(status.success(), "ip {args:?}: {status}");
}
