//! Every storage driver passes the same suite: layers, read-write layers, changes, archives, removal, a killed daemon.

mod place;

use std::path::Path;
use std::time::Duration;

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
    files_go_in_and_out(&engine);
    a_commit_holds_the_changes(&engine);
    an_export_is_the_whole_tree(&engine);
    builds_copy_from_images(&engine);
    the_store_checks_clean(&engine);
    inspect_says_where_it_lies(&engine, driver);
    an_archive_gives_the_same_image(&engine);
    a_killed_daemon_loses_nothing(&mut engine);
    engine.remove_all();
    engine.docker_ok(&["image", "prune", "-af"]);
    engine.docker_ok(&["image", "ls"]);
    the_store_checks_clean(&engine);
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

fn files_go_in_and_out(engine: &Engine) {
    let here = engine.dir().join("in.txt");
    std::fs::write(&here, "from outside").expect("a file");
    let path = here.to_str().expect("a plain path");
    engine.docker_ok(&["cp", path, "one:/d/in"]);
    let tar = engine.docker_ok(&["cp", "one:/d/in", "-"]);
    assert!(tar.contains("from outside"), "{tar}");
    // A file of the image, through a symlink.
    let tar = engine.docker_ok(&["cp", "-L", "one:/s", "-"]);
    assert!(tar.contains("mine"), "{tar}");
}

/// Whiteouts too, of a file, of a directory with content, and of a directory made anew.
fn a_commit_holds_the_changes(engine: &Engine) {
    let write = "rm -r /becomes /o; mkdir /o; echo again > /o/again; chmod 700 /d/keep; echo n > /d/second; ln /d/second /d/third; mkfifo /pipe";
    engine.docker_ok(&["run", "--name", "two", IMAGE, "sh", "-c", write]);
    engine.docker_ok(&["commit", "two", "driver-test:committed"]);
    let look = "find /d /o /becomes /pipe /in 2>/dev/null | sort; stat -c '%a %h %F' /d/keep /d/third /pipe";
    let seen = engine.docker_ok(&["run", "--rm", "driver-test:committed", "sh", "-c", look]);
    let expected = "/d\n/d/keep\n/d/link\n/d/second\n/d/suid\n/d/third\n/o\n/o/again\n/pipe\n\
                    700 1 regular file\n644 2 regular file\n644 1 fifo";
    assert_eq!(seen, expected);
    // On top of the commit the same again: an image of many such layers is one like any other.
    engine.docker_ok(&[
        "run",
        "--name",
        "three",
        "driver-test:committed",
        "rm",
        "/d/keep",
    ]);
    engine.docker_ok(&["commit", "three", "driver-test:again"]);
    let seen = engine.docker_ok(&["run", "--rm", "driver-test:again", "ls", "/d"]);
    assert_eq!(seen, "link\nsecond\nsuid\nthird");
    engine.docker_ok(&["rm", "three"]);
    engine.docker_ok(&["rmi", "driver-test:again"]);
}

fn an_export_is_the_whole_tree(engine: &Engine) {
    let archive = engine.dir().join("export.tar");
    let path = archive.to_str().expect("a plain path");
    engine.docker_ok(&["export", "-o", path, "two"]);
    let listed = std::process::Command::new("tar")
        .args(["-tf", path])
        .output();
    let listed = String::from_utf8(listed.expect("tar runs").stdout).expect("text");
    let names: Vec<&str> = listed
        .lines()
        .map(|name| name.trim_end_matches('/'))
        .collect();
    for name in ["bin/busybox", "d/keep", "d/third", "o/again", "pipe"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    for name in ["becomes", "becomes/in", "o/new", "d/gone"] {
        assert!(!names.contains(&name), "{name} is in {names:?}");
    }
    engine.docker_ok(&["rm", "two"]);
    engine.docker_ok(&["rmi", "driver-test:committed"]);
}

fn builds_copy_from_images(engine: &Engine) {
    let context = engine.dir().join("context");
    std::fs::create_dir_all(&context).expect("a directory");
    let text = format!(
        "FROM scratch\nCOPY --from={IMAGE} /d/keep /d/suid /copied/\nCOPY --from={IMAGE} /bin /bin\nRUN [\"/bin/busybox\", \"rm\", \"/copied/suid\"]\n"
    );
    std::fs::write(context.join("Dockerfile"), text).expect("a file");
    let path = context.to_str().expect("a plain path");
    engine.docker_ok(&["build", "-q", "-t", "driver-test:built", path]);
    let seen = engine.docker_ok(&[
        "run",
        "--rm",
        "driver-test:built",
        "/bin/busybox",
        "find",
        "/copied",
    ]);
    assert_eq!(seen, "/copied\n/copied/keep");
    engine.docker_ok(&["rmi", "driver-test:built"]);
}

/// `ps -s` adds what the container wrote to what the image has.
fn inspect_says_where_it_lies(engine: &Engine, driver: &str) {
    let json = engine.docker_ok(&["inspect", "-f", "{{json .GraphDriver}}", "one"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["Name"], driver);
    let keys: Vec<&str> = match driver {
        "vfs" | "btrfs" => vec![],
        "zfs" => vec!["Dataset", "Mountpoint"],
        "devicemapper" => vec!["DeviceId", "DeviceName", "DeviceSize"],
        _ => vec!["LowerDir", "MergedDir", "UpperDir", "WorkDir"],
    };
    for key in keys {
        assert!(
            json["Data"][key]
                .as_str()
                .is_some_and(|value| !value.is_empty()),
            "{key}: {json}"
        );
    }
    let sizes = engine.docker_ok(&["ps", "-as", "--filter", "name=one", "--format", "{{.Size}}"]);
    assert!(sizes.starts_with("17B (virtual "), "{sizes}");
}

fn the_store_checks_clean(engine: &Engine) {
    let seen = engine.wharf(&["system", "check"]);
    assert_eq!(seen.code, 0, "{}{}", seen.stdout, seen.stderr);
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

/// A SIGKILL at any moment of a load or a removal leaves a store that checks clean.
fn kills_leave_nothing(mut engine: Engine, driver: &str) {
    let archive = engine.dir().join("image.tar");
    std::fs::write(&archive, image().docker_archive()).expect("an archive");
    let path = archive.to_str().expect("a plain path");
    for moment in 0..5 {
        for command in [&["load", "-q", "-i", path][..], &["rmi", IMAGE]] {
            let running = engine.docker_start(command);
            // The moment is what varies; nothing is waited for.
            std::thread::sleep(Duration::from_millis(moment * 17));
            engine.kill_daemon();
            let _ = running.wait();
            engine.start_daemon();
            the_store_checks_clean(&engine);
        }
    }
    engine.docker_ok(&["load", "-q", "-i", path]);
    layers_are_stacked(&engine);
    engine.docker_ok(&["image", "prune", "-af"]);
    assert_eq!(left(&engine, driver), Vec::<String>::new());
}

#[test]
fn kills_on_btrfs() {
    let place = Btrfs::create();
    kills_leave_nothing(start("btrfs", Some(&place.root()), &[]), "btrfs");
}

#[test]
fn kills_on_vfs() {
    kills_leave_nothing(start("vfs", None, &[]), "vfs");
}

#[test]
fn kills_on_erofs() {
    kills_leave_nothing(start("erofs", None, &[]), "erofs");
}

#[test]
fn kills_on_zfs() {
    let place = Zfs::create();
    let option = format!("zfs.fsname={}", place.dataset());
    kills_leave_nothing(start("zfs", None, &[&option]), "zfs");
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
fn erofs() {
    suite(start("erofs", None, &[]), "erofs");
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
