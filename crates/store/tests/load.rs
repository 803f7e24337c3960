//! Loading archives of every form.

mod common;

use common::{Layer, Workshop, docker_archive, gzip, oci_archive};
use wharf_store::load::LoadEvent;

#[test]
fn a_docker_archive_becomes_an_image() {
    let workshop = Workshop::new();
    let base = Layer::new()
        .dir("etc")
        .file("etc/os-release", b"ID=test\n")
        .symlink("etc/link", "os-release");
    let top = Layer::new().file("app", &[7; 300_000]);
    let image = docker_archive(&[base.tar(), top.tar()], "example.com/app:1");
    let mut events = Vec::new();
    workshop
        .store
        .load(
            image.archive.as_slice(),
            &Default::default(),
            &mut |event| events.push(event),
        )
        .expect("loads");
    let record = workshop.store.image("example.com/app:1").expect("is there");
    assert_eq!(record.id, image.id);
    assert_eq!(
        workshop
            .store
            .image(&image.id.hex()[..8])
            .expect("by prefix")
            .id,
        image.id
    );
    assert_eq!(workshop.store.image_size(&record), 8 + 10 + 300_000);
    assert!(
        matches!(events.last(), Some(LoadEvent::Image { references, .. }) if references.len() == 1)
    );
    let (driver, data) = workshop.store.image_graph_driver(&record);
    assert_eq!(driver, "overlay2");
    assert_eq!(
        std::fs::read(format!("{}/app", data["UpperDir"]))
            .expect("unpacked")
            .len(),
        300_000
    );
    assert_eq!(
        std::fs::read(format!("{}/etc/link", data["LowerDir"])).expect("unpacked"),
        b"ID=test\n"
    );
}

#[test]
fn every_compression_gives_the_same_image() {
    let layer = Layer::new().file("data", &[1; 100_000]).tar();
    let image = docker_archive(&[layer], "x:y");
    let compressed: [(&str, Vec<u8>); 4] = [
        ("gzip", gzip(&image.archive)),
        ("zstd", common::zstd(&image.archive)),
        ("xz", common::xz(&image.archive)),
        ("bzip2", common::bzip2(&image.archive)),
    ];
    for (name, archive) in compressed {
        let workshop = Workshop::new();
        workshop.load(&archive).expect(name);
        assert_eq!(
            workshop.store.image("x:y").expect(name).id,
            image.id,
            "{name}"
        );
    }
}

#[test]
fn an_oci_layout_with_gzip_layers_is_loaded() {
    let workshop = Workshop::new();
    let layers = [
        Layer::new().file("a", b"1").tar(),
        Layer::new().file("b", b"2").tar(),
    ];
    let image = oci_archive(&layers, "docker.io/library/thing:v1", gzip);
    workshop.load(&image.archive).expect("loads");
    assert_eq!(
        workshop.store.image("thing:v1").expect("is there").id,
        image.id
    );
}

#[test]
fn a_lying_diff_id_leaves_nothing() {
    let workshop = Workshop::new();
    let mut image = docker_archive(&[Layer::new().file("a", b"1").tar()], "x:y");
    let good = Layer::new().file("a", b"1").tar();
    let bad = Layer::new().file("a", b"2").tar();
    let at = image
        .archive
        .windows(good.len())
        .position(|window| window == good)
        .expect("the layer is in the archive");
    image.archive[at..at + bad.len()].copy_from_slice(&bad);
    let error = workshop.load(&image.archive).expect_err("is refused");
    assert!(
        error
            .to_string()
            .starts_with("invalid diffID for layer 0: expected \"sha256:"),
        "{error}"
    );
    workshop.assert_empty();
}

