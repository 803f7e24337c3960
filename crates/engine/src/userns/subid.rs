//! `--userns-remap`: a user and a group of the host, whose subordinate ids (subuid(5), subgid(5)) containers get.

use std::fs;
use std::io::Write;
use std::process::Command;

use wharf_runtime::plan::{IdRange, Mappings};

/// The user that `default` stands for, Docker's.
const DEFAULT: &str = "dockremap";

/// Ids that a user without any is given.
const SIZE: u32 = 65_536;

/// Where those begin at the earliest (`SUB_UID_MIN` of login.defs(5)).
const MIN: u32 = 100_000;

/// Ids for all containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remap {
    /// Name of the user.
    pub user: String,
    /// The ids.
    pub mappings: Mappings,
}

/// The host's files, for tests to replace.
struct Files {
    passwd: String,
    group: String,
    subuid: String,
    subgid: String,
}

impl Remap {
    /// Resolves `default`, `user`, `uid`, `user:group` or `uid:gid` against the host's files. `default` makes the user it needs.
    pub fn resolve(value: &str) -> Result<Remap, String> {
        let name = if value == "default" {
            ensure_default()?;
            DEFAULT
        } else {
            value
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let files = Files {
            passwd: read("/etc/passwd"),
            group: read("/etc/group"),
            subuid: read("/etc/subuid"),
            subgid: read("/etc/subgid"),
        };
        resolve_in(name, &files)
    }

    /// Outside, whom root inside is.
    pub fn root(&self) -> (u32, u32) {
        let first = |ranges: &[IdRange]| ranges.first().map_or(0, |range| range.host);
        (first(&self.mappings.uids), first(&self.mappings.gids))
    }
}

fn resolve_in(value: &str, files: &Files) -> Result<Remap, String> {
    let (user, group) = value.split_once(':').unwrap_or((value, value));
    if user.is_empty() || group.is_empty() || group.contains(':') {
        return Err(format!(
            "invalid user/group specification in --userns-remap: {value:?}"
        ));
    }
    let (user, uid) = entry(&files.passwd, user)
        .ok_or_else(|| format!("user {user:?} of --userns-remap is not in /etc/passwd"))?;
    let (group, gid) = if value.contains(':') {
        entry(&files.group, group)
            .ok_or_else(|| format!("group {group:?} of --userns-remap is not in /etc/group"))?
    } else {
        // The group of the user's name, whose ranges are under the user's name as well.
        (user.clone(), uid)
    };
    let ranges = |text: &str, name: &str, id: u32, file: &str| {
        let ranges = subordinate(text, name, id);
        if ranges.is_empty() {
            return Err(format!(
                "no ranges for {name:?} of --userns-remap in {file}"
            ));
        }
        Ok(ranges)
    };
    Ok(Remap {
        mappings: Mappings {
            uids: ranges(&files.subuid, &user, uid, "/etc/subuid")?,
            gids: ranges(&files.subgid, &group, gid, "/etc/subgid")?,
        },
        user,
    })
}

/// Name and id of a line of passwd(5) or group(5), by either.
fn entry(text: &str, wanted: &str) -> Option<(String, u32)> {
    let number: Option<u32> = wanted.parse().ok();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        (name == wanted || number == Some(id)).then(|| (name.to_owned(), id))
    })
}

/// Lines of `name:first:count`, one after the other from id 0 on.
fn subordinate(text: &str, name: &str, id: u32) -> Vec<IdRange> {
    let id = id.to_string();
    let mut container: u32 = 0;
    let mut ranges = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let owner = fields.next().unwrap_or_default();
        let mut number = || fields.next().and_then(|field| field.parse::<u32>().ok());
        let (Some(host), Some(size)) = (number(), number()) else {
            continue;
        };
        if owner != name && owner != id {
            continue;
        }
        let Some(next) = container.checked_add(size).filter(|_| size > 0) else {
            break;
        };
        ranges.push(IdRange {
            container,
            host,
            size,
        });
        container = next;
    }
    ranges
}

/// Makes Docker's user with ranges of its own, where they are missing.
fn ensure_default() -> Result<(), String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if entry(&passwd, DEFAULT).is_none() {
        let made = Command::new("useradd")
            .args(["--system", "--user-group", "--no-create-home"])
            .args(["--shell", "/bin/false", DEFAULT])
            .output()
            .map_err(|error| format!("run useradd to make the user {DEFAULT}: {error}"))?;
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr);
            return Err(format!("useradd {DEFAULT}: {}", why.trim()));
        }
    }
    ["/etc/subuid", "/etc/subgid"]
        .into_iter()
        .try_for_each(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            match missing_line(&text) {
                None => Ok(()),
                Some(line) => append(path, &text, &line)
                    .map_err(|error| format!("add a range to {path}: {error}")),
            }
        })
}

/// The line that gives the default user ids, behind everybody else's.
fn missing_line(text: &str) -> Option<String> {
    let mut end = MIN;
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        if fields.next() == Some(DEFAULT) {
            return None;
        }
        let mut number = || fields.next().and_then(|field| field.parse::<u32>().ok());
        if let (Some(first), Some(count)) = (number(), number()) {
            end = end.max(first.saturating_add(count));
        }
    }
    Some(format!("{DEFAULT}:{end}:{SIZE}\n"))
}

fn append(path: &str, text: &str, line: &str) -> std::io::Result<()> {
    let mut file = fs::File::options().append(true).create(true).open(path)?;
    if !text.is_empty() && !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0::/:/bin/sh\nmap:x:107:108::/:/bin/false\n".into(),
            group: "root:x:0:\nmap:x:108:\nother:x:109:\n".into(),
            subuid: "map:100000:65536\nx:1:1\n107:300000:10\n".into(),
            subgid: "map:200000:65536\nother:400000:65536\n".into(),
        }
    }

    #[test]
    fn users_and_groups_are_resolved_by_name_or_number() {
        for value in ["map", "107", "map:map", "107:108"] {
            let remap = resolve_in(value, &files()).expect(value);
            assert_eq!(remap.root(), (100_000, 200_000), "{value}");
        }
        let remap = resolve_in("map:other", &files()).expect("valid");
        assert_eq!(remap.root(), (100_000, 400_000));
        let second = remap.mappings.uids[1];
        assert_eq!((second.container, second.host), (65_536, 300_000));
    }

    #[test]
    fn what_cannot_be_resolved_is_refused() {
        for (value, expected) in [
            ("nobody", "is not in /etc/passwd"),
            ("map:none", "is not in /etc/group"),
            ("a:b:c", "invalid user/group specification"),
            (":", "invalid user/group specification"),
            ("root", "no ranges"),
        ] {
            let text = resolve_in(value, &files()).expect_err(value);
            assert!(text.contains(expected), "{value}: {text}");
        }
    }

    #[test]
    fn the_default_user_gets_ids_that_nobody_has() {
        assert_eq!(
            missing_line("").as_deref(),
            Some("dockremap:100000:65536\n")
        );
        assert_eq!(
            missing_line("a:100000:65536\nb:165536:65536\n").as_deref(),
            Some("dockremap:231072:65536\n")
        );
        assert_eq!(missing_line("dockremap:5:5\n"), None);
    }
}
