//! The frames that carry stdout and stderr over one connection (moby `api/pkg/stdcopy`).
//!
//! ```text
//! byte 0: stream (0 stdin, 1 stdout, 2 stderr, 3 error of the engine) | bytes 1-3: zero | bytes 4-7: length, big endian | payload
//! ```

/// Length of a frame's header.
pub const HEADER_LEN: usize = 8;

/// Raw bytes: a terminal's, or from before API 1.42.
pub const RAW: &str = "application/vnd.docker.raw-stream";

/// Framed bytes, since API 1.42.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// Where a frame's payload belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Never sent by the engine; treated as stdout by clients.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The engine failed while streaming; the payload is its message.
    SystemError,
}

/// A stream number nobody defined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unrecognized stream: {0}")]
pub struct UnknownStream(pub u8);

/// The header of a frame of `len` payload bytes.
#[must_use]
pub fn encode_header(stream: Stream, len: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = len.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// The stream and payload length of a header.
pub fn decode_header(header: [u8; HEADER_LEN]) -> Result<(Stream, u32), UnknownStream> {
    let stream = match header[0] {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        3 => Stream::SystemError,
        other => return Err(UnknownStream(other)),
    };
    Ok((
        stream,
        u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_stream_and_big_endian_length() {
        assert_eq!(encode_header(Stream::Stderr, 258), [2, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(
            decode_header([1, 0, 0, 0, 0, 1, 0, 0]),
            Ok((Stream::Stdout, 65536))
        );
        assert_eq!(
            decode_header([9, 0, 0, 0, 0, 0, 0, 0]),
            Err(UnknownStream(9))
        );
    }
}
