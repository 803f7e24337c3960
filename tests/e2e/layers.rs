//! What layers mean once they are stacked: whiteouts, links, devices, depth.

use serde_json::json;
use wharf_e2e::Engine;
use wharf_e2e::archive::{Image, TarFile};
use wharf_e2e::images;

fn base() -> Vec<u8> {
    images::busybox().expect("busybox").layers.remove(0)
}

fn with_layers(layers: Vec<Vec<u8>>) -> Engine {
    let engine = Engine::empty();
    let mut all = vec![base()];
    all.extend(layers);
    engine.load_bytes(&Image::new("busybox:latest", all).docker_archive());
    engine
}

fn sh(engine: &Engine, script: &str) -> String {
    engine.run(&[], &["sh", "-c", script])
}

#[test]
fn upper_layers_replace_files() {
    let engine = with_layers(vec![
        TarFile::new().dir("d").file("d/f", b"one").finish(),
        TarFile::new()
            .file("d/f", b"two")
            .file("d/g", b"new")
            .finish(),
    ]);
    assert_eq!(sh(&engine, "cat /d/f; echo; ls /d"), "two\nf\ng");
}

#[test]
fn whiteouts_hide_files_and_directories() {
    let lower = TarFile::new()
        .dir("d")
        .file("d/keep", b"")
        .file("d/gone", b"")
        .dir("d/sub")
        .file("d/sub/x", b"")
        .finish();
    let upper = TarFile::new()
        .dir("d")
        .file("d/.wh.gone", b"")
        .file("d/.wh.sub", b"")
        .finish();
    let engine = with_layers(vec![lower, upper]);
    assert_eq!(sh(&engine, "find /d | sort"), "/d\n/d/keep");
}

#[test]
fn opaque_directories_hide_all_that_is_below() {
    let lower = TarFile::new()
        .dir("d")
        .file("d/a", b"")
        .dir("d/sub")
        .file("d/sub/b", b"")
        .finish();
    let upper = TarFile::new()
        .dir("d")
        .file("d/.wh..wh..opq", b"")
        .file("d/new", b"")
        .finish();
    let engine = with_layers(vec![lower, upper]);
    assert_eq!(sh(&engine, "find /d | sort"), "/d\n/d/new");
}

#[test]
fn an_opaque_marker_after_its_siblings_hides_only_lower_layers() {
    let lower = TarFile::new().dir("d").file("d/a", b"").finish();
    let upper = TarFile::new()
        .dir("d")
        .file("d/new", b"")
        .file("d/.wh..wh..opq", b"")
        .finish();
    let engine = with_layers(vec![lower, upper]);
    assert_eq!(sh(&engine, "ls /d"), "new");
}

#[test]
fn a_file_may_become_a_directory_and_back() {
    let one = TarFile::new()
        .file("x", b"file")
        .dir("y")
        .file("y/in", b"")
        .finish();
    let two = TarFile::new()
        .dir("x")
        .file("x/in", b"")
        .file("y", b"file")
        .finish();
    let engine = with_layers(vec![one, two]);
    assert_eq!(sh(&engine, "ls /x; cat /y"), "in\nfile");
}

#[test]
fn hard_links_share_an_inode() {
    let engine = with_layers(vec![
        TarFile::new()
            .dir("d")
            .file("d/a", b"x")
            .hardlink("d/b", "d/a")
            .finish(),
    ]);
    assert_eq!(
        sh(
            &engine,
            "stat -c %h /d/a; [ $(stat -c %i /d/a) = $(stat -c %i /d/b) ] && echo same"
        ),
        "2\nsame"
    );
}

#[test]
fn modes_owners_and_times_are_kept() {
    let layer = TarFile::new()
        .entry("setuid", tar::EntryType::Regular, 0o4755, None, b"x")
        .entry("sticky", tar::EntryType::Directory, 0o1777, None, b"")
        .finish();
    let engine = with_layers(vec![layer]);
    assert_eq!(
        sh(&engine, "stat -c '%a %u %g %Y' /setuid /sticky"),
        "4755 0 0 0\n1777 0 0 0"
    );
}

#[test]
fn device_nodes_are_made() {
    let engine = with_layers(vec![
        TarFile::new()
            .dir("nodes")
            .char_device("nodes/null", 1, 3)
            .finish(),
    ]);
    assert_eq!(
        sh(&engine, "stat -c '%F %t %T' /nodes/null"),
        "character special file 1 3"
    );
}

