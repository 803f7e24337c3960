//! The test images, made once from Debian packages and kept in `target/images`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use wharf_e2e::archive::Image;
use wharf_e2e::images;

use crate::run::{output, run};

/// Makes what is not there yet.
pub(crate) fn ensure(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let busybox = images::busybox().context("read /bin/busybox")?;
    make(dir, "busybox.tar", || Ok(busybox.docker_archive()))?;
    make(dir, "busybox-oci.tar", || Ok(busybox.oci_archive()))?;
    make(dir, "debian.tar", || Ok(debian(dir)?.docker_archive()))?;
    make(dir, "nginx-debs.tar", || packages(dir, &["nginx-light"]))?;
    make(dir, "service-debs.tar", || {
        packages(dir, &["python3", "nodejs"])
    })
}

/// Makes what only tests on demand want: compilers.
pub(crate) fn ensure_toolchains(dir: &Path) -> Result<()> {
    make(dir, "toolchain-debs.tar", || {
        packages(dir, &["golang-go", "rustc", "cargo"])
    })
}

/// Debian's packages with all that the Debian image lacks of what they depend on, as a tar.
fn packages(dir: &Path, names: &[&str]) -> Result<Vec<u8>> {
    let place = dir.join("packages");
    remove_dir(&place)?;
    std::fs::create_dir_all(place.join("partial"))?;
    let status = place.join("status");
    let script = r#"layer=$(tar -tf "$1" | grep layer.tar) && tar -xOf "$1" "$layer" | tar -xO ./var/lib/dpkg/status > "$2""#;
    output(
        Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(dir.join("debian.tar"))
            .arg(&status),
    )?;
    let option = |name: &str, path: &Path| format!("{name}={}", path.display());
    output(
        Command::new("apt-get")
            .args(["-o", &option("Dir::State::status", &status)])
            .args(["-o", &option("Dir::Cache::archives", &place)])
            .args(["-o", "Debug::NoLocking=1", "-y", "--no-install-recommends"])
            .args(["--download-only", "install"])
            .args(names),
    )?;
    let tar = dir.join("packages.tar.made");
    run(Command::new("sh")
        .args(["-c", r#"cd "$1" && tar -cf "$2" --sort=name *.deb"#, "sh"])
        .arg(&place)
        .arg(&tar))?;
    let archive = std::fs::read(&tar)?;
    std::fs::remove_file(&tar)?;
    remove_dir(&place)?;
    Ok(archive)
}

/// Writes through a temporary name, so that an interrupted run leaves no half archive.
fn make(dir: &Path, name: &str, content: impl FnOnce() -> Result<Vec<u8>>) -> Result<()> {
    let path = dir.join(name);
    if path.exists() {
        return Ok(());
    }
    let part = dir.join(format!("{name}.part"));
    std::fs::write(&part, content()?).with_context(|| format!("write {}", part.display()))?;
    std::fs::rename(&part, &path)?;
    eprintln!("made {}", path.display());
    Ok(())
}

/// A minimal Debian, as `debootstrap` makes it, without the packages it downloaded.
fn debian(dir: &Path) -> Result<Image> {
    let root = dir.join("debian.root");
    let tar = dir.join("debian.root.tar");
    remove_dir(&root)?;
    eprintln!("making a Debian root file system, half a minute");
    output(
        Command::new("debootstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(&root),
    )?;
    for cache in ["var/cache/apt/archives", "var/lib/apt/lists", "var/log"] {
        empty_dir(&root.join(cache))?;
    }
    run(Command::new("tar")
        .args([
            "--create",
            "--numeric-owner",
            "--sort=name",
            "--one-file-system",
            "--file",
        ])
        .arg(&tar)
        .arg("--directory")
        .arg(&root)
        .arg("."))?;
    let layer = std::fs::read(&tar)?;
    std::fs::remove_file(&tar)?;
    remove_dir(&root)?;
    Ok(images::debian(layer))
}

fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn empty_dir(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?
        } else {
            std::fs::remove_file(&path)?
        }
    }
    Ok(())
}
