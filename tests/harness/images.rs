//! The images of the tests, made from Debian packages on this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::archive::{Image, TarFile};

/// The image almost every test runs: a static busybox and its applets.
pub const BUSYBOX: &str = "busybox:latest";

/// A Debian root file system.
pub const DEBIAN: &str = "debian:bookworm";

/// Where `cargo xtask images` put the archives (`WHARF_IMAGES`).
#[must_use]
pub fn directory() -> PathBuf {
    match std::env::var_os("WHARF_IMAGES") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/images"),
    }
}

/// An archive's bytes by file name.
#[must_use]
pub fn archive(name: &str) -> Vec<u8> {
    let path = directory().join(name);
    std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; `cargo xtask images` makes it", path.display()))
}

/// The busybox image. A few users and groups are there to be resolved.
pub fn busybox() -> io::Result<Image> {
    Ok(Image::new(
        BUSYBOX,
        vec![busybox_layer(Path::new("/bin/busybox"))?],
    ))
}

fn busybox_layer(program: &Path) -> io::Result<Vec<u8>> {
    let applets = Command::new(program).arg("--list").output()?.stdout;
    let mut layer = TarFile::new();
    for dir in [
        "bin", "dev", "etc", "home", "home/app", "proc", "root", "sys", "tmp", "usr", "usr/bin",
        "var",
    ] {
        layer = layer.dir(dir);
    }
    layer = layer.file_mode("bin/busybox", 0o755, &std::fs::read(program)?);
    for applet in String::from_utf8_lossy(&applets)
        .lines()
        .filter(|a| *a != "busybox")
    {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
    let group = "root:x:0:\ndaemon:x:1:app\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n";
    Ok(layer
        .file("etc/passwd", passwd.as_bytes())
        .file("etc/group", group.as_bytes())
        .finish())
}

/// A Debian image from the tar of a root file system.
#[must_use]
pub fn debian(rootfs: Vec<u8>) -> Image {
    Image::new(DEBIAN, vec![rootfs]).with("Cmd", json!(["bash"]))
}
