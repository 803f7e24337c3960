//! Docker's user text, resolved in the image's own `/etc/passwd` and `/etc/group`.

use std::io::Read;

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use super::{LaunchError, LaunchErrorKind};
use crate::plan::{UserPlan, UserSpec};

/// Longest user database we read; the image is not trusted.
const MAX_DATABASE: u64 = 16 << 20;
/// The highest number the kernel takes for a user or group here.
const MAX_ID: i64 = i32::MAX as i64;

/// Who to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Resolves inside the container: the root is already `/`.
pub(super) fn resolve(plan: &UserPlan) -> Result<Identity, LaunchError> {
    resolve_in(plan, |path| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(open(path, flags, Mode::empty())?)
    })
}

/// Resolves with databases that `open` opens.
pub(super) fn resolve_in(
    plan: &UserPlan,
    open: impl Fn(&str) -> std::io::Result<OwnedFd>,
) -> Result<Identity, LaunchError> {
    let passwd = read_database(open("/etc/passwd"));
    match plan {
        UserPlan::Ids { uid, gid, groups } => {
            let home = find_user(&passwd, *uid).map_or_else(|| "/".into(), |u| u.home.to_string());
            Ok(Identity {
                uid: *uid,
                gid: *gid,
                groups: groups.clone(),
                home,
            })
        }
        UserPlan::Lookup(spec) => lookup(spec, &passwd, &read_database(open("/etc/group"))),
    }
}

