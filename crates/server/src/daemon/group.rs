//! Names of groups and users without NSS: a static binary reads `/etc/group` and `/etc/passwd` itself.

use std::io;
use std::path::Path;

/// The gid of a group given by name or number; `None` when there is no such group.
pub fn gid_of(group: &str) -> io::Result<Option<u32>> {
    lookup(group, Path::new("/etc/group"))
}

/// The uid of a user given by name or number; `None` when there is no such user.
pub fn uid_of(user: &str) -> io::Result<Option<u32>> {
    lookup(user, Path::new("/etc/passwd"))
}

/// Both files have the number third.
fn lookup(wanted: &str, file: &Path) -> io::Result<Option<u32>> {
    let text = match std::fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let named = text.lines().find_map(|line| {
        // name:password:number:…
        let mut fields = line.split(':');
        (fields.next() == Some(wanted))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    Ok(named.or_else(|| wanted.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_or_number() {
        let dir = std::env::temp_dir().join(format!("wharf-group-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("scratch");
        let file = dir.join("group");
        std::fs::write(&file, "root:x:0:\ndocker:x:999:a,b\nbroken\n").expect("scratch");
        for (group, expected) in [
            ("docker", Some(999)),
            ("root", Some(0)),
            ("1234", Some(1234)),
            ("dock", None),
            ("broken", None),
        ] {
            assert_eq!(lookup(group, &file).expect("readable"), expected, "{group}");
        }
        std::fs::remove_dir_all(&dir).expect("ours");
    }
}
