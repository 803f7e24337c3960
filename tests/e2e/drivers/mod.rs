//! Every storage driver passes the same suite: layers, read-write layers, changes, archives, removal, a killed daemon.

mod place;

use std::path::Path;

use wharf_e2e::Engine;
use wharf_e2e::archive::{Image, TarFile};
use wharf_e2e::images;

use place::{Btrfs, Zfs};

const IMAGE: &str = "busybox:latest";

/// Layers with all that makes layers hard: whiteouts, opaque directories, links, attributes, a file that becomes a directory.
fn image() -> Image {
    let base = images::busybox().expect("busybox").layers.remove(0);
    let lower = TarFile::new()
        .dir("d")
        .file("d/keep", b"kept")
        .file("d/gone", b"")
        .dir("d/sub")
        .file("d/sub/x", b"")
        .dir("o")
        .file("o/old", b"")
        .file("becomes", b"file")
        .file_mode("d/suid", 0o4755, b"s")
        .hardlink("d/link", "d/suid")
        .finish();
    let upper = TarFile::new()
        .dir("d")
        .file("d/.wh.gone", b"")
        .file("d/.wh.sub", b"")
        .dir("o")
        .file("o/.wh..wh..opq", b"")
        .file("o/new", b"")
        .dir("becomes")
        .file("becomes/in", b"")
        .symlink("s", "d/keep")
        .finish();
    Image::new(IMAGE, vec![base, lower, upper])
}

fn start(driver: &str, root: Option<&Path>, options: &[&str]) -> Engine {
    let mut engine = Engine::options().flag("--storage-driver").flag(driver);
    if let Some(root) = root {
        engine = engine.data_root(root);
    }
    for option in options {
        engine = engine.flag("--storage-opt").flag(option);
    }
    let engine = engine.start();
    engine.load_bytes(&image().docker_archive());
    engine
}

/// What is the same whatever the driver.
fn suite(mut engine: Engine, driver: &str) {
    let info = engine.api().get("/info").json();
    assert_eq!(info["Driver"], driver);
    layers_are_stacked(&engine);
    containers_write_apart(&engine);
    changes_are_told(&engine);
    an_archive_gives_the_same_image(&engine);
    a_killed_daemon_loses_nothing(&mut engine);
    engine.remove_all();
    engine.docker_ok(&["image", "prune", "-af"]);
    engine.docker_ok(&["image", "ls"]);
    assert_eq!(left(&engine, driver), Vec::<String>::new());
}

fn layers_are_stacked(engine: &Engine) {
    let seen = engine.run(
        &[],
        &[
            "sh",
            "-c",
            "find /d /o /becomes | sort; cat /s; stat -c '%a %h' /d/suid",
        ],
    );
    let expected = "/becomes\n/becomes/in\n/d\n/d/keep\n/d/link\n/d/suid\n/o\n/o/new\nkept4755 2";
    assert_eq!(seen, expected);
}

fn containers_write_apart(engine: &Engine) {
    let write = "echo mine > /d/keep; rm /o/new; mkdir /fresh; cat /d/keep";
    engine.docker_ok(&["run", "--name", "one", IMAGE, "sh", "-c", write]);
    assert_eq!(engine.run(&[], &["cat", "/d/keep"]), "kept");
    // Its own changes are there again after a restart of the container.
    let seen = engine.docker_ok(&["start", "-a", "one"]);
    assert!(seen.contains("mine"), "{seen}");
}

fn changes_are_told(engine: &Engine) {
    let mut lines: Vec<String> = engine
        .docker_ok(&["diff", "one"])
        .lines()
        .map(str::to_owned)
        .collect();
    // Docker tells of a directory above a changed file only with drivers that compare whole trees.
    lines.retain(|line| line != "C /d");
    lines.sort();
    assert_eq!(lines, ["A /fresh", "C /d/keep", "C /o", "D /o/new"]);
    let size = engine.docker_ok(&["inspect", "-s", "-f", "{{.SizeRw}}", "one"]);
    assert_eq!(size, "5");
}

