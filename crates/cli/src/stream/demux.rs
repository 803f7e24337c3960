//! Taking apart the frames that carry stdout and stderr over one connection.

use wharf_api::stream::{HEADER_LEN, Stream, UnknownStream, decode_header};

/// Where in the stream of frames we are. Bytes may come in pieces of any size.
#[derive(Debug, Default)]
pub struct Demux {
    header: [u8; HEADER_LEN],
    have: usize,
    /// Payload still to come, and whose it is.
    left: Option<(Stream, usize)>,
}

/// A piece of output.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Whose output it is.
    pub stream: Stream,
    /// Not empty.
    pub bytes: &'a [u8],
}

impl Demux {
    /// Takes the next piece of output off the front of `input`; `None` when the rest was only part of a header.
    ///
    /// # Errors
    /// A frame of no known stream: what comes is not framed at all.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, UnknownStream> {
        loop {
            if let Some((stream, left)) = self.left {
                let take = left.min(input.len());
                if take == 0 && left > 0 {
                    return Ok(None);
                }
                let (bytes, rest) = input.split_at(take);
                *input = rest;
                self.left = (take < left).then_some((stream, left - take));
                if take > 0 {
                    return Ok(Some(Piece { stream, bytes }));
                }
                continue;
            }
            let take = (HEADER_LEN - self.have).min(input.len());
            if take == 0 {
                return Ok(None);
            }
            self.header[self.have..self.have + take].copy_from_slice(&input[..take]);
            self.have += take;
            *input = &input[take..];
            if self.have == HEADER_LEN {
                let (stream, length) = decode_header(self.header)?;
                self.have = 0;
                self.left = Some((stream, length as usize));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::stream::encode_header;

    #[test]
    fn frames_come_apart_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        for (stream, text) in [
            (Stream::Stdout, "hello"),
            (Stream::Stderr, "oh"),
            (Stream::Stdout, ""),
            (Stream::Stdout, "x"),
        ] {
            bytes.extend(encode_header(
                stream,
                u32::try_from(text.len()).expect("short"),
            ));
            bytes.extend(text.as_bytes());
        }
        for cut in 1..bytes.len() {
            let (mut out, mut err, mut demux) = (Vec::new(), Vec::new(), Demux::default());
            for mut chunk in bytes.chunks(cut) {
                while let Some(piece) = demux.next(&mut chunk).expect("framed") {
                    let sink = if piece.stream == Stream::Stderr {
                        &mut err
                    } else {
                        &mut out
                    };
                    sink.extend(piece.bytes);
                }
            }
            assert_eq!(
                (out.as_slice(), err.as_slice()),
                (&b"hellox"[..], &b"oh"[..]),
                "cut into {cut}"
            );
        }
    }

    #[test]
    fn unframed_bytes_are_noticed() {
        let mut input = &b"plain text"[..];
        assert_eq!(Demux::default().next(&mut input), Err(UnknownStream(b'p')));
    }
}
