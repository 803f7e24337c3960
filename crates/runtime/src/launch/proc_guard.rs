//! What may be mounted over the container's `/proc`: hardly anything.
//!
//! Later steps, and every exec, write labels and parameters to files of `/proc/self` and `/proc/sys`. Mounts over these would send
//! what is written elsewhere (CVE-2019-16884, CVE-2025-52881). The list of exceptions is runc's: files that lxcfs and
//! its like replace.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};

const HARMLESS: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Refuses `tree` as a mount at `path`, found at `target`, if that is part of procfs, or `/proc` itself and the tree is something else.
pub(super) fn check(path: &str, target: impl AsFd, tree: impl AsFd) -> io::Result<()> {
    let path = clean(path);
    if path == "/proc" {
        return match is_proc(tree)? {
            true => Ok(()),
            false => Err(io::Error::other(
                "it cannot be mounted because it is not of type proc",
            )),
        };
    }
    // The descriptor is what counts: a link in the image may lead there.
    if is_proc(target)? && !HARMLESS.contains(&path.as_str()) {
        return Err(io::Error::other(
            "it cannot be mounted because it is inside /proc",
        ));
    }
    Ok(())
}

fn is_proc(fd: impl AsFd) -> io::Result<bool> {
    Ok(fstatfs(fd)?.f_type == PROC_SUPER_MAGIC)
}

/// Without empty and relative parts; the path is absolute inside the root.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn only_harmless_files_of_proc_are_covered() {
        let file = || File::open("/etc/hostname").expect("there");
        let proc = || File::open("/proc/uptime").expect("there");
        for (path, target, tree, allowed) in [
            ("/proc/uptime", proc(), file(), true),
            ("//proc/./uptime", proc(), file(), true),
            ("/proc/self/attr/exec", proc(), file(), false),
            ("/a/link/to/proc", proc(), file(), false),
            ("/bin/../proc", file(), file(), false),
            ("/proc", file(), proc(), true),
            ("/data", file(), file(), true),
        ] {
            assert_eq!(check(path, target, tree).is_ok(), allowed, "{path}");
        }
    }
}
