//! Finding the program, with the messages of Go's `os/exec`, which runc and Docker hand to their users.

use std::ffi::CString;
use std::io;

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use crate::launch::{LaunchError, LaunchErrorKind, errno_text};

/// `PATH` of an environment; none is an empty one.
pub(super) fn search_path(env: &[String]) -> &str {
    env.iter()
        .rev()
        .find_map(|e| e.strip_prefix("PATH="))
        .unwrap_or("")
}

/// Resolves `argv[0]` from inside the container, as the container's user.
pub(super) fn find(name: &str, path: &str) -> Result<CString, LaunchError> {
    let c_string = |p: &str| {
        CString::new(p).map_err(|_| LaunchError::setup("program name contains a NUL byte"))
    };
    if name.contains('/') {
        return match check(name) {
            Ok(()) => c_string(name),
            Err(e) => Err(refused(name, &e)),
        };
    }
    for dir in path.split(':').filter(|_| !path.is_empty()) {
        let candidate = if dir.is_empty() {
            format!("./{name}")
        } else {
            format!("{}/{name}", dir.trim_end_matches('/'))
        };
        if check(&candidate).is_ok() {
            return c_string(&candidate);
        }
    }
    Err(LaunchError {
        kind: LaunchErrorKind::NotFound,
        message: format!("exec: {name:?}: executable file not found in $PATH"),
    })
}

/// Why a file cannot be executed.
#[derive(Debug)]
enum Refusal {
    Stat(Errno),
    Directory,
    Permission,
}

fn check(file: &str) -> Result<(), Refusal> {
    let stat = stat(file).map_err(Refusal::Stat)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Refusal::Directory);
    }
    // Root may execute only what somebody may: the kernel's rule is in this call.
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).map_err(|_| Refusal::Permission)
}

fn refused(name: &str, refusal: &Refusal) -> LaunchError {
    let (kind, reason) = match refusal {
        Refusal::Stat(e) => {
            let kind = match *e {
                Errno::ACCESS => LaunchErrorKind::NotExecutable,
                Errno::NOTDIR => LaunchErrorKind::NotExecutable,
                _ => LaunchErrorKind::NotFound,
            };
            (
                kind,
                format!("stat {name}: {}", errno_text(&io::Error::from(*e))),
            )
        }
        Refusal::Directory => (LaunchErrorKind::NotExecutable, "is a directory".to_string()),
        Refusal::Permission => (
            LaunchErrorKind::NotExecutable,
            "permission denied".to_string(),
        ),
    };
    LaunchError {
        kind,
        message: format!("exec: {name:?}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_go() {
        for (name, kind, message) in [
            (
                "no-such-program",
                LaunchErrorKind::NotFound,
                "exec: \"no-such-program\": executable file not found in $PATH",
            ),
            (
                "/no/such",
                LaunchErrorKind::NotFound,
                "exec: \"/no/such\": stat /no/such: no such file or directory",
            ),
            (
                "/etc/passwd",
                LaunchErrorKind::NotExecutable,
                "exec: \"/etc/passwd\": permission denied",
            ),
            (
                "/etc",
                LaunchErrorKind::NotExecutable,
                "exec: \"/etc\": is a directory",
            ),
            (
                "/etc/passwd/x",
                LaunchErrorKind::NotExecutable,
                "exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory",
            ),
        ] {
            let error = find(name, "/usr/bin:/bin").expect_err(name);
            assert_eq!((error.kind, error.message.as_str()), (kind, message));
        }
        assert_eq!(
            find("sh", "/nowhere:/bin").expect("every system has it"),
            c"/bin/sh".to_owned()
        );
    }

    #[test]
    fn the_last_path_wins_and_none_finds_nothing() {
        assert_eq!(search_path(&["PATH=/a".into(), "PATH=/b".into()]), "/b");
        assert!(find("sh", search_path(&[])).is_err());
    }
}
