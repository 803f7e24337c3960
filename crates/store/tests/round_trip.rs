//! Whatever a tar holds, the store gives it back bit by bit.

mod common;

use common::{Layer, Workshop, docker_archive};
use proptest::prelude::*;
use tar::EntryType;

/// One entry of a random layer; names come from a small set, so that they collide.
#[derive(Debug, Clone)]
enum Entry {
    File(String, Vec<u8>, u32),
    Dir(String),
    Symlink(String, String),
    HardLink(String, String),
    Fifo(String),
    Whiteout(String),
    Opaque(String),
}

fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "c", "..", ".", "d e"]);
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        4 => (path(), prop::collection::vec(any::<u8>(), 0..2000), 0..0o10000_u32).prop_map(|(p, c, m)| Entry::File(p, c, m)),
        2 => path().prop_map(Entry::Dir),
        2 => (path(), path()).prop_map(|(p, t)| Entry::Symlink(p, t)),
        1 => (path(), path()).prop_map(|(p, t)| Entry::HardLink(p, t)),
        1 => path().prop_map(Entry::Fifo),
        1 => path().prop_map(Entry::Whiteout),
        1 => path().prop_map(Entry::Opaque),
    ]
}

fn layer(entries: &[Entry]) -> Vec<u8> {
    let header = |kind, size: usize, mode| Layer::header(kind, size as u64, mode);
    let add = |layer: Layer, entry: &Entry| match entry {
        Entry::File(p, content, mode) => layer.raw(
            header(EntryType::Regular, content.len(), *mode),
            p.as_bytes(),
            b"",
            content,
        ),
        Entry::Dir(p) => layer.raw(
            header(EntryType::Directory, 0, 0o755),
            p.as_bytes(),
            b"",
            b"",
        ),
        Entry::Symlink(p, t) => layer.raw(
            header(EntryType::Symlink, 0, 0o777),
            p.as_bytes(),
            t.as_bytes(),
            b"",
        ),
        Entry::HardLink(p, t) => layer.raw(
            header(EntryType::Link, 0, 0o644),
            p.as_bytes(),
            t.as_bytes(),
            b"",
        ),
        Entry::Fifo(p) => layer.raw(header(EntryType::Fifo, 0, 0o644), p.as_bytes(), b"", b""),
        Entry::Whiteout(p) => {
            let (dir, name) = p.rsplit_once('/').unwrap_or((".", p));
            layer.raw(
                header(EntryType::Regular, 0, 0o644),
                format!("{dir}/.wh.{name}").as_bytes(),
                b"",
                b"",
            )
        }
        Entry::Opaque(p) => layer.raw(
            header(EntryType::Regular, 0, 0o644),
            format!("{p}/.wh..wh..opq").as_bytes(),
            b"",
            b"",
        ),
    };
    entries.iter().fold(Layer::new(), add).tar()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Either the layer is refused and nothing is left, or its tar comes back.
    #[test]
    fn tars_come_back_or_leave_nothing(entries in prop::collection::vec(entry(), 0..25), tail in 0..3_usize) {
        let workshop = Workshop::new();
        let mut tar = layer(&entries);
        tar.extend(std::iter::repeat_n(0, tail * 5000));
        let image = docker_archive(&[tar], "x:y");
        match workshop.load(&image.archive) {
            Err(_) => workshop.assert_empty(),
            Ok(()) => {
                let plan = workshop.store.plan_save(&["x:y".to_owned()], None).expect("a plan");
                // Saving compares the digest of what it made with the diff ID.
                workshop.store.save(&plan, &mut std::io::sink()).expect("the same tar");
                drop(plan);
                workshop.store.remove_image(&image.id).expect("removed");
                workshop.assert_empty();
            }
        }
    }

    /// Damage anywhere in an archive is refused, or does not matter; it never panics or leaves anything.
    #[test]
    fn damaged_archives_leave_nothing(at in 0..8000_usize, value in any::<u8>(), cut in 0..9000_usize) {
        let workshop = Workshop::new();
        let layer = Layer::new().dir("d").file("d/f", &[1; 700]).symlink("l", "d/f").tar();
        let mut archive = docker_archive(&[layer], "x:y").archive;
        let at = at % archive.len();
        archive[at] = value;
        archive.truncate(cut.max(600));
        if workshop.load(&archive).is_err() {
            workshop.assert_empty();
        }
    }
}
