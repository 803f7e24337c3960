//! Docker's multiplexed stream: 8-byte headers (stream, three zeros, big-endian length) before each piece.

use std::io::{self, Read};

/// One piece of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 0 stdin, 1 stdout, 2 stderr, 3 an error of the daemon.
    pub stream: u8,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// The next frame, `None` at a clean end.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0; 8];
    if from.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header[1..])?;
    assert_eq!(
        header[1..4],
        [0, 0, 0],
        "bytes 1 to 3 of a frame header are zero: {header:?}"
    );
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let mut data = vec![0; length as usize];
    from.read_exact(&mut data)?;
    Ok(Some(Frame {
        stream: header[0],
        data,
    }))
}

/// Both output streams of a finished conversation: (stdout, stderr).
#[must_use]
pub fn split(mut bytes: &[u8]) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(frame) = read_frame(&mut bytes).expect("whole frames") {
        match frame.stream {
            1 => out.extend(frame.data),
            2 => err.extend(frame.data),
            other => panic!("frame of stream {other}"),
        }
    }
    (
        String::from_utf8_lossy(&out).into_owned(),
        String::from_utf8_lossy(&err).into_owned(),
    )
}
