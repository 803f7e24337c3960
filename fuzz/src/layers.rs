//! Archives: as bytes, and as entries that try everything with names and whiteouts.

use std::fs;
use std::io::{self, BufReader};
use std::path::Path;

use wharf_archive::compression::Compression;
use wharf_archive::tar::TarReader;
use wharf_spec::digest::DiffId;
use wharf_store::{Store, StoreConfig};

use crate::mutate::Random;
use crate::run::Target;

/// The reader of archives, and what the store makes of them.
pub(crate) const TAR: Target = Target {
    name: "tar",
    seeds: archives,
    shape: with_checksums,
    check: check_archive,
};

/// Layers whose entries hide, replace and link each other.
pub(crate) const WHITEOUT: Target = Target {
    name: "whiteout",
    seeds: || {
        (0_u8..40)
            .map(|n| vec![n, n ^ 85, n.wrapping_mul(37), 7, n, 99])
            .collect()
    },
    shape: |input| entries(&input),
    check: check_layer,
};

const BLOCK: usize = 512;
const KINDS: [tar::EntryType; 8] = [
    tar::EntryType::Regular,
    tar::EntryType::Directory,
    tar::EntryType::Symlink,
    tar::EntryType::Link,
    tar::EntryType::Char,
    tar::EntryType::Fifo,
    tar::EntryType::Regular,
    tar::EntryType::Directory,
];
const NAMES: [&str; 8] = [
    "a",
    "b",
    "c",
    "..",
    ".wh.a",
    ".wh.b",
    ".wh..wh..opq",
    ".wh..wh.x",
];

/// An archive out of any bytes: each entry is a few of them.
fn entries(bytes: &[u8]) -> Vec<u8> {
    let seed = bytes.iter().fold(7_u64, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    let mut random = Random::new(seed);
    let mut builder = tar::Builder::new(Vec::new());
    for _ in 0..1 + random.below(24) {
        let mut header = tar::Header::new_gnu();
        let kind = KINDS[random.below(KINDS.len())];
        header.set_entry_type(kind);
        header.set_mode(u32::try_from(random.below(0o10000)).unwrap_or(0));
        header.set_mtime(random.next() % 2_000_000_000);
        let content = vec![b'x'; random.below(700)];
        let content = if kind == tar::EntryType::Regular {
            &content[..]
        } else {
            &[]
        };
        header.set_size(content.len() as u64);
        let name = path(&mut random);
        let target = path(&mut random);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        }
        if kind == tar::EntryType::Char {
            // 0:0 is overlay's own whiteout, which no layer may smuggle in.
            let numbers = (random.below(3), random.below(3));
            let _ = header.set_device_major(u32::try_from(numbers.0).unwrap_or(0));
            let _ = header.set_device_minor(u32::try_from(numbers.1).unwrap_or(0));
        }
        // As it is, for the library would refuse what leads out.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content).expect("memory");
    }
    builder.into_inner().expect("memory")
}

fn path(random: &mut Random) -> String {
    let mut path = String::new();
    if random.below(6) == 0 {
        path.push('/');
    }
    for n in 0..1 + random.below(4) {
        if n > 0 {
            path.push('/');
        }
        path.push_str(NAMES[random.below(NAMES.len())]);
    }
    path
}

fn archives() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = (0_u8..6).map(|n| entries(&[n, 3, n])).collect();
    let mut builder = tar::Builder::new(Vec::new());
    let long = "long/".repeat(40) + "name";
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_cksum();
    builder
        .append_data(&mut header, &long, &b"hello"[..])
        .expect("memory");
    let records = [
        ("path", &b"pax"[..]),
        ("size", b"5"),
        ("SCHILY.xattr.user.a", b"b"),
        ("mtime", b"1.5"),
    ];
    builder.append_pax_extensions(records).expect("memory");
    builder
        .append_data(&mut header, "short", &b"hello"[..])
        .expect("memory");
    all.push(builder.into_inner().expect("memory"));
    all
}

/// Most mutations would end at a checksum.
fn with_checksums(mut input: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(header) = input.get_mut(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = header[124..135]
            .iter()
            .filter(|byte| (b'0'..=b'7').contains(byte))
            .fold(0_usize, |size, byte| {
                size.saturating_mul(8)
                    .saturating_add(usize::from(byte - b'0'))
            });
        at = at
            .saturating_add(BLOCK)
            .saturating_add(size.min(1 << 30).div_ceil(BLOCK) * BLOCK);
    }
    input
}

fn check_archive(input: &[u8], scratch: &Path) {
    let mut reader = TarReader::new(BufReader::new(input));
    let mut entries = 0;
    while let Ok(Some(_)) = reader.next(&mut ()) {
        entries += 1;
        if reader.data_as_raw(&mut ()).is_err() {
            break;
        }
    }
    assert!(entries <= input.len() / BLOCK, "each entry has a header");
    let compression = Compression::detect(input);
    if compression != Compression::None
        && let Ok(mut plain) = compression.reader(input)
    {
        let mut limited = io::Read::take(&mut plain, 1 << 24);
        let _ = io::copy(&mut limited, &mut io::sink());
    }
    check_layer(input, scratch);
}

/// A layer is refused, or it is inside its directory and can be made again byte by byte.
fn check_layer(input: &[u8], scratch: &Path) {
    let outside = scratch.join("outside");
    fs::create_dir_all(&outside).expect("a directory");
    let root = outside.join("root");
    let store = Store::open(StoreConfig {
        data_root: root.clone(),
        driver: Default::default(),
    })
    .expect("opens");
    let config = |diff: &DiffId| {
        let text = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff.0.as_str()]}});
        text.to_string().into_bytes()
    };
    if let Ok(id) = store.import(input, config) {
        let plan = store
            .plan_save(&[id.to_string()], None)
            .expect("it is there");
        let saved = store.save(&plan, &mut io::sink());
        saved.expect("a layer that was taken is given back, its digest checked");
        drop(plan);
        store.remove_image(&id).expect("removed");
    }
    let report = store.check(false).expect("checks");
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(store.layers().is_empty());
    let names: Vec<_> = fs::read_dir(&outside)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["root"], "nothing is written elsewhere");
}