#[test]
fn broken_archives_are_refused_and_leave_nothing() {
    let whole = docker_archive(&[Layer::new().file("a", &[3; 5000]).tar()], "x:y").archive;
    let check = |archive: &[u8], expected: &str| {
        let workshop = Workshop::new();
        let error = workshop.load(archive).expect_err(expected);
        assert_eq!(error.to_string(), expected);
        workshop.assert_empty();
    };
    check(b"", "invalid archive: does not contain a manifest.json");
    check(&[b'x'; 2000], "archive/tar: invalid tar header");
    check(&whole[..whole.len() / 2], "unexpected EOF");
    let mut corrupt = gzip(&whole);
    let middle = corrupt.len() / 2;
    corrupt.truncate(middle);
    let workshop = Workshop::new();
    workshop
        .load(&corrupt)
        .expect_err("a truncated gzip stream");
    workshop.assert_empty();
}

#[test]
fn two_hundred_layers_stack_up() {
    let workshop = Workshop::new();
    let layers: Vec<_> = (0..200)
        .map(|i| Layer::new().file(&format!("f{i}"), b"x").tar())
        .collect();
    let image = docker_archive(&layers, "deep:1");
    workshop.load(&image.archive).expect("loads");
    workshop
        .store
        .create_rw("c1", image.id.as_str(), None)
        .expect("a container");
    let wharf_spec::rootfs::RootfsMount::Overlay { lower, upper, .. } =
        workshop.store.rootfs("c1").expect("a root")
    else {
        panic!("overlay")
    };
    assert_eq!(lower.len(), 201);
    assert!(
        lower[0].join(".dockerenv").exists(),
        "the init layer is on top"
    );
    assert!(
        lower[1].join("f199").exists(),
        "then the image's last layer"
    );
    assert!(upper.is_dir());
}

#[test]
fn equal_layers_at_different_places_are_kept_apart() {
    let workshop = Workshop::new();
    let (a, b) = (
        Layer::new().file("a", b"1").tar(),
        Layer::new().file("b", b"2").tar(),
    );
    let one = docker_archive(&[a.clone(), b.clone()], "one:1");
    let two = docker_archive(&[b.clone(), a.clone()], "two:1");
    workshop.load(&one.archive).expect("loads");
    workshop.load(&two.archive).expect("copies what it knows");
    let twice = docker_archive(&[a.clone(), a], "twice:1");
    workshop.load(&twice.archive).expect("the same layer twice");
    let record = workshop.store.image("twice:1").expect("is there");
    assert_eq!(workshop.store.layers_of(&record).len(), 2);
}

#[test]
fn removing_images_removes_their_layers_only() {
    let workshop = Workshop::new();
    let (base, top) = (
        Layer::new().file("a", b"1").tar(),
        Layer::new().file("b", b"2").tar(),
    );
    let one = docker_archive(std::slice::from_ref(&base), "one:1");
    let two = docker_archive(&[base, top], "two:1");
    workshop.load(&one.archive).expect("loads");
    workshop.load(&two.archive).expect("loads");
    let removed = workshop.store.remove_image(&two.id).expect("removed");
    assert_eq!(removed.len(), 1, "the base is still used");
    workshop
        .store
        .create_rw("c", one.id.as_str(), None)
        .expect("a container");
    assert!(
        workshop
            .store
            .remove_image(&one.id)
            .expect("removed")
            .is_empty(),
        "the container holds the layer"
    );
    workshop.store.remove_rw("c").expect("removed");
    workshop.assert_empty();
}

#[test]
fn a_second_start_clears_leftovers_and_keeps_the_rest() {
    let workshop = Workshop::new();
    let image = docker_archive(&[Layer::new().file("a", b"1").tar()], "x:y");
    workshop.load(&image.archive).expect("loads");
    workshop
        .store
        .create_rw("c", image.id.as_str(), None)
        .expect("a container");
    let before = workshop.dirs();
    std::fs::create_dir_all(workshop.root().join("overlay2/feedface/diff/x")).expect("a leftover");
    std::os::unix::fs::symlink(
        "../feedface/diff",
        workshop.root().join("overlay2/l/LEFTOVER"),
    )
    .expect("a link");
    let workshop = workshop.reopen();
    assert_eq!(workshop.dirs(), before);
    assert_eq!(workshop.store.image("x:y").expect("is there").id, image.id);
    assert_eq!(workshop.store.rw_containers(), ["c"]);
    workshop.store.rootfs("c").expect("still known");
}
