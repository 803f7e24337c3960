//! File systems of their own for drivers that need one, in a file.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wharf_e2e::deadline::{LONG, wait_until};

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A sparse file of `size` bytes.
fn image(path: &Path, size: u64) {
    let file = std::fs::File::create(path).expect("a file");
    file.set_len(size).expect("room");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A btrfs in a loop device.
pub(crate) struct Btrfs {
    dir: tempfile::TempDir,
}

impl Btrfs {
    pub(crate) fn create() -> Btrfs {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("image");
        image(&file, 1 << 30);
        run("mkfs.btrfs", &["-q", text(&file)]);
        let mount = dir.path().join("mount");
        std::fs::create_dir(&mount).expect("a directory");
        run("mount", &["-o", "loop", text(&file), text(&mount)]);
        Btrfs { dir }
    }

    /// For the daemon's data.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("mount/data")
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        run("umount", &["--lazy", text(&self.dir.path().join("mount"))]);
    }
}

/// A pool of `zfs-fuse`, with a daemon of its own unless one runs.
pub(crate) struct Zfs {
    pool: String,
    daemon: Option<Child>,
    /// Holds the pool's file.
    _dir: tempfile::TempDir,
    /// There is one zfs-fuse on the machine, and who started it ends it.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Zfs {
    pub(crate) fn create() -> Zfs {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let daemon = (!is_up()).then(|| {
            Command::new("zfs-fuse")
                .arg("--no-daemon")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("zfs-fuse starts")
        });
        wait_until("zfs-fuse", LONG, is_up);
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("image");
        image(&file, 512 << 20);
        let pool = format!("wharf{}", std::process::id());
        run("zpool", &["create", "-m", "none", &pool, text(&file)]);
        run("zfs", &["create", &format!("{pool}/layers")]);
        Zfs {
            pool,
            daemon,
            _dir: dir,
            _alone: alone,
        }
    }

    pub(crate) fn dataset(&self) -> String {
        format!("{}/layers", self.pool)
    }
}

fn is_up() -> bool {
    let list = Command::new("zpool").arg("list").output();
    list.is_ok_and(|output| output.status.success())
}

impl Drop for Zfs {
    fn drop(&mut self) {
        // A test that failed says why by itself; a second panic would end all the others with it.
        if std::thread::panicking() {
            let _ = Command::new("zpool")
                .args(["destroy", "-f", &self.pool])
                .output();
        } else {
            run("zpool", &["destroy", "-f", &self.pool]);
        }
        if let Some(daemon) = &mut self.daemon {
            daemon.kill().expect("zfs-fuse is ours");
            let _ = daemon.wait();
        }
    }
}
