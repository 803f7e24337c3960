//! Entries of a tar stream, one after the other.

use std::io::{self, BufRead, Read as _};

use super::header::{Dialect, Header, has_data, until_nul};
use super::pax::Pax;
use super::sparse::{self, MapLines};
use super::{BLOCK, Entry, Sparse, invalid_header, unexpected_eof};

/// Longest name or extended header, as in Go's reader.
const MAX_SPECIAL: u64 = 1 << 20;

/// Receives the bytes of the archive that are not file content.
pub trait RawSink {
    /// The next bytes.
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Drops them.
impl RawSink for () {
    fn raw(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Reads entries; the caller must read or skip the data of one before asking for the next.
pub struct TarReader<R> {
    input: R,
    /// Data of the current entry still to come.
    remaining: u64,
    padding: usize,
}

/// What headers before the real one said.
#[derive(Default)]
struct Extras {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<R: BufRead> TarReader<R> {
    /// Reads from the start of an archive.
    pub fn new(input: R) -> TarReader<R> {
        TarReader {
            input,
            remaining: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` at the end, after which [`TarReader::drain`] gives the trailing bytes.
    pub fn next(&mut self, sink: &mut dyn RawSink) -> io::Result<Option<Entry>> {
        debug_assert_eq!(
            self.remaining, 0,
            "the data of the last entry was left unread"
        );
        self.pass_padding(sink)?;
        let mut extras = Extras::default();
        loop {
            let Some(block) = self.block(sink)? else {
                return Ok(None);
            };
            if block == [0; BLOCK] {
                return self.end(sink);
            }
            let header = Header(&block);
            if !header.checksum_holds() {
                return Err(invalid_header());
            }
            match header.type_flag() {
                b'x' | b'X' => extras.pax = Some(Pax::parse(&self.special(header.size()?, sink)?)?),
                // Global headers carry nothing an image needs; Go and Docker ignore them too.
                b'g' => drop(self.special(header.size()?, sink)?),
                b'L' => {
                    extras.long_name =
                        Some(until_nul(&self.special(header.size()?, sink)?).to_vec())
                }
                b'K' => {
                    extras.long_link =
                        Some(until_nul(&self.special(header.size()?, sink)?).to_vec())
                }
                _ => return self.entry(&block, extras, sink).map(Some),
            }
        }
    }

    /// The next bytes of the entry's data; empty when there are no more.
    pub fn data(&mut self) -> io::Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.input.fill_buf()?;
        if available.is_empty() {
            return Err(unexpected_eof());
        }
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        Ok(&available[..available.len().min(wanted)])
    }

    /// Marks bytes that [`TarReader::data`] showed as used.
    pub fn consume(&mut self, used: usize) {
        self.input.consume(used);
        self.remaining -= used as u64;
    }

    /// Moves up to `limit` bytes of the entry's data into a new buffer; empty when there are no more.
    pub fn take_data(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let want = self.remaining.min(limit as u64);
        let mut data = Vec::with_capacity(usize::try_from(want).unwrap_or(limit));
        (&mut self.input).take(want).read_to_end(&mut data)?;
        if data.len() as u64 != want {
            return Err(unexpected_eof());
        }
        self.remaining -= want;
        Ok(data)
    }

    /// Passes the rest of the entry's data to the sink.
    pub fn data_as_raw(&mut self, sink: &mut dyn RawSink) -> io::Result<()> {
        loop {
            let data = self.data()?;
            if data.is_empty() {
                return Ok(());
            }
            sink.raw(data)?;
            let used = data.len();
            self.consume(used);
        }
    }

    /// Passes everything up to the end of the stream to the sink.
    pub fn drain(&mut self, sink: &mut dyn RawSink) -> io::Result<()> {
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            sink.raw(bytes)?;
            let used = bytes.len();
            self.input.consume(used);
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        extras: Extras,
        sink: &mut dyn RawSink,
    ) -> io::Result<Entry> {
        let header = Header(block);
        let mut entry = header.entry()?;
        if let Some(name) = extras.long_name {
            entry.path = name;
        }
        if let Some(link) = extras.long_link {
            entry.link = link;
        }
        let old_sparse = header.dialect() == Dialect::Gnu && header.type_flag() == b'S';
        let mut sparse = if old_sparse {
            Some(self.old_sparse(&header, sink)?)
        } else {
            None
        };
        let mut map_in_data = None;
        if let Some(pax) = extras.pax {
            if has_data(entry.kind) {
                entry.size = pax.size.unwrap_or(entry.size);
                sparse = pax.sparse.inline()?.or(sparse);
                map_in_data = pax
                    .sparse
                    .in_data()
                    .then_some(pax.sparse.real_size)
                    .flatten();
            }
            let sparse_name = pax.sparse.name.clone();
            pax.apply(&mut entry);
            entry.path = sparse_name.unwrap_or(entry.path);
        }
        self.remaining = entry.size;
        self.padding = padding_of(entry.size);
        if let Some(real_size) = map_in_data {
            sparse = Some(Sparse {
                real_size,
                segments: self.map_in_data(sink)?,
            });
            entry.size = self.remaining;
        }
        entry.sparse = sparse
            .map(|sparse| sparse::checked(sparse, entry.size))
            .transpose()?;
        Ok(entry)
    }

    /// The map in an old GNU header and the blocks that continue it.
    fn old_sparse(&mut self, header: &Header<'_>, sink: &mut dyn RawSink) -> io::Result<Sparse> {
        let number = |field| {
            u64::try_from(super::header::parse_number(field)?).map_err(|_| invalid_header())
        };
        let mut sparse = Sparse {
            real_size: number(&header.0[483..495])?,
            segments: Vec::new(),
        };
        sparse::old_gnu_pieces(&header.0[386..482], &mut sparse.segments)?;
        let mut extended = header.0[482] != 0;
        while extended {
            let block = self.block(sink)?.ok_or_else(unexpected_eof)?;
            sparse::old_gnu_pieces(&block[..504], &mut sparse.segments)?;
            extended = block[504] != 0;
        }
        Ok(sparse)
    }

    fn map_in_data(&mut self, sink: &mut dyn RawSink) -> io::Result<Vec<(u64, u64)>> {
        let mut lines = MapLines::default();
        loop {
            self.remaining = self
                .remaining
                .checked_sub(BLOCK as u64)
                .ok_or_else(invalid_header)?;
            let block = self.block(sink)?.ok_or_else(unexpected_eof)?;
            if let Some(segments) = lines.add(&block)? {
                return Ok(segments);
            }
        }
    }

    /// One block, which also goes to the sink; `None` at a clean end of the stream.
    fn block(&mut self, sink: &mut dyn RawSink) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return if filled == 0 {
                    Ok(None)
                } else {
                    Err(unexpected_eof())
                };
            }
            let n = available.len().min(BLOCK - filled);
            block[filled..filled + n].copy_from_slice(&available[..n]);
            self.input.consume(n);
            filled += n;
        }
        sink.raw(&block)?;
        Ok(Some(block))
    }

    /// The body of a header that describes the next one.
    fn special(&mut self, size: u64, sink: &mut dyn RawSink) -> io::Result<Vec<u8>> {
        if size > MAX_SPECIAL {
            return Err(invalid_header());
        }
        self.remaining = size;
        self.padding = padding_of(size);
        let mut body = Body {
            bytes: Vec::new(),
            sink,
        };
        self.data_as_raw(&mut body)?;
        let bytes = body.bytes;
        self.pass_padding(sink)?;
        Ok(bytes)
    }

    /// An archive may end where the padding of its last entry should begin, or within it, as Go's reader takes it: the stock CLI sends
    /// a context like that for a Dockerfile from elsewhere (`docker build -f`).
    fn pass_padding(&mut self, sink: &mut dyn RawSink) -> io::Result<()> {
        let mut rest = std::mem::take(&mut self.padding);
        while rest > 0 {
            let available = self.input.fill_buf()?;
            let n = available.len().min(rest);
            if n == 0 {
                return Ok(());
            }
            sink.raw(&available[..n])?;
            self.input.consume(n);
            rest -= n;
        }
        Ok(())
    }

    /// After a block of zeros only another one, or nothing, may follow.
    fn end(&mut self, sink: &mut dyn RawSink) -> io::Result<Option<Entry>> {
        match self.block(sink)? {
            Some(block) if block != [0; BLOCK] => Err(invalid_header()),
            _ => Ok(None),
        }
    }
}

/// Keeps what it passes on.
struct Body<'a> {
    bytes: Vec<u8>,
    sink: &'a mut dyn RawSink,
}

impl RawSink for Body<'_> {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        self.sink.raw(bytes)
    }
}

/// Bytes up to the next block after `size` bytes of data.
pub fn padding_of(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::write_header;

    #[test]
    fn an_archive_may_end_in_the_padding_of_its_last_entry() {
        let mut archive = Vec::new();
        write_header(&mut archive, "f", 3, 0).expect("write to memory");
        archive.extend_from_slice(b"abc");
        for (length, is_whole) in [(514, false), (515, true), (600, true), (1023, true)] {
            archive.resize(length.max(515), 0);
            let mut reader = TarReader::new(&archive[..length]);
            let first = reader.next(&mut ()).expect("a header");
            assert_eq!(first.expect("an entry").size, 3);
            let data = reader.data_as_raw(&mut ());
            assert_eq!(data.is_ok(), is_whole, "{length}");
            if is_whole {
                assert!(reader.next(&mut ()).expect("the end").is_none(), "{length}");
            }
        }
    }
}
