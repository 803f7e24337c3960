//! One 512-byte header block.

use std::io;

use super::{BLOCK, Entry, Kind, Time, invalid_header};

/// A raw block with named fields.
pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

/// Which dialect a header is written in; it decides what the last fields mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Gnu,
}

/// Whether a block is a header, by its checksum.
pub fn is_header(block: &[u8]) -> bool {
    <&[u8; BLOCK]>::try_from(block)
        .is_ok_and(|block| !block.iter().all(|b| *b == 0) && Header(block).checksum_holds())
}

impl<'a> Header<'a> {
    /// Unsigned by POSIX; old Sun tars summed signed bytes.
    pub(super) fn checksum_holds(&self) -> bool {
        let Ok(stored) = parse_octal(&self.0[148..156]) else {
            return false;
        };
        let bytes = self
            .0
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for byte in bytes {
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        stored == unsigned || stored == signed
    }

    pub(super) fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        u64::try_from(parse_number(&self.0[124..136])?).map_err(|_| invalid_header())
    }

    fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[0..100]);
        if self.dialect() == Dialect::Ustar {
            let prefix = until_nul(&self.0[345..500]);
            if !prefix.is_empty() {
                return [prefix, b"/", name].concat();
            }
        }
        name.to_vec()
    }

    /// All fields as an entry, without what other headers add.
    pub(super) fn entry(&self) -> io::Result<Entry> {
        let path = self.name();
        let kind = kind_of(self.type_flag(), &path);
        let size = if has_data(kind) { self.size()? } else { 0 };
        let mut entry = Entry {
            path,
            link: until_nul(&self.0[157..257]).to_vec(),
            kind,
            mode: u32::try_from(parse_number(&self.0[100..108])? & 0o7777)
                .map_err(|_| invalid_header())?,
            uid: id(parse_number(&self.0[108..116])?)?,
            gid: id(parse_number(&self.0[116..124])?)?,
            size,
            mtime: Time {
                seconds: parse_number(&self.0[136..148])?,
                nanos: 0,
            },
            atime: None,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        };
        if self.dialect() != Dialect::V7 {
            entry.device = (
                id(parse_number(&self.0[329..337])?)?,
                id(parse_number(&self.0[337..345])?)?,
            );
        }
        Ok(entry)
    }
}

/// Link, device and directory entries have no data whatever their size field says.
pub(super) fn has_data(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Other(_))
}

fn kind_of(flag: u8, path: &[u8]) -> Kind {
    match flag {
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    }
}

/// User and group IDs and device numbers must fit the kernel's 32 bits.
pub(super) fn id(value: i64) -> io::Result<u32> {
    u32::try_from(value).map_err(|_| invalid_header())
}

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// Octal, or GNU's big-endian two's complement when the top bit is set.
pub(super) fn parse_number(field: &[u8]) -> io::Result<i64> {
    if field[0] & 0x80 == 0 {
        return parse_octal(field);
    }
    // The second bit is the sign.
    let negative = field[0] & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (i, byte) in field.iter().enumerate() {
        let byte = if i == 0 {
            byte & 0x3f | if negative { 0xc0 } else { 0 }
        } else {
            *byte
        };
        if !(i64::MIN >> 8..=i64::MAX >> 8).contains(&value) {
            return Err(invalid_header());
        }
        value = value << 8 | i64::from(byte);
    }
    Ok(value)
}

/// Octal digits with spaces and NULs around; empty is zero.
fn parse_octal(field: &[u8]) -> io::Result<i64> {
    let text = until_nul(trim(field, |b| b == b' ' || b == 0));
    let text = trim(text, |b| b == b' ');
    let mut value: i64 = 0;
    for digit in text {
        if !(b'0'..=b'7').contains(digit) {
            return Err(invalid_header());
        }
        value = value.checked_mul(8).ok_or_else(invalid_header)? + i64::from(digit - b'0');
    }
    Ok(value)
}

fn trim(field: &[u8], unwanted: impl Fn(u8) -> bool) -> &[u8] {
    let start = field
        .iter()
        .position(|b| !unwanted(*b))
        .unwrap_or(field.len());
    let end = field
        .iter()
        .rposition(|b| !unwanted(*b))
        .map_or(start, |i| i + 1);
    &field[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_their_forms() {
        let check = |field: &[u8], expected: Option<i64>| {
            assert_eq!(parse_number(field).ok(), expected, "{field:?}")
        };
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"\0\0\0\0\0\0\0\0", Some(0));
        check(b"0000648\0", None);
        check(b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1));
        check(
            b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
            Some(i64::MAX),
        );
        check(b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None);
    }
}