#[test]
fn extended_attributes_are_kept() {
    // A pax header with SCHILY.xattr, as GNU tar and Docker write it.
    let record = pax_record("SCHILY.xattr.user.note", "kept");
    let layer = TarFile::new()
        .entry(
            "pax",
            tar::EntryType::XHeader,
            0o644,
            None,
            record.as_bytes(),
        )
        .file("f", b"x")
        .finish();
    let engine = with_layers(vec![layer]);
    let upper = engine.docker_ok(&[
        "image",
        "inspect",
        "-f",
        "{{.GraphDriver.Data.UpperDir}}",
        "busybox",
    ]);
    let mut value = [0; 16];
    let length =
        rustix::fs::getxattr(format!("{upper}/f"), "user.note", &mut value).expect("the attribute");
    assert_eq!(&value[..length], b"kept");
}

fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

#[test]
fn more_than_128_layers_can_be_run() {
    let layers = (0..140)
        .map(|i| TarFile::new().file(&format!("n{i}"), b"").finish())
        .collect();
    if Engine::options().start().is_reference() {
        return; // its limit is 128
    }
    let engine = with_layers(layers);
    assert_eq!(sh(&engine, "ls / | grep -c '^n[0-9]'"), "140");
}

#[test]
fn equal_layers_may_repeat() {
    let same = TarFile::new().file("same", b"x").finish();
    let engine = with_layers(vec![
        same.clone(),
        TarFile::new().file(".wh.same", b"").finish(),
        same,
    ]);
    assert_eq!(sh(&engine, "cat /same"), "x");
}

#[test]
fn containers_do_not_share_their_top_layer_nor_change_the_image() {
    let engine = with_layers(vec![TarFile::new().file("f", b"original").finish()]);
    assert_eq!(
        sh(&engine, "echo changed >/f; rm /bin/wc; cat /f"),
        "changed"
    );
    assert_eq!(sh(&engine, "cat /f; echo; ls /bin/wc"), "original\n/bin/wc");
}

#[test]
fn an_image_with_an_empty_layer_works() {
    let engine = with_layers(vec![TarFile::new().finish()]);
    assert_eq!(sh(&engine, "echo ok"), "ok");
    let layers = engine.api().get("/images/busybox/json").json()["RootFS"]["Layers"]
        .as_array()
        .map(Vec::len);
    assert_eq!(json!(layers), json!(2));
}

/// Archives that try to write outside their layer: nothing may appear on the host, whether the load is refused or the entry tamed.
#[test]
fn hostile_paths_stay_inside() {
    let engine = Engine::empty();
    let outside = engine.dir().join("outside");
    std::fs::create_dir(&outside).expect("a directory to be protected");
    std::fs::write(outside.join("precious"), "safe").expect("a file to be protected");
    let target = outside.to_str().expect("a plain path");
    let up = "../".repeat(12);
    let relative = |path: &str| format!("{up}{}/{path}", target.trim_start_matches('/'));
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("dotdot", TarFile::new().file(&relative("a"), b"x").finish()),
        (
            "absolute",
            TarFile::new().file(&format!("{target}/b"), b"x").finish(),
        ),
        (
            "through an absolute link",
            TarFile::new()
                .symlink("l", target)
                .file("l/c", b"x")
                .finish(),
        ),
        (
            "through a relative link",
            TarFile::new()
                .symlink("l", &relative(""))
                .file("l/d", b"x")
                .finish(),
        ),
        (
            "over a linked file",
            TarFile::new()
                .symlink("l", &format!("{target}/precious"))
                .file("l", b"x")
                .finish(),
        ),
        (
            "hard link outside",
            TarFile::new()
                .hardlink("h", &relative("precious"))
                .file("h", b"x")
                .finish(),
        ),
        (
            "hard link through a link",
            TarFile::new()
                .symlink("l", target)
                .hardlink("h", "l/precious")
                .file("h", b"x")
                .finish(),
        ),
        (
            "whiteout through a link",
            TarFile::new()
                .symlink("l", target)
                .file("l/.wh.precious", b"")
                .finish(),
        ),
        (
            "whiteout with dotdot",
            TarFile::new().file(&relative(".wh.precious"), b"").finish(),
        ),
        (
            "opaque through a link",
            TarFile::new()
                .symlink("l", target)
                .file("l/.wh..wh..opq", b"")
                .finish(),
        ),
        (
            "device through a link",
            TarFile::new()
                .symlink("l", target)
                .char_device("l/n", 1, 3)
                .finish(),
        ),
        (
            "whiteout of the parent",
            TarFile::new().dir("d").file("d/.wh...", b"").finish(),
        ),
    ];
    for (name, layer) in hostile {
        let archive = Image::new("hostile:1", vec![layer]).docker_archive();
        let answer = engine
            .api()
            .post_bytes("/images/load?quiet=1", "application/x-tar", &archive);
        assert!(answer.status() < 600, "{name}");
        let left: Vec<_> = std::fs::read_dir(&outside)
            .expect("still a directory")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left, ["precious"], "{name}");
        assert_eq!(
            std::fs::read_to_string(outside.join("precious")).expect("still there"),
            "safe",
            "{name}"
        );
    }
    assert!(engine.api().answers());
}
