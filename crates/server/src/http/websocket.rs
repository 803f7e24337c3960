//! WebSocket frames (RFC 6455), the little of them that attach needs. Pure: bytes in, bytes out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Section 1.3: what a server adds to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// No keystroke or paste needs more; a larger frame is a mistake or an attack.
const MAX_PAYLOAD: u64 = 1 << 20;

/// Frame types of section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with the message before.
    Continuation = 0,
    /// UTF-8.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The other side ends.
    Close = 8,
    /// Wants a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

/// One frame, unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub opcode: Opcode,
    /// What it carries.
    pub payload: Bytes,
}

/// Not a WebSocket frame of a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Clients must mask (section 5.1).
    #[error("unmasked frame")]
    Unmasked,
    /// An opcode nobody defined.
    #[error("unknown opcode {0}")]
    Opcode(u8),
    /// Too much for one frame.
    #[error("frame of {0} bytes")]
    TooLong(u64),
}

/// The `Sec-WebSocket-Accept` that proves we read the client's key.
#[must_use]
pub fn accept(key: &str) -> String {
    STANDARD.encode(digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{GUID}").as_bytes(),
    ))
}

/// Takes one whole client frame off the front of `buf`; `None` until there is one.
pub fn decode(buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let &[first, second, ..] = &buf[..] else {
        return Ok(None);
    };
    let opcode = opcode(first & 0x0f)?;
    if second & 0x80 == 0 {
        return Err(FrameError::Unmasked);
    }
    let (length, header) = match second & 0x7f {
        126 if buf.len() < 4 => return Ok(None),
        126 => (u64::from(u16::from_be_bytes([buf[2], buf[3]])), 4),
        127 if buf.len() < 10 => return Ok(None),
        127 => ((&buf[2..10]).get_u64(), 10),
        short => (u64::from(short), 2),
    };
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong(length));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if buf.len() < header + 4 + length {
        return Ok(None);
    }
    buf.advance(header);
    let mask = [buf[0], buf[1], buf[2], buf[3]];
    buf.advance(4);
    let mut payload = buf.split_to(length);
    payload
        .iter_mut()
        .zip(mask.iter().cycle())
        .for_each(|(byte, key)| *byte ^= key);
    Ok(Some(Frame {
        opcode,
        payload: payload.freeze(),
    }))
}

fn opcode(number: u8) -> Result<Opcode, FrameError> {
    use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
    [Continuation, Text, Binary, Close, Ping, Pong]
        .into_iter()
        .find(|opcode| *opcode as u8 == number)
        .ok_or(FrameError::Opcode(number))
}

/// A whole server frame around `payload`.
#[must_use]
pub fn encode(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    const FINAL: u8 = 0x80;
    let mut frame = vec![FINAL | opcode as u8];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame.
    fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let plain = encode(opcode, payload);
        let header = plain.len() - payload.len();
        let mask = [1u8, 2, 3, 4];
        let mut frame = plain[..header].to_vec();
        frame[1] |= 0x80;
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, k)| b ^ k));
        frame
    }

    #[test]
    fn key_is_accepted_as_in_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn frames_of_every_length_come_back() {
        for length in [0, 1, 125, 126, 65535, 65536] {
            let payload = vec![7u8; length];
            let bytes = masked(Opcode::Binary, &payload);
            let mut buf = BytesMut::new();
            // All but the last byte are no frame yet.
            buf.extend_from_slice(&bytes[..bytes.len() - 1]);
            assert_eq!(decode(&mut buf), Ok(None), "{length}");
            buf.extend_from_slice(&bytes[bytes.len() - 1..]);
            assert_eq!(
                decode(&mut buf),
                Ok(Some(Frame {
                    opcode: Opcode::Binary,
                    payload: payload.into()
                }))
            );
            assert!(buf.is_empty());
        }
    }

    #[test]
    fn bad_frames_are_refused() {
        assert_eq!(
            decode(&mut BytesMut::from(&encode(Opcode::Text, b"x")[..])),
            Err(FrameError::Unmasked)
        );
        assert_eq!(
            decode(&mut BytesMut::from(&[0x83u8, 0x80][..])),
            Err(FrameError::Opcode(3))
        );
        let mut long = vec![0x82, 0xff];
        long.extend(u64::MAX.to_be_bytes());
        assert_eq!(
            decode(&mut BytesMut::from(&long[..])),
            Err(FrameError::TooLong(u64::MAX))
        );
    }
}
