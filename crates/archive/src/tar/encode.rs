//! Headers of any entry: ustar, with a PAX header before it where ustar's fields do not suffice, as Go's `archive/tar` writes them.

use super::reader::padding_of;
use super::{BLOCK, Entry, Kind, Time};

/// The most seven octal digits hold.
const MAX_OCTAL_7: u32 = 0o777_7777;
/// The most eleven octal digits hold.
const MAX_OCTAL_11: u64 = 0o777_7777_7777;
/// Bytes of a name in the main field.
const NAME: usize = 100;
/// Bytes of a name in the prefix field.
const PREFIX: usize = 155;

/// Writes an entry's headers, and the map of a sparse file. `entry.size` bytes of data and their padding have to follow, of which a
/// sparse map is no part.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let mut records = Vec::new();
    let map = entry.sparse.as_ref().map(|sparse| {
        put_record(&mut records, b"GNU.sparse.major", b"1");
        put_record(&mut records, b"GNU.sparse.minor", b"0");
        put_record(&mut records, b"GNU.sparse.name", &entry.path);
        put_record(
            &mut records,
            b"GNU.sparse.realsize",
            sparse.real_size.to_string().as_bytes(),
        );
        sparse_map(&sparse.segments)
    });
    let size = entry.size + map.as_ref().map_or(0, |map| map.len() as u64);
    let (name, prefix) = if map.is_some() {
        (b"GNUSparseFile.0/file".to_vec(), Vec::new())
    } else {
        names(&entry.path, &mut records)
    };
    let link = link_name(&entry.link, &mut records);
    number_records(entry, size, &mut records);
    for (key, value) in &entry.xattrs {
        put_record(
            &mut records,
            &[b"SCHILY.xattr.", key.as_slice()].concat(),
            value,
        );
    }
    if !records.is_empty() {
        let size = records.len() as u64;
        let mut header = Block::new(b"PaxHeaders.0/entry", b"", b'x');
        header.number(124, 12, size);
        header.finish(out);
        out.extend_from_slice(&records);
        out.extend_from_slice(&[0; BLOCK][..padding_of(size)]);
    }
    main_header(entry, size, &name, &prefix, &link, out);
    out.extend_from_slice(map.as_deref().unwrap_or_default());
}

fn main_header(
    entry: &Entry,
    size: u64,
    name: &[u8],
    prefix: &[u8],
    link: &[u8],
    out: &mut Vec<u8>,
) {
    let mut header = Block::new(name, prefix, flag_of(entry.kind));
    header.number(100, 8, u64::from(entry.mode));
    header.number(108, 8, u64::from(fitting(entry.uid)));
    header.number(116, 8, u64::from(fitting(entry.gid)));
    header.number(124, 12, if size > MAX_OCTAL_11 { 0 } else { size });
    header.number(136, 12, plain_seconds(entry.mtime).unwrap_or(0));
    header.bytes(157, link);
    if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
        header.number(329, 8, u64::from(fitting(entry.device.0)));
        header.number(337, 8, u64::from(fitting(entry.device.1)));
    }
    header.finish(out);
}

fn flag_of(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
        Kind::Other(flag) => flag,
    }
}

fn fitting(value: u32) -> u32 {
    if value > MAX_OCTAL_7 { 0 } else { value }
}

fn plain_seconds(time: Time) -> Option<u64> {
    let seconds = u64::try_from(time.seconds).ok()?;
    (time.nanos == 0 && seconds <= MAX_OCTAL_11).then_some(seconds)
}

fn number_records(entry: &Entry, size: u64, records: &mut Vec<u8>) {
    for (key, value) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if value > MAX_OCTAL_7 {
            put_record(records, key, value.to_string().as_bytes());
        }
    }
    if size > MAX_OCTAL_11 {
        put_record(records, b"size", size.to_string().as_bytes());
    }
    if plain_seconds(entry.mtime).is_none() {
        put_record(records, b"mtime", time_text(entry.mtime).as_bytes());
    }
    if let Some(atime) = entry.atime {
        put_record(records, b"atime", time_text(atime).as_bytes());
    }
}

/// Decimal seconds; nanoseconds count upwards in [`Time`], but away from zero in the text.
fn time_text(time: Time) -> String {
    let text = match (time.seconds, time.nanos) {
        (seconds, 0) => return seconds.to_string(),
        (seconds, nanos) if seconds < 0 => {
            let whole = seconds + 1;
            let sign = if whole == 0 { "-" } else { "" };
            format!("{sign}{whole}.{:09}", 1_000_000_000 - nanos)
        }
        (seconds, nanos) => format!("{seconds}.{nanos:09}"),
    };
    text.trim_end_matches('0').to_owned()
}

