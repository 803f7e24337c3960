//! An EROFS image of a layer holds what a directory of it holds, and gives the same tar.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::random::{entry, layer};
use common::{Layer, Workshop, docker_archive};
use proptest::prelude::*;
use tar::EntryType;

/// Everything about a thing that a container can see, but for the time of directories, which archives may only imply.
#[derive(Debug, PartialEq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    device: u64,
    changed: Option<(i64, i64)>,
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn see(root: &Path, below: &Path, all: &mut BTreeMap<PathBuf, Seen>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let full = root.join(&path);
        let metadata = full.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let content = if kind.is_file() {
            std::fs::read(&full).unwrap()
        } else if kind.is_symlink() {
            std::fs::read_link(&full)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else {
            Vec::new()
        };
        let is_node = kind.is_char_device() || kind.is_block_device();
        let seen = Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            links: metadata.nlink(),
            device: if is_node { metadata.rdev() } else { 0 },
            changed: (!kind.is_dir() && !is_node)
                .then(|| (metadata.mtime(), metadata.mtime_nsec())),
            content,
            xattrs: xattrs(&full),
        };
        all.insert(path.clone(), seen);
        if kind.is_dir() {
            see(root, &path, all);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// The only layer's files, by path.
fn tree(workshop: &Workshop) -> BTreeMap<PathBuf, Seen> {
    let image = workshop.store.images().remove(0);
    let layers = workshop.store.hold_layers(&image.id).unwrap();
    let mut all = BTreeMap::new();
    see(&layers.dirs[0], Path::new(""), &mut all);
    all
}

fn image_of(workshop: &Workshop) -> PathBuf {
    let home = workshop.root().join("erofs");
    let mut dirs = std::fs::read_dir(home)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    dirs.find_map(|dir| Some(dir.join("layer.erofs")).filter(|image| image.exists()))
        .unwrap()
}

fn fsck(image: &Path) {
    let output = Command::new("fsck.erofs")
        .arg("--extract")
        .arg(image)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// Loads a layer into both drivers and compares.
fn compare(tar: Vec<u8>) {
    let image = docker_archive(&[tar], "x:y");
    let (directory, erofs) = (Workshop::new(), Workshop::with_driver("erofs"));
    match (directory.load(&image.archive), erofs.load(&image.archive)) {
        (Ok(()), Ok(())) => {}
        (Err(_), Err(_)) => return,
        differing => panic!("one is refused: {differing:?}"),
    }
    fsck(&image_of(&erofs));
    assert_eq!(tree(&erofs), tree(&directory));
    let size = |workshop: &Workshop| workshop.store.layers()[0].size;
    assert_eq!(size(&erofs), size(&directory));
    // Saving compares the digest of what it made with the diff ID.
    let plan = erofs.store.plan_save(&["x:y".to_owned()], None).unwrap();
    erofs.store.save(&plan, &mut std::io::sink()).unwrap();
    drop(plan);
    assert_eq!(erofs.store.check(false).unwrap().problems, []);
    erofs.store.remove_image(&image.id).unwrap();
    assert!(erofs.store.layers().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn an_image_is_what_a_directory_would_be(entries in prop::collection::vec(entry(), 0..25)) {
        compare(layer(&entries));
    }
}

#[test]
fn sizes_around_blocks_and_many_names() {
    let mut tar = Layer::new().dir("wide").dir("d");
    for size in [
        0, 1, 1983, 1984, 1985, 4095, 4096, 4097, 6000, 8191, 8192, 70_000, 300_000,
    ] {
        let content: Vec<u8> = (0..size)
            .map(|n| u8::try_from(n * 7 % 251).unwrap())
            .collect();
        tar = tar
            .file(&format!("d/{size}"), &content)
            .hardlink(&format!("link-{size}"), &format!("d/{size}"));
    }
    for n in 0..3000 {
        tar = tar.file(
            &format!("wide/a-rather-long-name-so-that-blocks-fill-{n}"),
            b"x",
        );
    }
    compare(tar.symlink("wide/!before-the-dots", &"t".repeat(90)).tar());
}

#[test]
fn attributes_devices_owners_and_marks() {
    let mut device = Layer::header(EntryType::Char, 0, 0o640);
    device.set_device_major(300).unwrap();
    device.set_device_minor(70_000).unwrap();
    let mut owned = Layer::header(EntryType::Regular, 3, 0o6751);
    owned.set_uid(100_000);
    owned.set_gid(2_000_000);
    let long = vec![b'v'; 3000];
    let tar = Layer::new()
        .pax(&[
            ("SCHILY.xattr.user.note", b"text"),
            (
                "SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            ("mtime", b"1600000000.123456789"),
        ])
        .raw(owned, b"owned", b"", b"abc")
        .pax(&[("SCHILY.xattr.user.long", &long)])
        .file("long", &[7; 2000])
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("not-opaque")
        .raw(device, b"device", b"", b"")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"")
        .file(".wh.gone", b"")
        .file(".wh.again", b"")
        .dir("again")
        .file("twice", b"first, and longer")
        .file("twice", b"second")
        .tar();
    compare(tar);
}
