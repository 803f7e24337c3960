//! The pid file: one daemon per path.

use std::io;
use std::path::{Path, PathBuf};

/// Why the file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    /// Another daemon runs.
    #[error("process with PID {0} is still running")]
    Running(i32),
    /// A file operation failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A pid file that is ours; gone when dropped.
#[derive(Debug)]
pub struct Pidfile(Option<PathBuf>);

impl Pidfile {
    /// Writes our pid, unless the file names a process that lives. An empty path is no pid file.
    pub fn take(path: impl AsRef<Path>) -> Result<Pidfile, PidfileError> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Ok(Pidfile(None));
        }
        if let Some(pid) = read_pid(path)?.filter(|pid| is_alive(*pid)) {
            return Err(PidfileError::Running(pid));
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, std::process::id().to_string())?;
        Ok(Pidfile(Some(path.to_owned())))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // A stale file is found out by the next daemon.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn read_pid(path: &Path) -> io::Result<Option<i32>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a process of that pid exists, is not us (a restart in the same container has our old pid) and is no zombie.
fn is_alive(pid: i32) -> bool {
    if pid <= 0 || u32::try_from(pid) == Ok(std::process::id()) {
        return false;
    }
    // The state is the first field behind the name, which is in parentheses and may hold anything.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_pid_is_refused_and_stale_one_replaced() {
        let dir = std::env::temp_dir().join(format!("wharf-pidfile-{}", std::process::id()));
        let path = dir.join("d.pid");
        let taken = Pidfile::take(&path).expect("free");
        assert_eq!(
            read_pid(&path).expect("readable"),
            i32::try_from(std::process::id()).ok()
        );
        // Init always lives.
        std::fs::write(&path, "1").expect("writable");
        assert!(matches!(
            Pidfile::take(&path),
            Err(PidfileError::Running(1))
        ));
        // Above any pid_max.
        std::fs::write(&path, "2147483647").expect("writable");
        assert!(Pidfile::take(&path).is_ok());
        drop(taken);
        assert!(!path.exists());
        std::fs::remove_dir(&dir).expect("empty");
    }
}
