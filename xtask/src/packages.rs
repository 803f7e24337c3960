//! Debian packages that the tests need, installed when their program is missing.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{output, run, target_dir};

/// A file whose absence means that a package has to be installed.
pub(crate) type Need = (&'static str, &'static str);

/// What making the images takes.
pub(crate) const IMAGES: &[Need] = &[
    ("/bin/busybox", "busybox-static"),
    ("/usr/sbin/debootstrap", "debootstrap"),
    ("tar", "tar"),
];

/// What running the tests takes besides.
pub(crate) const TESTS: &[Need] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("curl", "curl"),
    ("firewalld", "firewalld"),
    ("dbus-daemon", "dbus-daemon"),
    ("ps", "procps"),
    ("nsenter", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("fsck.erofs", "erofs-utils"),
    ("fuse-overlayfs", "fuse-overlayfs"),
    ("zfs-fuse", "zfs-fuse"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("openssl", "openssl"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("crun", "crun"),
    ("/lib/systemd/systemd", "systemd"),
    ("/usr/share/dbus-1/system.conf", "dbus-system-bus-common"),
    ("git", "git"),
    ("bzip2", "bzip2"),
    ("xz", "xz-utils"),
    ("chromium", "chromium"),
    (
        "/usr/lib/python3/dist-packages/docker/__init__.py",
        "python3-docker",
    ),
];

/// What the benchmarks take besides.
pub(crate) const BENCH: &[Need] = &[
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("curl", "curl"),
    ("wrk", "wrk"),
    ("docker-registry", "docker-registry"),
];

/// What a virtual machine takes.
pub(crate) const GUEST: &[Need] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("strip", "binutils"),
    ("/sbin/mkfs.ext4", "e2fsprogs"),
    ("/sbin/apparmor_parser", "apparmor"),
    ("/lib/systemd/systemd", "systemd"),
    ("dbus-daemon", "dbus-daemon"),
    ("/usr/share/dbus-1/system.conf", "dbus-system-bus-common"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    (
        "/usr/share/doc/linux-image-cloud-amd64",
        "linux-image-cloud-amd64",
    ),
];

/// Installs the packages whose file or program is not there.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(file, _)| !is_present(file))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    run(apt_get().arg("update"))?;
    run(apt_get()
        .args(["install", "--yes", "--no-install-recommends"])
        .args(missing))
}

fn is_present(file: &str) -> bool {
    if file.starts_with('/') {
        return Path::new(file).exists();
    }
    find_program(file).is_some()
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(sbin)
        .map(|dir| dir.join(name))
        .find(|p| p.exists())
}

pub(crate) fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-o", "Acquire::Retries=3"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The stock `docker` CLI: the one in the path, else the one out of Debian's package.
pub(crate) fn docker_cli() -> Result<PathBuf> {
    if let Some(found) = find_program("docker") {
        return Ok(found);
    }
    let tools = target_dir().join("tools");
    let program = tools.join("usr/bin/docker");
    if !program.exists() {
        // Debian 13 has the client in a package of its own, Debian 12 beside the daemon.
        unpack(&tools, &[&["docker-cli", "docker.io"]])?;
    }
    if !program.exists() {
        bail!("no docker CLI in Debian's packages docker-cli and docker.io");
    }
    Ok(program)
}

/// A search path at whose end are Debian's `dockerd` and `containerd`, which run with our runtime in tests.
pub(crate) fn path_with_engines() -> Result<OsString> {
    let tools = target_dir().join("tools");
    let bin = ["usr/bin", "usr/sbin"].map(|dir| tools.join(dir));
    let is_there =
        |name: &str| find_program(name).is_some() || bin.iter().any(|dir| dir.join(name).exists());
    if !is_there("dockerd") || !is_there("containerd") {
        unpack(&tools, &[&["docker.io"], &["containerd"]])?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = env::split_paths(&path).chain(sbin).chain(bin);
    Ok(env::join_paths(all)?)
}

/// Unpacks packages without installing them, so that no daemon is started beside ours. Of each list, the first that there is.
fn unpack(tools: &Path, packages: &[&[&str]]) -> Result<()> {
    std::fs::create_dir_all(tools)?;
    run(apt_get().arg("update"))?;
    for names in packages {
        let download =
            |name: &&str| run(apt_get().args(["download", name]).current_dir(tools)).is_ok();
        if !names.iter().any(download) {
            bail!("none of Debian's packages {names:?} can be downloaded");
        }
    }
    for entry in std::fs::read_dir(tools)? {
        let file = entry?.path();
        if file.extension().is_some_and(|e| e == "deb") {
            output(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(&file)
                    .arg(tools),
            )?;
        }
    }
    Ok(())
}
