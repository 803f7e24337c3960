//! SIGKILL in the middle of a load.

mod common;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Layer, Workshop, docker_archive};
use wharf_store::{Store, StoreConfig};

/// Set in the process that gets killed: the data root it loads its standard input into.
const CHILD_ROOT: &str = "WHARF_STORE_ROOT";

fn load_standard_input(root: OsString) {
    let store = Store::open(StoreConfig {
        data_root: root.into(),
        driver: Default::default(),
    })
    .expect("opens");
    store
        .load(std::io::stdin(), &Default::default(), &mut |_| {})
        .expect("loads");
}

#[test]
fn nothing_is_left_of_a_load_that_was_killed() {
    // The child is this test once more.
    if let Some(root) = std::env::var_os(CHILD_ROOT) {
        return load_standard_input(root);
    }
    let workshop = Workshop::new();
    let kept = docker_archive(&[Layer::new().file("kept", b"1").tar()], "kept:1");
    workshop.load(&kept.archive).expect("loads");
    let before = workshop.dirs();
    let layers: Vec<_> = (0..3)
        .map(|i| Layer::new().file(&format!("f{i}"), &[i; 1 << 20]).tar())
        .collect();
    let archive = docker_archive(&layers, "killed:1").archive;

    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "nothing_is_left_of_a_load_that_was_killed"])
        .env(CHILD_ROOT, workshop.root())
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
