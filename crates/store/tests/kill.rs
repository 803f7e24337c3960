//! SIGKILL in the middle of a load.

mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Layer, Workshop, docker_archive};
use wharf_store::{Store, StoreConfig};

/// Not a test: the process that gets killed. It loads its standard input into `WHARF_STORE_ROOT`.
#[test]
#[ignore = "run by the other test as a process of its own"]
fn load_standard_input() {
    let root = std::env::var_os("WHARF_STORE_ROOT").expect("set by the parent");
    let store = Store::open(StoreConfig {
        data_root: root.into(),
    })
    .expect("opens");
    store
        .load(std::io::stdin(), &Default::default(), &mut |_| {})
        .expect("loads");
}

#[test]
fn nothing_is_left_of_a_load_that_was_killed() {
    let workshop = Workshop::new();
    let kept = docker_archive(&[Layer::new().file("kept", b"1").tar()], "kept:1");
    workshop.load(&kept.archive).expect("loads");
    let before = workshop.dirs();
    let layers: Vec<_> = (0..3)
        .map(|i| Layer::new().file(&format!("f{i}"), &[i; 1 << 20]).tar())
        .collect();
    let archive = docker_archive(&layers, "killed:1").archive;

    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "load_standard_input", "--ignored"])
        .env("WHARF_STORE_ROOT", workshop.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(&archive[..archive.len() / 2])
        .expect("read by the child");
    wait_for(|| unpacked_files(workshop.root()) > 1);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(
        workshop.dirs().len() > before.len(),
        "the kill came in the middle"
    );

    let workshop = workshop.reopen();
    assert_eq!(workshop.dirs(), before);
    assert_eq!(workshop.store.images().len(), 1);
    workshop.load(&archive).expect("a second attempt succeeds");
}

/// Files in all layers.
fn unpacked_files(root: &Path) -> usize {
    let layers = std::fs::read_dir(root.join("overlay2")).expect("readable");
    let files = |layer: std::fs::DirEntry| {
        std::fs::read_dir(layer.path().join("diff")).map_or(0, Iterator::count)
    };
    layers
        .flatten()
        .filter(|layer| layer.file_name() != "init")
        .map(files)
        .sum()
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "the child unpacks");
        std::thread::yield_now();
    }
}
