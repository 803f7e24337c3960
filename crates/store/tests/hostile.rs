//! Layers that try to get out, and layers with everything a file system has.

mod common;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use common::{Layer, Workshop, docker_archive};
use tar::EntryType;

/// Loads one layer and gives its directory.
fn unpack(workshop: &Workshop, layer: Vec<u8>) -> Result<PathBuf, wharf_store::StoreError> {
    let image = docker_archive(std::slice::from_ref(&layer), "x:y");
    workshop.load(&image.archive)?;
    let record = workshop.store.image("x:y")?;
    let (_, data) = workshop.store.image_graph_driver(&record);
    assert!(saved_layer(workshop, &layer), "the tar can be made again");
    Ok(data["UpperDir"].clone().into())
}

fn saved_layer(workshop: &Workshop, layer: &[u8]) -> bool {
    let plan = workshop
        .store
        .plan_save(&["x:y".to_owned()], None)
        .expect("a plan");
    let mut archive = Vec::new();
    workshop
        .store
        .save(&plan, &mut archive)
        .expect("saves, which checks the digest");
    archive.windows(layer.len()).any(|window| window == layer)
}

fn file(name: &[u8], content: &[u8]) -> Layer {
    Layer::new().raw(
        Layer::header(EntryType::Regular, content.len() as u64, 0o644),
        name,
        b"",
        content,
    )
}

#[test]
fn names_with_dots_stay_inside() {
    let workshop = Workshop::new();
    let outside = workshop.root().join("overlay2/escaped");
    let layer = file(b"../escaped", b"1")
        .raw(
            Layer::header(EntryType::Regular, 1, 0o644),
            b"/../../a/../escaped2",
            b"",
            b"2",
        )
        .tar();
    let dir = unpack(&workshop, layer).expect("loads");
    assert!(!outside.exists());
    assert_eq!(std::fs::read(dir.join("escaped")).expect("inside"), b"1");
    assert_eq!(std::fs::read(dir.join("escaped2")).expect("inside"), b"2");
}

#[test]
fn symlinks_are_followed_inside_only() {
    let workshop = Workshop::new();
    let victim = tempfile::tempdir().expect("a directory");
    let target = victim.path().to_str().expect("text");
    let layer = Layer::new()
        .dir(target.trim_start_matches('/'))
        .symlink("abs", target)
        .file("abs/file", b"1")
        .symlink("up", "../../../../../../../..")
        .file("up/file2", b"2")
        .symlink("dir", "real")
        .dir("real")
        .file("dir/file3", b"3")
        .tar();
    let dir = unpack(&workshop, layer).expect("loads");
    assert_eq!(
        std::fs::read_dir(victim.path()).expect("readable").count(),
        0,
        "nothing got out"
    );
    assert_eq!(
        std::fs::read(dir.join(target.trim_start_matches('/')).join("file")).expect("inside"),
        b"1"
    );
    assert_eq!(std::fs::read(dir.join("file2")).expect("inside"), b"2");
    assert_eq!(std::fs::read(dir.join("real/file3")).expect("inside"), b"3");
}

#[test]
fn a_link_to_nowhere_is_refused_as_docker_does() {
    let workshop = Workshop::new();
    unpack(
        &workshop,
        Layer::new()
            .symlink("l", "/nowhere")
            .file("l/f", b"1")
            .tar(),
    )
    .expect_err("no such directory");
    workshop.assert_empty();
}

#[test]
fn a_directory_cannot_be_turned_into_a_way_out() {
    let workshop = Workshop::new();
    let victim = tempfile::tempdir().expect("a directory");
    let target = victim.path().to_str().expect("text");
    // The directory is open when a link takes its place.
    let layer = Layer::new()
        .dir(target.trim_start_matches('/'))
        .dir("d")
        .file("d/a", b"1")
        .symlink("d", target)
        .file("d/b", b"2")
        .tar();
    unpack(&workshop, layer).expect("loads");
    assert_eq!(
        std::fs::read_dir(victim.path()).expect("readable").count(),
        0
    );
}

