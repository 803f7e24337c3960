//! Which driver: the one asked for, the one whose layers are there, or the best that works.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::Driver;
use super::aufs::Aufs;
use super::erofs::Erofs;
use super::fuse_overlayfs::FuseOverlayfs;
use super::options::Options;
use super::overlay2::Overlay2;
use super::snapshot::Snapshots;
use super::snapshot::btrfs::Btrfs;
use super::snapshot::devicemapper::{DmOptions, Thin};
use super::snapshot::vfs::Vfs;
use super::snapshot::zfs::Zfs;

/// All drivers, best first: Docker's order for the automatic choice, which `vfs` ends, then those nobody gets unasked.
const NAMES: [&str; 8] = [
    "overlay2",
    "fuse-overlayfs",
    "btrfs",
    "zfs",
    "vfs",
    "erofs",
    "devicemapper",
    "aufs",
];

/// What the operator says about storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// `--storage-driver`; empty for the best that works.
    pub name: String,
    /// `--storage-opt`, `key=value`.
    pub options: Vec<String>,
}

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// No such driver.
    #[error("[graphdriver] ERROR: the storage-driver {0:?} is not known; choose one of {known}", known = NAMES.join(", "))]
    Unknown(String),
    /// It does not work here.
    #[error("error initializing graphdriver: {name}: driver not supported: {why}")]
    Unsupported {
        /// Driver.
        name: &'static str,
        /// What is missing.
        why: &'static str,
    },
    /// Layers of several drivers are there.
    #[error(
        "error initializing graphdriver: {} contains several valid graphdrivers: {}; Please cleanup or explicitly choose storage driver (--storage-driver <DRIVER>)",
        root, names.join(", ")
    )]
    Several {
        /// Data root.
        root: String,
        /// Drivers.
        names: Vec<&'static str>,
    },
    /// An option it does not have.
    #[error("error initializing graphdriver: {name}: {why}")]
    Option {
        /// Driver.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("error initializing graphdriver: {name}: {source}")]
    Io {
        /// Driver.
        name: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl DriverError {
    /// What an operator did wrong is no fault of the system.
    fn of(name: &'static str, source: io::Error) -> DriverError {
        match source.kind() {
            io::ErrorKind::Unsupported => DriverError::Option {
                name,
                why: source.to_string(),
            },
            _ => DriverError::Io { name, source },
        }
    }
}

/// Opens the driver for `root`, which exists, and says in the log why it is this one.
pub fn choose(root: &Path, choice: &Choice) -> Result<Arc<dyn Driver>, DriverError> {
    if !choice.name.is_empty() {
        let known = NAMES.into_iter().find(|name| *name == choice.name);
        let name = known.ok_or_else(|| DriverError::Unknown(choice.name.clone()))?;
        return open(root, name, &choice.options);
    }
    let used: Vec<&'static str> = NAMES
        .into_iter()
        .filter(|name| has_layers(&root.join(name)))
        .collect();
    match used.as_slice() {
        [] => {}
        [name] => {
            tracing::info!(driver = name, "storage driver chosen: its layers are there");
            return open(root, name, &choice.options);
        }
        _ => {
            return Err(DriverError::Several {
                root: root.display().to_string(),
                names: used,
            });
        }
    }
    let mut last = None;
    for name in NAMES {
        match supported(root, name) {
            Ok(()) => {
                tracing::info!(
                    driver = name,
                    "storage driver chosen: the first that works here"
                );
                return open(root, name, &choice.options);
            }
            Err(why) => {
                tracing::info!(driver = name, why, "storage driver passed over");
                last = Some(DriverError::Unsupported { name, why });
            }
        }
    }
    // `vfs` works everywhere, so the loop does not get here.
    Err(last.unwrap_or_else(|| DriverError::Unknown(String::new())))
}

/// Whether a driver's directory holds layers; its own fixtures do not count.
fn has_layers(home: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(home) else {
        return false;
    };
    // Names of layers and containers are 64 digits.
    entries.flatten().any(|entry| entry.file_name().len() == 64)
}

/// What is missing for a driver to work on the file system of `root`.
fn supported(root: &Path, name: &'static str) -> Result<(), &'static str> {
    let needs = |there: bool, why| if there { Ok(()) } else { Err(why) };
    match name {
        "overlay2" => needs(
            overlay_works(root),
            "the kernel cannot mount overlay with this data root as its upper layer",
        ),
        "fuse-overlayfs" => needs(
            FuseOverlayfs::is_there(),
            "the program fuse-overlayfs or /dev/fuse is missing",
        ),
        "btrfs" => needs(Btrfs::is_there(root), "the data root does not lie on btrfs"),
        "zfs" => needs(
            Zfs::is_there(root),
            "the data root does not lie on ZFS and zfs.fsname is not given",
        ),
        "erofs" => needs(Erofs::is_there(), "the kernel has no EROFS").and_then(|()| {
            needs(
                overlay_works(root),
                "the kernel cannot mount overlay with this data root as its upper layer",
            )
        }),
        "devicemapper" => needs(Thin::is_there(), "the kernel has no device mapper"),
        "aufs" => needs(
            Aufs::is_there(),
            "the kernel has no AUFS, which is a patch that no current kernel carries",
        ),
        _ => Ok(()),
    }
}

fn open(
    root: &Path,
    name: &'static str,
    options: &[String],
) -> Result<Arc<dyn Driver>, DriverError> {
    let options = Options::parse(name, options)?;
    // A named dataset may lie anywhere.
    if name != "zfs" || options.fsname.is_none() {
        supported(root, name).map_err(|why| DriverError::Unsupported { name, why })?;
    }
    let home = root.join(name);
    open_at(root, &home, name, &options)
}

fn open_at(
    root: &Path,
    home: &Path,
    name: &'static str,
    options: &Options,
) -> Result<Arc<dyn Driver>, DriverError> {
    let overlay = || Overlay2::open(home, options.size);
    let opened: io::Result<Arc<dyn Driver>> = match name {
        "overlay2" => overlay().map(|driver| Arc::new(driver) as _),
        "fuse-overlayfs" => overlay().map(|layers| Arc::new(FuseOverlayfs::new(layers)) as _),
        "erofs" => overlay().map(|layers| Arc::new(Erofs::new(layers)) as _),
        "btrfs" => {
            Snapshots::open(home, Btrfs::new(options.min_space)).map(|driver| Arc::new(driver) as _)
        }
        "zfs" => Zfs::open(root, options.fsname.as_deref())
            .and_then(|zfs| Snapshots::open(home, zfs))
            .map(|driver| Arc::new(driver) as _),
        "devicemapper" => {
            let options = DmOptions::parse(&options.dm);
            let options = options.map_err(|why| DriverError::Option { name, why })?;
            Thin::open(home, options)
                .and_then(|thin| Snapshots::open(home, thin))
                .map(|driver| Arc::new(driver) as _)
        }
        "aufs" => Aufs::open(home).map(|driver| Arc::new(driver) as _),
        _ => Vfs::open(home, options.size)
            .and_then(|vfs| Snapshots::open(home, vfs))
            .map(|driver| Arc::new(driver) as _),
    };
    opened.map_err(|source| DriverError::of(name, source))
}

/// Tries a real overlay upon a directory of `root`: data roots on overlay or network file systems cannot be upper layers.
fn overlay_works(root: &Path) -> bool {
    let Ok(dir) = std::fs::create_dir_all(root).and_then(|()| probe_dir(root)) else {
        return false;
    };
    let works = try_overlay(&dir).is_ok();
    // A probe that stays is swept by the next one.
    let _ = std::fs::remove_dir_all(dir);
    works
}

fn probe_dir(root: &Path) -> io::Result<std::path::PathBuf> {
    let dir = root.join("overlay-probe");
    let _ = std::fs::remove_dir_all(&dir);
    for name in ["lower", "upper", "work"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    rustix::fs::chmod(&dir, Mode::from_raw_mode(0o700))?;
    Ok(dir)
}

fn try_overlay(dir: &Path) -> io::Result<()> {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&fs, "lowerdir", dir.join("lower"))?;
    rustix::mount::fsconfig_set_string(&fs, "upperdir", dir.join("upper"))?;
    rustix::mount::fsconfig_set_string(&fs, "workdir", dir.join("work"))?;
    rustix::mount::fsconfig_create(&fs)?;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_decide_when_nothing_is_asked_for() {
        let dir = tempfile::tempdir().expect("dir");
        let choice = Choice::default();
        std::fs::create_dir_all(dir.path().join("vfs").join("0".repeat(64))).expect("mkdir");
        let driver = choose(dir.path(), &choice).expect("a driver");
        assert_eq!(driver.name(), "vfs");
        std::fs::create_dir_all(dir.path().join("overlay2").join("0".repeat(64))).expect("mkdir");
        let error = choose(dir.path(), &choice).expect_err("two").to_string();
        assert!(error.contains("overlay2, vfs"), "{error}");
    }

    #[test]
    fn an_unknown_driver_is_named_with_the_known() {
        let choice = Choice {
            name: "nope".into(),
            options: vec![],
        };
        let error = choose(Path::new("/"), &choice)
            .expect_err("unknown")
            .to_string();
        assert!(
            error.contains("\"nope\"") && error.contains("overlay2, "),
            "{error}"
        );
    }
}
