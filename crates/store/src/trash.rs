//! Directories on their way out: renamed away at once, deleted a moment later by threads of their own.
//!
//! Freeing a directory can take a file system milliseconds (ext4 with online discard: 2 ms each, a container has five), renaming
//! one takes microseconds. What a kill leaves here is deleted when the store is opened again.

use std::io;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Deleting mostly waits: a few threads keep up with any rate of containers.
const THREADS: usize = 4;

/// The way out.
#[derive(Debug)]
pub(crate) struct Trash {
    dir: PathBuf,
    queue: Sender<PathBuf>,
}

impl Trash {
    /// Opens or creates the directory, on the file system of what will be thrown away. Left-overs are deleted without waiting.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Trash> {
        std::fs::create_dir_all(&dir)?;
        let (queue, jobs) = unbounded::<PathBuf>();
        for entry in std::fs::read_dir(&dir)?.flatten() {
            // The receiver is in our hands.
            let _ = queue.send(entry.path());
        }
        for _ in 0..THREADS {
            let jobs: Receiver<PathBuf> = jobs.clone();
            std::thread::Builder::new()
                .name("trash".into())
                .spawn(move || jobs.iter().for_each(|path| delete(&path)))?;
        }
        Ok(Trash { dir, queue })
    }

    /// Takes a directory away from where it is. What is not there is fine.
    pub(crate) fn discard(&self, path: &Path) -> io::Result<()> {
        let name = crate::store::new_link().map_err(io::Error::other)?;
        let out = self.dir.join(name);
        match std::fs::rename(path, &out) {
            Ok(()) => {
                // The threads live as long as this sender.
                let _ = self.queue.send(out);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // Another file system is mounted there.
            Err(_) => std::fs::remove_dir_all(path),
        }
    }
}

fn delete(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "not deleted; tried again at the next start");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_thrown_away_is_gone_at_once_and_deleted_in_the_end() {
        let dir = tempfile::tempdir().expect("dir");
        let bin = dir.path().join("trash");
        std::fs::create_dir_all(bin.join("left-over/deep")).expect("create");
        let victim = dir.path().join("victim");
        std::fs::create_dir_all(victim.join("a/b")).expect("create");
        let trash = Trash::open(bin.clone()).expect("open");
        trash.discard(&victim).expect("discard");
        trash.discard(&victim).expect("nothing there is fine");
        assert!(!victim.exists());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_dir(&bin).expect("read").next().is_some() {
            assert!(std::time::Instant::now() < deadline, "still there");
            std::thread::yield_now();
        }
    }
}