#[test]
fn files_are_not_written_through_links() {
    let workshop = Workshop::new();
    let victim = tempfile::NamedTempFile::new().expect("a file");
    let target = victim.path().to_str().expect("text");
    let layer = Layer::new()
        .symlink("f", target)
        .file("f", b"overwritten")
        .tar();
    let dir = unpack(&workshop, layer).expect("loads");
    assert_eq!(std::fs::read(victim.path()).expect("readable"), b"");
    assert!(
        std::fs::symlink_metadata(dir.join("f"))
            .expect("there")
            .is_file()
    );
}

#[test]
fn hard_links_reach_only_the_layer() {
    let outside = tempfile::NamedTempFile::new().expect("a file");
    let target = outside.path().to_str().expect("text");
    let check = |link: &str| {
        let workshop = Workshop::new();
        let layer = Layer::new()
            .raw(
                Layer::header(EntryType::Link, 0, 0o644),
                b"h",
                link.as_bytes(),
                b"",
            )
            .tar();
        unpack(&workshop, layer).expect_err(link);
        workshop.assert_empty();
    };
    check(target);
    check(&format!("../../../../../../../..{target}"));
    check("/");
    assert_eq!(std::fs::metadata(outside.path()).expect("there").nlink(), 1);
    // Through a symlink of the layer, to a file outside: the link itself is linked.
    let workshop = Workshop::new();
    let layer = Layer::new().symlink("s", target).hardlink("h", "s").tar();
    let dir = unpack(&workshop, layer).expect("loads");
    assert!(
        std::fs::symlink_metadata(dir.join("h"))
            .expect("there")
            .is_symlink()
    );
}

#[test]
fn whiteouts_become_overlays() {
    let workshop = Workshop::new();
    let layer = Layer::new()
        .dir("d")
        .file("d/.wh..wh..opq", b"")
        .file("d/new", b"1")
        .file("gone/.wh.file", b"")
        .file(".wh.replaced", b"")
        .dir("replaced")
        .file(".wh..wh.plnk", b"")
        .file("kept", b"1")
        .file(".wh.kept", b"")
        .tar();
    let dir = unpack(&workshop, layer).expect("loads");
    let whiteout = std::fs::symlink_metadata(dir.join("gone/file")).expect("there");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert!(is_opaque(&dir.join("d")));
    assert!(
        is_opaque(&dir.join("replaced")),
        "the layers below had something else there"
    );
    assert!(
        dir.join("kept").is_file(),
        "a whiteout concerns the layers below"
    );
    for bad in ["a/.wh.", "a/.wh..", "a/.wh..."] {
        let workshop = Workshop::new();
        unpack(&workshop, Layer::new().file(bad, b"").tar()).expect_err(bad);
        workshop.assert_empty();
    }
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 4];
    rustix::fs::getxattr(path, "trusted.overlay.opaque", &mut value)
        .is_ok_and(|n| value[..n] == *b"y")
}