/// A missing database is an empty one. Only regular files are read: a FIFO would block for ever.
fn read_database(file: std::io::Result<OwnedFd>) -> String {
    let read = || -> std::io::Result<String> {
        let fd = file?;
        let mut bytes = Vec::new();
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::RegularFile {
            std::fs::File::from(fd)
                .take(MAX_DATABASE)
                .read_to_end(&mut bytes)?;
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

#[derive(Debug, Clone, Copy)]
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

#[derive(Debug, Clone, Copy)]
struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(|line| {
            let mut f = line.split(':');
            let name = f.next().unwrap_or("");
            let mut number = |skip| f.nth(skip).and_then(|n: &str| n.parse().ok()).unwrap_or(0);
            let (uid, gid) = (number(1), number(0));
            PasswdEntry {
                name,
                uid,
                gid,
                home: f.nth(1).unwrap_or(""),
            }
        })
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(|line| {
            let mut f = line.split(':');
            let name = f.next().unwrap_or("");
            let gid = f.nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
            GroupEntry {
                name,
                gid,
                members: f.next().unwrap_or(""),
            }
        })
}

fn find_user(passwd: &str, uid: u32) -> Option<PasswdEntry<'_>> {
    passwd_entries(passwd).find(|u| u.uid == uid)
}

/// User and group alone.
pub(crate) fn owner_of(user: &str, passwd: &str, group: &str) -> Result<(u32, u32), LaunchError> {
    let spec = UserSpec {
        user: user.to_owned(),
        additional_groups: Vec::new(),
    };
    lookup(&spec, passwd, group).map(|identity| (identity.uid, identity.gid))
}

/// Docker's rules (`moby/sys/user`, `GetExecUser`): a name or number found in passwd brings its group and home; a
/// number that is not found stands for itself with group 0; supplementary groups are read from the group file only
/// when no group was given.
fn lookup(spec: &UserSpec, passwd: &str, group: &str) -> Result<Identity, LaunchError> {
    let (user, group_name) = spec.user.split_once(':').unwrap_or((&spec.user, ""));
    let number = parse_id(user, "uids and gids must be in range 0-2147483647")?;
    let matches = |u: &PasswdEntry<'_>| match user {
        "" => u.uid == 0,
        _ => u.name == user || number == Some(u.uid),
    };
    let mut identity = Identity {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        home: "/".into(),
    };
    let found = passwd_entries(passwd).find(matches);
    match (found, number) {
        (Some(u), _) => {
            (identity.uid, identity.gid, identity.home) = (u.uid, u.gid, u.home.to_string())
        }
        (None, Some(uid)) => identity.uid = uid,
        (None, None) if user.is_empty() => {}
        (None, None) => return Err(no_user(user)),
    }
    if group_name.is_empty() {
        let name = found.map_or("", |u| u.name);
        let is_member =
            |g: &GroupEntry<'_>| !name.is_empty() && g.members.split(',').any(|m| m == name);
        identity.groups = group_entries(group)
            .filter(is_member)
            .map(|g| g.gid)
            .collect();
    } else {
        identity.gid = find_group(group, group_name)?;
    }
    for extra in &spec.additional_groups {
        let gid = find_group(group, extra)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    // The primary group is always among the supplementary ones, or a file's "group may not" could be evaded by
    // giving that group up (CVE-2022-36109).
    identity.groups.retain(|g| *g != identity.gid);
    identity.groups.insert(0, identity.gid);
    Ok(identity)
}

/// `Ok(None)` for what is not a number.
fn parse_id(text: &str, range: &str) -> Result<Option<u32>, LaunchError> {
    match text.parse::<i64>() {
        Ok(n) if (0..=MAX_ID).contains(&n) => Ok(u32::try_from(n).ok()),
        Ok(_) => Err(user_error(range.into())),
        Err(_) => Ok(None),
    }
}

fn find_group(group: &str, wanted: &str) -> Result<u32, LaunchError> {
    let number = parse_id(wanted, "uids and gids must be in range 0-2147483647")?;
    let found = group_entries(group).find(|g| g.name == wanted || number == Some(g.gid));
    match (found, number) {
        (Some(g), _) => Ok(g.gid),
        (None, Some(gid)) => Ok(gid),
        (None, None) => Err(user_error(format!(
            "unable to find group {wanted}: no matching entries in group file"
        ))),
    }
}

fn no_user(user: &str) -> LaunchError {
    user_error(format!(
        "unable to find user {user}: no matching entries in passwd file"
    ))
}

fn user_error(message: String) -> LaunchError {
    LaunchError {
        kind: LaunchErrorKind::User,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/false\n\n7:x:1007:7:odd:/odd:/x\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\nssl:x:101:www,other\nvideo:x:44:www\n";

    fn find(user: &str, groups: &[&str]) -> Result<Identity, String> {
        let spec = UserSpec {
            user: user.into(),
            additional_groups: groups.iter().map(|g| (*g).to_string()).collect(),
        };
        lookup(&spec, PASSWD, GROUP).map_err(|e| e.message)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let id = |uid, gid, groups: &[u32], home: &str| {
            Ok(Identity {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.into(),
            })
        };
        for (user, groups, expected) in [
            ("", &[][..], id(0, 0, &[0], "/root")),
            ("www", &[], id(33, 33, &[33, 101, 44], "/var/www")),
            ("33", &[], id(33, 33, &[33, 101, 44], "/var/www")),
            ("www:ssl", &[], id(33, 101, &[101], "/var/www")),
            ("www:5", &[], id(33, 5, &[5], "/var/www")),
            ("4242", &[], id(4242, 0, &[0], "/")),
            ("4242:4243", &[], id(4242, 4243, &[4243], "/")),
            (
                "www",
                &["video", "9"],
                id(33, 33, &[33, 101, 44, 9], "/var/www"),
            ),
            // A user called by a number: its name is found before any number.
            ("7", &[], id(1007, 7, &[7], "/odd")),
        ] {
            assert_eq!(find(user, groups), expected, "{user}");
        }
    }

    #[test]
    fn unknown_names_are_dockers_errors() {
        for (user, groups, expected) in [
            (
                "nobody",
                &[][..],
                "unable to find user nobody: no matching entries in passwd file",
            ),
            (
                "www:nogroup",
                &[],
                "unable to find group nogroup: no matching entries in group file",
            ),
            (
                "www",
                &["nogroup"],
                "unable to find group nogroup: no matching entries in group file",
            ),
            (
                "4294967295",
                &[],
                "uids and gids must be in range 0-2147483647",
            ),
        ] {
            assert_eq!(find(user, groups), Err(expected.to_string()), "{user}");
        }
    }
}
