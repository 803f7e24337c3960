//! HTTP/1.1 responses: the head (RFC 9112 section 4) and the three ways a body can be delimited (section 6).

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::ClientError;
use super::socket::Socket;

/// Reading side of a connection. The socket is shared with whoever writes.
pub type Reader = BufReader<SharedSocket>;

/// A socket that is read through one handle and written through another, with what was read while a request was still
/// being sent.
#[derive(Debug, Clone)]
pub struct SharedSocket {
    /// The socket.
    pub socket: Arc<Socket>,
    early: Vec<u8>,
}

impl SharedSocket {
    /// Nothing has been read yet.
    pub fn new(socket: Arc<Socket>) -> SharedSocket {
        SharedSocket {
            socket,
            early: Vec::new(),
        }
    }

    /// Puts aside what has come, without waiting. False when the daemon will send no more.
    ///
    /// # Errors
    /// See recv(2).
    pub fn read_early(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match rustix::net::recv(&*self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Ok(false),
            Ok((n, _)) => {
                self.early.extend_from_slice(&buffer[..n]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for SharedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early.is_empty() {
            return (&*self.socket).read(buffer);
        }
        let n = self.early.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.early[..n]);
        self.early.drain(..n);
        Ok(n)
    }
}

/// Longest response head that is read; a daemon's are a few hundred bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Status line and header fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// For example 404.
    pub status: u16,
    /// For example `Not Found`.
    pub reason: String,
    /// Header fields in the order they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// A header field's value, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Reads bytes up to and including the empty line, and takes them apart.
///
/// # Errors
/// The connection ended or what came is not HTTP.
pub fn read_head(reader: &mut impl BufRead) -> Result<Head, ClientError> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        let n = reader
            .by_ref()
            .take(MAX_HEAD as u64)
            .read_until(b'\n', &mut bytes)
            .map_err(ClientError::Read)?;
        if n == 0 {
            return Err(ClientError::Closed);
        }
        if bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"\n\n") {
            return parse_head(&bytes);
        }
        if bytes.len() > MAX_HEAD {
            return Err(ClientError::Malformed(
                "the response head has no end".into(),
            ));
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Head, ClientError> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    parsed
        .parse(bytes)
        .map_err(|error| ClientError::Malformed(format!("malformed HTTP response: {error}")))?;
    let headers = parsed
        .headers
        .iter()
        .map(|field| {
            (
                field.name.to_owned(),
                String::from_utf8_lossy(field.value).into_owned(),
            )
        })
        .collect();
    Ok(Head {
        status: parsed.code.unwrap_or(0),
        reason: parsed.reason.unwrap_or_default().to_owned(),
        headers,
    })
}

/// How much of a body is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// This many bytes.
    Bytes(u64),
    /// This many bytes of the chunk that has begun; 0 means a chunk's head comes next.
    Chunk(u64),
    /// Everything until the connection ends.
    UntilClose,
    /// Nothing.
    Nothing,
}

/// A response body; reading it ends where the body ends.
#[derive(Debug)]
pub struct Body<R = Reader> {
    reader: R,
    left: Left,
    first_chunk: bool,
}

impl<R: BufRead> Body<R> {
    /// The body that follows a head.
    pub fn new(reader: R, head: &Head, of_head_request: bool) -> Body<R> {
        Body {
            reader,
            left: how_delimited(head, of_head_request),
            first_chunk: true,
        }
    }

    /// Whether the connection can carry another request: all was read and the server keeps it open.
    pub fn finished(&self) -> bool {
        self.left == Left::Nothing
    }

    /// The connection behind it.
    pub fn into_reader(self) -> R {
        self.reader
    }

    fn next_chunk(&mut self) -> io::Result<u64> {
        if !std::mem::take(&mut self.first_chunk) {
            read_line(&mut self.reader)?;
        }
        let line = read_line(&mut self.reader)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "malformed chunk size"))?;
        if size == 0 {
            while !read_line(&mut self.reader)?.is_empty() {}
            self.left = Left::Nothing;
        }
        Ok(size)
    }
}

fn how_delimited(head: &Head, of_head_request: bool) -> Left {
    if of_head_request || head.status == 204 || head.status == 304 || head.status < 200 {
        return Left::Nothing;
    }
    if head
        .header("transfer-encoding")
        .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    {
        return Left::Chunk(0);
    }
    match head
        .header("content-length")
        .and_then(|value| value.trim().parse().ok())
    {
        Some(0) => Left::Nothing,
        Some(length) => Left::Bytes(length),
        None => Left::UntilClose,
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.take(MAX_HEAD as u64).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let limit = match self.left {
            Left::Nothing => return Ok(0),
            Left::UntilClose => u64::MAX,
            Left::Bytes(n) => n,
            Left::Chunk(0) => match self.next_chunk()? {
                0 => return Ok(0),
                n => n,
            },
            Left::Chunk(n) => n,
        };
        let take = usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = self.reader.read(&mut buffer[..take])?;
        if n == 0 && self.left != Left::UntilClose {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let rest = limit - n as u64;
        self.left = match self.left {
            Left::Bytes(_) if rest == 0 => Left::Nothing,
            Left::Bytes(_) => Left::Bytes(rest),
            Left::Chunk(_) => Left::Chunk(rest),
            other => other,
        };
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(raw: &str) -> (Head, Vec<u8>, String) {
        let mut reader = BufReader::with_capacity(7, raw.as_bytes());
        let head = read_head(&mut reader).expect("a head");
        let mut body = Body::new(reader, &head, false);
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).expect("a body");
        let mut rest = String::new();
        body.into_reader()
            .read_to_string(&mut rest)
            .expect("the rest");
        (head, bytes, rest)
    }

    #[test]
    fn bodies_end_where_they_say() {
        for (raw, expected, rest) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloNEXT",
                "hello",
                "NEXT",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\nNEXT",
                "hello world",
                "NEXT",
            ),
            ("HTTP/1.1 204 No Content\r\n\r\nNEXT", "", "NEXT"),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end", ""),
        ] {
            let (_, bytes, after) = read_all(raw);
            assert_eq!(
                (String::from_utf8_lossy(&bytes).as_ref(), after.as_str()),
                (expected, rest),
                "{raw}"
            );
        }
    }

    #[test]
    fn head_is_taken_apart() {
        let (head, _, _) =
            read_all("HTTP/1.1 404 Not Found\r\nApi-Version: 1.51\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((head.status, head.reason.as_str()), (404, "Not Found"));
        assert_eq!(head.header("api-version"), Some("1.51"));
        assert_eq!(head.header("x"), None);
    }

    #[test]
    fn a_cut_body_is_an_error() {
        for raw in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        ] {
            let mut reader = raw.as_bytes();
            let head = read_head(&mut reader).expect("a head");
            let mut bytes = Vec::new();
            assert!(
                Body::new(reader, &head, false)
                    .read_to_end(&mut bytes)
                    .is_err(),
                "{raw}"
            );
        }
    }
}
