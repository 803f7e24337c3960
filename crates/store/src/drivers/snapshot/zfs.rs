//! ZFS: a layer above another is a clone of a snapshot of it. Datasets are made by the `zfs` program, which the system has where it has ZFS.
//!
//! ```text
//! <parent dataset>/<cache-id>          one dataset per layer, mounted at <home>/<cache-id>/diff
//! <parent dataset>/<cache-id>@<name>   one snapshot per layer above it, `name` its cache id
//! ```
//!
//! A snapshot is marked for deferred destruction as soon as it is cloned: it goes when the clone does.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Backend;

/// `ZFS_SUPER_MAGIC` of `statfs(2)`.
const MAGIC: i64 = 0x2fc1_2fc1;

/// How long a dataset may be busy after its last container.
const BUSY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Zfs {
    /// Dataset that holds all others.
    parent: String,
}

impl Zfs {
    /// The driver below the dataset `fsname`, or below the one that `dir` lies on.
    pub fn open(dir: &Path, fsname: Option<&str>) -> io::Result<Zfs> {
        let parent = match fsname {
            Some(name) => name.to_owned(),
            None => dataset_of(dir)?,
        };
        zfs(&["list", "-H", "-o", "name", &parent])?;
        Ok(Zfs { parent })
    }

    /// Whether `dir` lies on ZFS.
    #[must_use]
    pub fn is_there(dir: &Path) -> bool {
        rustix::fs::statfs(dir).is_ok_and(|statfs| statfs.f_type == MAGIC)
    }

    fn dataset(&self, tree: &Path) -> io::Result<String> {
        Ok(format!("{}/{}", self.parent, cache_of(tree)?))
    }
}

impl Backend for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn status(&self) -> Vec<(String, String)> {
        let property = |name: &str| {
            zfs(&["get", "-H", "-p", "-o", "value", name, &self.parent]).unwrap_or_default()
        };
        let trimmed = |text: String| text.trim().to_owned();
        let row = |key: &str, value: String| (key.to_owned(), value);
        let pool = self.parent.split('/').next().unwrap_or_default();
        let health = run("zpool", &["list", "-H", "-o", "health", pool]).unwrap_or_default();
        let quota = match trimmed(property("quota")) {
            none if matches!(none.as_str(), "" | "-" | "0" | "none") => "no".to_owned(),
            bytes => bytes,
        };
        vec![
            row("Zpool", pool.to_owned()),
            row("Zpool Health", trimmed(health)),
            row("Parent Dataset", self.parent.clone()),
            row("Space Used By Parent", trimmed(property("used"))),
            row("Space Available", trimmed(property("available"))),
            row("Parent Quota", quota),
            row("Compression", trimmed(property("compression"))),
        ]
    }

    fn is_in_place(&self) -> bool {
        false
    }

    fn create(&self, tree: &Path) -> io::Result<()> {
        std::fs::create_dir(tree)?;
        let mountpoint = format!("mountpoint={}", tree.display());
        zfs(&["create", "-o", &mountpoint, &self.dataset(tree)?])?;
        Ok(rustix::fs::chmod(
            tree,
            rustix::fs::Mode::from_raw_mode(0o755),
        )?)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::create_dir(to)?;
        let (source, target) = (self.dataset(from)?, self.dataset(to)?);
        let snapshot = format!("{source}@{}", cache_of(to)?);
        let mountpoint = format!("mountpoint={}", to.display());
        zfs(&["snapshot", &snapshot])?;
        let cloned = zfs(&["clone", "-o", &mountpoint, &snapshot, &target]);
        let deferred = zfs(&["destroy", "-d", &snapshot]);
        cloned?;
        deferred.map(drop)
    }

    fn attach(&self, tree: &Path) -> io::Result<()> {
        let dataset = self.dataset(tree)?;
        let end = Instant::now() + BUSY;
        loop {
            // What a kill left half-made has no dataset; it goes in a moment.
            let mounted = zfs(&["get", "-H", "-o", "value", "mounted", &dataset]);
            if mounted.map_or(true, |mounted| mounted.trim() != "no") {
                return Ok(());
            }
            match zfs(&["mount", &dataset]) {
                // A program that a killed daemon had started may still be at it.
                Err(error) if error.to_string().contains("busy") && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                result => return result.map(drop),
            }
        }
    }

    fn remove(&self, tree: &Path) -> io::Result<()> {
        // `staged` is a plain directory beside the dataset's.
        if tree.file_name().is_some_and(|name| name == "diff") {
            destroy(&self.dataset(tree)?)?;
        }
        crate::drivers::gone(std::fs::remove_dir_all(tree))
    }

    fn limit(&self, tree: &Path, bytes: u64) -> io::Result<()> {
        let quota = format!("quota={bytes}");
        zfs(&["set", &quota, &self.dataset(tree)?]).map(drop)
    }

    fn data(&self, tree: &Path) -> BTreeMap<String, String> {
        let dataset = self.dataset(tree).unwrap_or_default();
        BTreeMap::from([
            ("Dataset".to_owned(), dataset),
            ("Mountpoint".to_owned(), tree.display().to_string()),
        ])
    }
}

/// Destroys a dataset with its snapshots. It is busy for a moment after its container, until the kernel has freed the mounts of that.
fn destroy(dataset: &str) -> io::Result<()> {
    let end = Instant::now() + BUSY;
    loop {
        match zfs(&["destroy", "-r", dataset]) {
            Err(error) if error.to_string().contains("does not exist") => return Ok(()),
            Err(error) if error.to_string().contains("busy") && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result.map(drop),
        }
    }
}

fn cache_of(tree: &Path) -> io::Result<&str> {
    let cache = tree.parent().and_then(Path::file_name);
    cache
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// The dataset that is mounted where `dir` lies.
fn dataset_of(dir: &Path) -> io::Result<String> {
    let listed = zfs(&["list", "-H", "-o", "name", &dir.display().to_string()])?;
    Ok(listed.trim().to_owned())
}

/// Runs `zfs`; its output, or what it complained about.
fn zfs(args: &[&str]) -> io::Result<String> {
    run("zfs", args)
}

fn run(program: &str, args: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(args).output().map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{program} cannot be run ({error}); install the tools of ZFS or choose another storage driver"),
        )
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{program} {}: {}",
        args.join(" "),
        complaint.trim()
    )))
}