/// Name and prefix field; a name that fits in neither goes into a record.
fn names(path: &[u8], records: &mut Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    if path.is_ascii() {
        if path.len() <= NAME {
            return (path.to_vec(), Vec::new());
        }
        if let Some((prefix, name)) = split(path) {
            return (name.to_vec(), prefix.to_vec());
        }
    }
    put_record(records, b"path", path);
    (in_ascii(path, NAME), Vec::new())
}

/// At the last slash that leaves a prefix which fits; a directory's slash at the end is part of its name.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = path.len() - usize::from(path.ends_with(b"/"));
    let slash = path[..end.min(PREFIX + 1)]
        .iter()
        .rposition(|byte| *byte == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (!prefix.is_empty() && name.len() <= NAME).then_some((prefix, name))
}

fn link_name(link: &[u8], records: &mut Vec<u8>) -> Vec<u8> {
    if link.is_ascii() && link.len() <= NAME {
        return link.to_vec();
    }
    put_record(records, b"linkpath", link);
    in_ascii(link, NAME)
}

fn in_ascii(text: &[u8], limit: usize) -> Vec<u8> {
    text.iter()
        .copied()
        .filter(u8::is_ascii)
        .take(limit)
        .collect()
}

/// `length key=value\n`, where the length counts itself.
fn put_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// GNU's format 1.0: a count, then offset and length of each piece, in lines, padded to a block.
fn sparse_map(segments: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len());
    for (offset, length) in segments {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = text.into_bytes();
    let padding = padding_of(map.len() as u64);
    map.extend_from_slice(&[0; BLOCK][..padding]);
    map
}

struct Block([u8; BLOCK]);

impl Block {
    fn new(name: &[u8], prefix: &[u8], flag: u8) -> Block {
        let mut block = Block([0; BLOCK]);
        block.bytes(0, name);
        block.bytes(345, prefix);
        block.0[156] = flag;
        block.bytes(257, b"ustar\x0000");
        for (offset, length) in [
            (100, 8),
            (108, 8),
            (116, 8),
            (124, 12),
            (136, 12),
            (329, 8),
            (337, 8),
        ] {
            block.number(offset, length, 0);
        }
        block
    }

    fn bytes(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn number(&mut self, offset: usize, length: usize, value: u64) {
        let text = format!("{value:0width$o}\0", width = length - 1);
        self.bytes(offset, text.as_bytes());
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        self.bytes(148, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.bytes(148, format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Sparse, TarReader};

    fn entry(path: &[u8]) -> Entry {
        Entry::new(path.to_vec(), Kind::File, 0o644)
    }

    fn read_back(entry: &Entry) -> Entry {
        let mut bytes = Vec::new();
        encode(entry, &mut bytes);
        bytes.extend_from_slice(&[1; BLOCK][..usize::try_from(entry.size).expect("small")]);
        TarReader::new(&bytes[..])
            .next(&mut ())
            .expect("readable")
            .expect("an entry")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = [b"directory/".repeat(20), b"name".to_vec()].concat();
        let without_slash = b"n".repeat(180);
        let paths = [
            &b"short"[..],
            b"dir/",
            "häuser/straße".as_bytes(),
            b"not\xff\xfeutf8",
            &long,
            &without_slash,
        ];
        for path in paths {
            let mut wanted = entry(path);
            if path.ends_with(b"/") {
                wanted.kind = Kind::Directory;
            }
            assert_eq!(read_back(&wanted), wanted);
        }
        let rich = Entry {
            link: b"x".repeat(300),
            kind: Kind::Symlink,
            uid: 70_000_000,
            gid: u32::MAX - 1,
            mtime: Time {
                seconds: -2,
                nanos: 750_000_000,
            },
            atime: Some(Time {
                seconds: 5,
                nanos: 1,
            }),
            xattrs: vec![(b"user.k".to_vec(), b"\0\x01=\n".to_vec())],
            ..entry(b"rich")
        };
        assert_eq!(read_back(&rich), rich);
        let device = Entry {
            kind: Kind::CharDevice,
            device: (254, 1_048_575),
            ..entry(b"device")
        };
        assert_eq!(read_back(&device), device);
    }

    #[test]
    fn sparse_maps_and_large_sizes_are_read_again() {
        let sparse = Entry {
            size: 512,
            sparse: Some(Sparse {
                real_size: 1 << 40,
                segments: vec![(4096, 512), (1 << 40, 0)],
            }),
            ..entry("löcher".as_bytes())
        };
        assert_eq!(read_back(&sparse), sparse);
        let mut bytes = Vec::new();
        encode(
            &Entry {
                size: 1 << 40,
                ..entry(b"large")
            },
            &mut bytes,
        );
        let read = TarReader::new(&bytes[..]).next(&mut ()).expect("readable");
        assert_eq!(read.map(|entry| entry.size), Some(1 << 40));
    }

    #[test]
    fn times_have_one_text() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (-1, 750_000_000, "-0.25"),
            (-2, 750_000_000, "-1.25"),
        ] {
            assert_eq!(time_text(Time { seconds, nanos }), text);
        }
    }
}