fn an_archive_gives_the_same_image(engine: &Engine) {
    let id = engine.docker_ok(&["image", "inspect", "-f", "{{.Id}}", IMAGE]);
    let archive = engine.dir().join("image.tar");
    let path = archive.to_str().expect("a plain path");
    engine.docker_ok(&["save", "-o", path, IMAGE]);
    engine.docker_ok(&["rm", "-f", "one"]);
    engine.docker_ok(&["rmi", IMAGE]);
    engine.docker_ok(&["load", "-q", "-i", path]);
    assert_eq!(
        engine.docker_ok(&["image", "inspect", "-f", "{{.Id}}", IMAGE]),
        id
    );
    layers_are_stacked(engine);
}

fn a_killed_daemon_loses_nothing(engine: &mut Engine) {
    engine.docker_ok(&[
        "run",
        "-d",
        "--name",
        "live",
        IMAGE,
        "sh",
        "-c",
        "echo here > /mark; sleep 1000",
    ]);
    engine.docker_ok(&["create", "--name", "later", IMAGE, "cat", "/d/keep"]);
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(engine.docker_ok(&["exec", "live", "cat", "/mark"]), "here");
    assert_eq!(engine.docker_ok(&["start", "-a", "later"]), "kept");
    engine.docker_ok(&["rm", "-f", "live", "later"]);
}

/// Directories of layers that are still there.
fn left(engine: &Engine, driver: &str) -> Vec<String> {
    let entries = std::fs::read_dir(engine.data_root().join(driver)).expect("the driver's home");
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.len() >= 64)
        .collect()
}

#[test]
fn overlay2() {
    suite(start("overlay2", None, &[]), "overlay2");
}

#[test]
fn vfs() {
    suite(start("vfs", None, &[]), "vfs");
}

#[test]
fn fuse_overlayfs() {
    suite(start("fuse-overlayfs", None, &[]), "fuse-overlayfs");
}

#[test]
fn btrfs() {
    let place = Btrfs::create();
    suite(start("btrfs", Some(&place.root()), &[]), "btrfs");
}

#[test]
fn btrfs_limits_a_container() {
    let place = Btrfs::create();
    let engine = start("btrfs", Some(&place.root()), &[]);
    let fill = ["dd", "if=/dev/zero", "of=/fill", "bs=1M", "count=64"];
    let mut command = vec!["run", "--rm", "--storage-opt", "size=32m", IMAGE];
    command.extend(fill);
    let output = engine.docker(&command);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(
        output.stderr.contains("quota exceeded"),
        "{}",
        output.stderr
    );
    engine.remove_all();
}

#[test]
fn zfs() {
    let place = Zfs::create();
    let option = format!("zfs.fsname={}", place.dataset());
    suite(start("zfs", None, &[&option]), "zfs");
}

#[test]
fn containers_of_another_driver_wait_for_it() {
    let mut engine = start("vfs", None, &[]);
    engine.docker_ok(&["create", "--name", "waits", IMAGE, "cat", "/d/keep"]);
    engine.stop_daemon();
    engine.set_flags(&["--storage-driver", "overlay2"]);
    engine.start_daemon();
    assert_eq!(engine.docker_ok(&["ps", "-aq"]), "");
    assert_eq!(engine.docker_ok(&["images", "-q"]), "");
    engine.stop_daemon();
    engine.set_flags(&["--storage-driver", "vfs"]);
    engine.start_daemon();
    assert_eq!(engine.docker_ok(&["start", "-a", "waits"]), "kept");
}

#[test]
fn a_limit_needs_a_driver_that_can() {
    let engine = Engine::start();
    let stderr = engine.docker_fails(&["create", "--storage-opt", "size=1g", IMAGE], 1);
    assert!(
        stderr.contains(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
        ),
        "{stderr}"
    );
    assert_eq!(engine.docker_ok(&["ps", "-aq"]), "");
}
