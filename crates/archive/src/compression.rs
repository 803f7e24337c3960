//! Compressed streams, recognised by their first bytes as Docker does.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain bytes.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// XZ.
    Xz,
    /// bzip2.
    Bzip2,
}

/// How many times its size a large stream may expand to. Files compress by 2 to 20, logs by 50; bytes that are all the same by 1,030 with
/// gzip, and by far more with zstd.
pub const MAX_EXPANSION: u64 = 100;
/// Streams that expand to no more are never refused.
const SMALL: u64 = 1 << 30;

/// Bytes [`Compression::detect`] wants to see.
pub const MAGIC_LEN: usize = 6;

impl Compression {
    /// Looks at the start of a stream.
    pub fn detect(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
            // A zstd frame, or a skippable one before it (RFC 8878, 3.1).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [b'B', b'Z', b'h', ..] => Compression::Bzip2,
            _ => Compression::None,
        }
    }

    /// The plain bytes of `input`; streams of several members are read to their end. A stream that expands to more than a GiB and to more
    /// than [`MAX_EXPANSION`] times its size is an error.
    pub fn reader<'a>(
        self,
        input: impl BufRead + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        self.reader_within(input, MAX_EXPANSION)
    }

    /// As [`Compression::reader`] with another limit, 0 for none.
    pub fn reader_within<'a>(
        self,
        input: impl BufRead + Send + 'a,
        max_expansion: u64,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        if self == Compression::None || max_expansion == 0 {
            return self.unlimited(input);
        }
        let taken = Arc::new(AtomicU64::new(0));
        let input = Counted {
            input,
            taken: taken.clone(),
        };
        Ok(Box::new(Guarded {
            plain: self.unlimited(input)?,
            taken,
            given: 0,
            max_expansion,
        }))
    }

    fn unlimited<'a>(
        self,
        input: impl BufRead + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
            Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input)),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        })
    }
}

/// Counts what a decoder takes.
struct Counted<R> {
    input: R,
    taken: Arc<AtomicU64>,
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, used: usize) {
        self.taken.fetch_add(used as u64, Ordering::Relaxed);
        self.input.consume(used);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(out)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Stops a stream that grows out of all proportion.
struct Guarded<'a> {
    plain: Box<dyn Read + Send + 'a>,
    taken: Arc<AtomicU64>,
    given: u64,
    max_expansion: u64,
}

impl Read for Guarded<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.plain.read(out)?;
        self.given += n as u64;
        let taken = self.taken.load(Ordering::Relaxed);
        if self.given > SMALL && self.given / self.max_expansion > taken {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "refused as a decompression bomb: {taken} bytes expand to more than {} times as many (image-max-expansion)",
                    self.max_expansion
                ),
            ));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn zeros(length: u64) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let piece = vec![0; 1 << 20];
        for _ in 0..length >> 20 {
            encoder.write_all(&piece).expect("memory");
        }
        encoder.finish().expect("memory")
    }

    #[test]
    fn bombs_are_refused_and_large_files_are_not() {
        let bomb = zeros(SMALL + (64 << 20));
        for (limit, refused) in [(MAX_EXPANSION, true), (0, false)] {
            let reader = Compression::Gzip.reader_within(&bomb[..], limit);
            let outcome = io::copy(&mut reader.expect("opens"), &mut io::sink());
            assert_eq!(outcome.is_err(), refused, "{limit}");
        }
    }
}
