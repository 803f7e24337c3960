//! What a daemon may have left on the machine: processes, mounts, interfaces, cgroups.

use std::fs;
use std::path::{Path, PathBuf};

use crate::netns::processes;

/// Mount points below a directory, innermost last.
#[must_use]
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo is readable");
    let prefix = format!("{}/", dir.display());
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|p| p.starts_with(&prefix) || Path::new(p) == dir)
        .map(str::to_owned)
        .collect()
}

/// Directories of the cgroup parent `name` in every hierarchy.
#[must_use]
pub fn cgroup_parents(name: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo is readable");
    let is_cgroup = |line: &&str| {
        line.split(" - ")
            .nth(1)
            .is_some_and(|tail| tail.starts_with("cgroup"))
    };
    let roots = table
        .lines()
        .filter(is_cgroup)
        .filter_map(|line| line.split(' ').nth(4));
    roots
        .map(|root| Path::new(root).join(name))
        .filter(|p| p.is_dir())
        .collect()
}

/// Cgroups below the parents, which must all be gone once no container runs.
#[must_use]
pub fn cgroups_below(name: &str) -> Vec<PathBuf> {
    cgroup_parents(name)
        .iter()
        .flat_map(|parent| child_dirs(parent))
        .collect()
}

/// Processes in any cgroup below the parents.
#[must_use]
pub fn processes_in_cgroups(name: &str) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    let mut todo = cgroup_parents(name);
    while let Some(dir) = todo.pop() {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(
            text.lines()
                .filter_map(|l| l.parse::<u32>().ok())
                .filter(|pid| *pid != 0),
        );
        todo.extend(child_dirs(&dir));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Removes the cgroup parents and what is below them.
pub fn remove_cgroups(name: &str) {
    for parent in cgroup_parents(name) {
        remove_tree(&parent);
    }
}

fn remove_tree(dir: &Path) {
    for child in child_dirs(dir) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(dir);
}

fn child_dirs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

/// Dead children that one of `parents` has not collected.
#[must_use]
pub fn zombies_of(parents: &[u32]) -> Vec<u32> {
    let is_zombie = |pid: &u32| {
        state_and_parent(*pid)
            .is_some_and(|(state, parent)| state == 'Z' && parents.contains(&parent))
    };
    processes().into_iter().filter(is_zombie).collect()
}

/// State letter and parent of a process.
#[must_use]
pub fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// One line about a process for a failure message.
#[must_use]
pub fn describe(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let (state, parent) = state_and_parent(pid).unwrap_or(('?', 0));
    format!("{pid} (state {state}, parent {parent}): {command}")
}
