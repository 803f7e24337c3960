//! Layers of random entries.

use proptest::prelude::*;
use tar::EntryType;

use super::Layer;

/// One entry of a random layer; names come from a small set, so that they collide.
#[derive(Debug, Clone)]
pub enum Entry {
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

/// Any entry.
pub fn entry() -> impl Strategy<Value = Entry> {
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

/// The tar of a layer with these entries.
pub fn layer(entries: &[Entry]) -> Vec<u8> {
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
