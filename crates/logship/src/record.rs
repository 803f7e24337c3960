//! One piece of output, and how it travels from the monitor to the shipper.
//!
//! ```text
//! length u32 | flags u8 | time_ns i64 | [id 16 bytes | ordinal u32] | text
//! ```
//! Little-endian; `length` counts what follows it. The part in brackets is there for pieces of a long line.

use std::io::{self, Read};

const STDERR: u8 = 1;
const PARTIAL: u8 = 2;
const LAST: u8 = 4;
const HEAD: usize = 9;
const PARTIAL_HEAD: usize = 20;
/// Longest record that is believed.
const MAX: usize = 1 << 20;

/// A line, or a piece of one, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// It came from standard error.
    pub stderr: bool,
    /// The text.
    pub text: Vec<u8>,
    /// It is a piece of a line that is too long for one record.
    pub partial: Option<Partial>,
}

/// Which piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// The same for all pieces of one line.
    pub id: [u8; 16],
    /// From 1.
    pub ordinal: u32,
    /// No piece follows.
    pub last: bool,
}

impl Partial {
    /// The id as text: 32 hex digits.
    pub fn id_text(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Appends a record to `out`.
pub fn encode(
    out: &mut Vec<u8>,
    time_ns: i64,
    stderr: bool,
    text: &[u8],
    partial: Option<Partial>,
) {
    let head = HEAD + partial.map_or(0, |_| PARTIAL_HEAD);
    let length = u32::try_from(head + text.len()).unwrap_or(u32::MAX);
    out.reserve(4 + head + text.len());
    out.extend_from_slice(&length.to_le_bytes());
    let mut flags = if stderr { STDERR } else { 0 };
    if let Some(partial) = partial {
        flags |= PARTIAL | if partial.last { LAST } else { 0 };
    }
    out.push(flags);
    out.extend_from_slice(&time_ns.to_le_bytes());
    if let Some(partial) = partial {
        out.extend_from_slice(&partial.id);
        out.extend_from_slice(&partial.ordinal.to_le_bytes());
    }
    out.extend_from_slice(text);
}

/// Reads the next record; `None` at the end.
pub fn read(from: &mut dyn Read) -> io::Result<Option<Record>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if !(HEAD..=MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    decode(&bytes)
        .map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let (&flags, rest) = bytes.split_first()?;
    let (time, rest) = rest.split_first_chunk()?;
    let (partial, text) = if flags & PARTIAL == 0 {
        (None, rest)
    } else {
        let (id, rest) = rest.split_first_chunk()?;
        let (ordinal, rest) = rest.split_first_chunk()?;
        let partial = Partial {
            id: *id,
            ordinal: u32::from_le_bytes(*ordinal),
            last: flags & LAST != 0,
        };
        (Some(partial), rest)
    };
    Some(Record {
        time_ns: i64::from_le_bytes(*time),
        stderr: flags & STDERR != 0,
        text: text.to_owned(),
        partial,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_equal() {
        let partial = Partial {
            id: [7; 16],
            ordinal: 3,
            last: true,
        };
        let records = [
            Record {
                time_ns: -5,
                stderr: true,
                text: Vec::new(),
                partial: None,
            },
            Record {
                time_ns: i64::MAX,
                stderr: false,
                text: b"some text".to_vec(),
                partial: Some(partial),
            },
        ];
        let mut wire = Vec::new();
        for record in &records {
            encode(
                &mut wire,
                record.time_ns,
                record.stderr,
                &record.text,
                record.partial,
            );
        }
        let mut from: &[u8] = &wire;
        for record in records {
            assert_eq!(read(&mut from).expect("readable"), Some(record));
        }
        assert_eq!(read(&mut from).expect("the end"), None);
        assert!(read(&mut &[255, 255, 255, 255, 0][..]).is_err());
    }
}