#[test]
fn attributes_of_every_kind_are_kept() {
    let workshop = Workshop::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut setuid = Layer::header(EntryType::Regular, 2, 0o4755);
    setuid.set_uid(1000);
    setuid.set_gid(3_000_000);
    let mut device = Layer::header(EntryType::Char, 0, 0o666);
    device.set_device_major(1).expect("fits");
    device.set_device_minor(3).expect("fits");
    let layer = Layer::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"x\0y"),
            ("mtime", b"1700000000.123456789"),
        ])
        .raw(setuid, b"bin", b"", b"hi")
        .pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")])
        .dir("sneaky")
        .raw(device, b"null", b"", b"")
        .raw(Layer::header(EntryType::Fifo, 0, 0o600), b"fifo", b"", b"")
        .raw(
            Layer::header(EntryType::Directory, 0, 0o1777),
            b"tmp/",
            b"",
            b"",
        )
        .file("tmp/inside", b"")
        .raw(
            Layer::header(EntryType::Regular, 1, 0o644),
            b"caf\xe9",
            b"",
            b"1",
        )
        .file(
            &format!("long/{}/{}", "n".repeat(120), "m".repeat(200)),
            b"2",
        )
        .tar();
    let dir = unpack(&workshop, layer).expect("loads");
    let meta = std::fs::metadata(dir.join("bin")).expect("there");
    assert_eq!(
        (meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()),
        (0o4755, 1000, 3_000_000)
    );
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec()),
        (1_700_000_000, 123_456_789)
    );
    let mut value = [0; 64];
    let n = rustix::fs::getxattr(dir.join("bin"), "security.capability", &mut value).expect("kept");
    assert_eq!(value[..n], capability);
    rustix::fs::getxattr(dir.join("sneaky"), "trusted.overlay.redirect", &mut value)
        .expect_err("overlay's own state");
    assert_eq!(
        std::fs::metadata(dir.join("null")).expect("there").rdev(),
        rustix::fs::makedev(1, 3)
    );
    assert!(
        std::fs::metadata(dir.join("fifo"))
            .expect("there")
            .file_type()
            .is_fifo()
    );
    let tmp = std::fs::metadata(dir.join("tmp")).expect("there");
    assert_eq!(
        (tmp.permissions().mode() & 0o7777, tmp.mtime()),
        (0o1777, 1_700_000_000)
    );
    assert!(
        dir.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"caf\xe9"))
            .exists()
    );
    assert!(
        dir.join("long")
            .join("n".repeat(120))
            .join("m".repeat(200))
            .exists()
    );
}

#[test]
fn sparse_files_of_gnu_tar_are_restored() {
    let source = tempfile::tempdir().expect("a directory");
    let path = source.path().join("holes");
    let file = std::fs::File::create(&path).expect("created");
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], 1 << 20).expect("written");
    std::os::unix::fs::FileExt::write_all_at(&file, &[8; 100], 3 << 20).expect("written");
    file.set_len(8 << 20).expect("extended");
    let content = std::fs::read(&path).expect("readable");
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let out = std::process::Command::new("tar")
            .args(["-cS", "-C"])
            .arg(source.path())
            .args(format)
            .arg("holes")
            .output();
        let layer = out.expect("tar is installed").stdout;
        assert!(layer.len() < 100_000, "{format:?} is sparse");
        let workshop = Workshop::new();
        let dir = unpack(&workshop, layer).expect("loads");
        assert!(
            std::fs::read(dir.join("holes")).expect("there") == content,
            "{format:?}"
        );
        assert!(
            std::fs::metadata(dir.join("holes"))
                .expect("there")
                .blocks()
                < 1000,
            "{format:?} still has holes"
        );
    }
}

#[test]
fn a_full_disk_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "none"])
        .arg(dir.path())
        .status();
    assert!(mounted.is_ok_and(|status| status.success()), "needs root");
    let outcome = std::panic::catch_unwind(|| {
        let store = wharf_store::Store::open(wharf_store::StoreConfig {
            data_root: dir.path().to_owned(),
            driver: Default::default(),
        })
        .expect("opens");
        let entries = || {
            let home = std::fs::read_dir(dir.path().join("overlay2"));
            home.expect("readable").count()
        };
        let before = entries();
        let image = docker_archive(
            &[
                Layer::new().file("small", b"1").tar(),
                Layer::new().file("big", &[1; 8 << 20]).tar(),
            ],
            "x:y",
        );
        let error = store
            .load(image.archive.as_slice(), &Default::default(), &mut |_| {})
            .expect_err("does not fit");
        (
            error.to_string(),
            entries() - before,
            store.images().len(),
            store.layers().len(),
        )
    });
    let unmounted = std::process::Command::new("umount")
        .arg(dir.path())
        .status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    let (error, left, images, layers) = outcome.expect("ran");
    assert!(error.ends_with(": no space left on device"), "{error}");
    assert_eq!(
        (left, images, layers),
        (0, 0, 0),
        "nothing but what an empty store has"
    );
}
