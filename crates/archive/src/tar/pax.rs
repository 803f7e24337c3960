//! PAX extended headers: `length key=value\n` records that override the fields of the header they precede.

use std::io;

use super::header::id;
use super::{Entry, Sparse, Time, invalid_header};

/// What the records of one extended header say.
#[derive(Debug, Default, Clone)]
pub(super) struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Time>,
    atime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// The `GNU.sparse` keys of formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default, Clone)]
pub(super) struct PaxSparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) numbers: Vec<u64>,
}

impl Pax {
    /// Parses the body of an `x` header.
    pub(super) fn parse(mut body: &[u8]) -> io::Result<Pax> {
        let mut pax = Pax::default();
        while !body.is_empty() {
            let (key, value, rest) = split_record(body).ok_or_else(invalid_header)?;
            pax.set(key, value)?;
            body = rest;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.retain(|(known, _)| known != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.set(key, value);
        }
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            // An empty value takes an earlier one back (POSIX, "pax Extended Header").
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, |v| id(signed(v)?))?,
            b"gid" => self.gid = optional(value, |v| id(signed(v)?))?,
            b"mtime" => self.mtime = optional(value, time)?,
            b"atime" => self.atime = optional(value, time)?,
            _ => {}
        }
        Ok(())
    }

    /// Puts the records over an entry's fields.
    pub(super) fn apply(self, entry: &mut Entry) {
        if let Some(path) = self.path {
            entry.path = path;
        }
        if let Some(link) = self.link {
            entry.link = link;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.atime = self.atime.or(entry.atime);
        entry.xattrs = self.xattrs;
    }
}

impl PaxSparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.real_size = Some(decimal(value)?),
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            b"map" => {
                self.numbers = value
                    .split(|b| *b == b',')
                    .filter(|n| !n.is_empty())
                    .map(decimal)
                    .collect::<io::Result<_>>()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The map of formats 0.0 and 0.1, which is in the records themselves.
    pub(super) fn inline(&self) -> io::Result<Option<Sparse>> {
        match self.real_size {
            Some(real_size) if self.major.unwrap_or(0) == 0 && !self.numbers.is_empty() => {
                let (pairs, rest) = self.numbers.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(invalid_header());
                }
                Ok(Some(Sparse {
                    real_size,
                    segments: pairs.iter().map(|[a, b]| (*a, *b)).collect(),
                }))
            }
            _ => Ok(None),
        }
    }

    /// Whether the map precedes the data (format 1.0).
    pub(super) fn in_data(&self) -> bool {
        self.major == Some(1) && self.minor == Some(0)
    }
}

/// Key, value and what follows the first record.
fn split_record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&body[..space]).ok()?.parse().ok()?;
    let record = body.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    if equals == 0 || record[..equals].contains(&0) {
        return None;
    }
    Some((&record[..equals], &record[equals + 1..], &body[length..]))
}

fn optional<T>(value: &[u8], parse: impl Fn(&[u8]) -> io::Result<T>) -> io::Result<Option<T>> {
    if value.is_empty() {
        Ok(None)
    } else {
        parse(value).map(Some)
    }
}

fn text(value: &[u8]) -> io::Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        return Err(invalid_header());
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

pub(super) fn decimal(value: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|v| v.parse().ok())
        .ok_or_else(invalid_header)
}

fn signed(value: &[u8]) -> io::Result<i64> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|v| v.parse().ok())
        .ok_or_else(invalid_header)
}

/// Decimal seconds with a fraction; nanoseconds always count upwards.
fn time(value: &[u8]) -> io::Result<Time> {
    let text = std::str::from_utf8(value).map_err(|_| invalid_header())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| invalid_header())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_header());
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().map_err(|_| invalid_header())?;
    if whole.starts_with('-') && nanos > 0 {
        return Ok(Time {
            seconds: seconds - 1,
            nanos: 1_000_000_000 - nanos,
        });
    }
    Ok(Time { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_by_their_length() {
        let pax = Pax::parse(b"19 path=with\nbreak\n\n30 mtime=1350244992.023960108\n").ok();
        assert!(pax.is_none(), "a wrong length is refused");
        let pax =
            Pax::parse(b"20 path=with\nbreak\n\n30 mtime=1350244992.023960108\n").expect("valid");
        assert_eq!(pax.path.as_deref(), Some(&b"with\nbreak\n"[..]));
        assert_eq!(
            pax.mtime,
            Some(Time {
                seconds: 1_350_244_992,
                nanos: 23_960_108
            })
        );
    }

    #[test]
    fn times_before_1970_count_upwards() {
        assert_eq!(
            time(b"-1.25").ok(),
            Some(Time {
                seconds: -2,
                nanos: 750_000_000
            })
        );
        assert_eq!(
            time(b"5.1234567899").ok(),
            Some(Time {
                seconds: 5,
                nanos: 123_456_789
            })
        );
        assert!(time(b"1.x").is_err());
    }
}
