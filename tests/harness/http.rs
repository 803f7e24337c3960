//! A plain HTTP/1.1 client for a unix socket: keeps the bytes visible, which is what tests of a protocol need.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::deadline::LONG;

/// Status line and headers of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Names as sent, in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// First header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    fn body_length(&self) -> BodyLength {
        if matches!(self.status, 101 | 204 | 304) {
            return BodyLength::Fixed(0);
        }
        if self
            .header("transfer-encoding")
            .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
        {
            return BodyLength::Chunked;
        }
        match self.header("content-length").and_then(|v| v.parse().ok()) {
            Some(length) => BodyLength::Fixed(length),
            None => BodyLength::UntilClosed,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum BodyLength {
    Fixed(u64),
    Chunked,
    UntilClosed,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status and headers.
    pub head: Head,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Response {
    /// Status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {} {}", self.status(), self.text()))
    }

    /// The `message` of an error body.
    #[must_use]
    pub fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Panics unless the status is this one.
    #[must_use]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status(), status, "unexpected answer: {}", self.text());
        self
    }
}

/// One connection, kept alive between requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects.
    pub fn open(socket: &Path) -> io::Result<Connection> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LONG * 5))?;
        Ok(Connection {
            stream: BufReader::with_capacity(64 * 1024, stream),
        })
    }

    /// Sends a request.
    pub fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: docker\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.send_raw(&bytes)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads status line and headers; informational answers other than 101 are passed over.
    pub fn read_head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.read_one_head()?;
            if head.status == 101 || head.status >= 200 {
                return Ok(head);
            }
        }
    }

    fn read_one_head(&mut self) -> io::Result<Head> {
        let status_line = self.read_line()?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .ok_or_else(|| bad(&status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(Head { status, headers });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The body that follows `head`.
    pub fn into_body(self, head: &Head) -> Body {
        Body {
            length: head.body_length(),
            connection: self,
            chunk_left: 0,
            done: false,
        }
    }

    /// One request, one whole answer; the connection stays usable.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> io::Result<Response> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        self.send(
            method,
            target,
            &[("Content-Type", "application/json")],
            bytes.as_bytes(),
        )?;
        let head = self.read_head()?;
        let mut out = Vec::new();
        if method != "HEAD" {
            let mut state = BodyState {
                length: head.body_length(),
                chunk_left: 0,
                done: false,
            };
            state.read_to_end(self, &mut out)?;
        }
        Ok(Response { head, body: out })
    }
}

struct BodyState {
    length: BodyLength,
    chunk_left: u64,
    done: bool,
}

impl BodyState {
    fn read(&mut self, connection: &mut Connection, buf: &mut [u8]) -> io::Result<usize> {
        if self.done || buf.is_empty() {
            return Ok(0);
        }
        match self.length {
            BodyLength::UntilClosed => connection.stream.read(buf),
            BodyLength::Fixed(left) => {
                let n = read_at_most(connection, buf, left)?;
                self.length = BodyLength::Fixed(left - n as u64);
                Ok(n)
            }
            BodyLength::Chunked => {
                if self.chunk_left == 0 {
                    self.chunk_left = next_chunk(connection)?;
                    if self.chunk_left == 0 {
                        self.done = true;
                        return Ok(0);
                    }
                }
                let n = read_at_most(connection, buf, self.chunk_left)?;
                self.chunk_left -= n as u64;
                if self.chunk_left == 0 {
                    connection.read_line()?;
                }
                Ok(n)
            }
        }
    }

    fn read_to_end(&mut self, connection: &mut Connection, out: &mut Vec<u8>) -> io::Result<()> {
        let mut buf = vec![0; 64 * 1024];
        loop {
            let n = self.read(connection, &mut buf)?;
            if n == 0 {
                return Ok(());
            }
            out.extend_from_slice(&buf[..n]);
        }
    }
}

fn read_at_most(connection: &mut Connection, buf: &mut [u8], left: u64) -> io::Result<usize> {
    let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    if most == 0 {
        return Ok(0);
    }
    match connection.stream.read(&mut buf[..most])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => Ok(n),
    }
}

/// Size of the next chunk; after the last one (zero) the trailer is read too.
fn next_chunk(connection: &mut Connection) -> io::Result<u64> {
    let line = connection.read_line()?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    let size = u64::from_str_radix(digits, 16).map_err(|_| bad(&line))?;
    if size == 0 {
        while !connection.read_line()?.is_empty() {}
    }
    Ok(size)
}

fn bad(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {line:?}"))
}

/// A body read as it arrives.
#[derive(Debug)]
pub struct Body {
    connection: Connection,
    length: BodyLength,
    chunk_left: u64,
    done: bool,
}

impl Body {
    /// Changes how long a read may wait.
    pub fn set_read_timeout(&self, limit: std::time::Duration) {
        self.connection
            .stream
            .get_ref()
            .set_read_timeout(Some(limit))
            .expect("a unix socket takes a timeout");
    }

    /// The next line, `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.read(&mut byte).expect("read of a streamed body") == 1 {
            if byte[0] == b'\n' {
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            line.push(byte[0]);
        }
        (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = BodyState {
            length: self.length,
            chunk_left: self.chunk_left,
            done: self.done,
        };
        let n = state.read(&mut self.connection, buf);
        (self.length, self.chunk_left, self.done) = (state.length, state.chunk_left, state.done);
        n
    }
}

/// A connection that stopped being HTTP.
#[derive(Debug)]
pub struct Hijacked {
    /// The answer that ended HTTP.
    pub head: Head,
    stream: BufReader<UnixStream>,
}

impl Hijacked {
    /// Tells the other side that no more input comes.
    pub fn close_write(&self) {
        self.stream
            .get_ref()
            .shutdown(Shutdown::Write)
            .expect("half-close of a unix socket");
    }

    /// Everything until the other side closes.
    pub fn read_all(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.stream
            .read_to_end(&mut out)
            .expect("read of a hijacked connection");
        out
    }
}

impl Read for Hijacked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl Write for Hijacked {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.get_mut().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.get_mut().flush()
    }
}

/// Requests to one daemon, a fresh connection each.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Talks to the daemon at `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Client {
        Client {
            socket: socket.to_owned(),
        }
    }

    /// A connection for several requests.
    #[must_use]
    pub fn connect(&self) -> Connection {
        Connection::open(&self.socket)
            .unwrap_or_else(|e| panic!("connect to {}: {e}", self.socket.display()))
    }

    /// Whether the daemon answers a ping.
    #[must_use]
    pub fn answers(&self) -> bool {
        Connection::open(&self.socket)
            .and_then(|mut c| c.request("GET", "/_ping", None))
            .is_ok_and(|r| r.status() == 200)
    }

    /// One request with a JSON body or none.
    #[must_use]
    pub fn request(&self, method: &str, target: &str, body: Option<&Value>) -> Response {
        self.connect()
            .request(method, target, body)
            .unwrap_or_else(|e| panic!("{method} {target}: {e}"))
    }

    /// `GET`.
    #[must_use]
    pub fn get(&self, target: &str) -> Response {
        self.request("GET", target, None)
    }

    /// `POST` of JSON.
    #[must_use]
    pub fn post(&self, target: &str, body: &Value) -> Response {
        self.request("POST", target, Some(body))
    }

    /// `POST` without a body.
    #[must_use]
    pub fn post_empty(&self, target: &str) -> Response {
        self.request("POST", target, None)
    }

    /// `DELETE`.
    #[must_use]
    pub fn delete(&self, target: &str) -> Response {
        self.request("DELETE", target, None)
    }

    /// `POST` of arbitrary bytes. A daemon that answers early and stops reading is not an error.
    #[must_use]
    pub fn post_bytes(&self, target: &str, content_type: &str, bytes: &[u8]) -> Response {
        let mut connection = self.connect();
        let _ = connection.send("POST", target, &[("Content-Type", content_type)], bytes);
        let head = connection
            .read_head()
            .unwrap_or_else(|e| panic!("POST {target}: {e}"));
        let mut body = Vec::new();
        // An early answer may be followed by a reset; what arrived before is the answer.
        let _ = connection.into_body(&head).read_to_end(&mut body);
        Response { head, body }
    }

    /// A request whose answer is read as it arrives.
    #[must_use]
    pub fn stream(&self, method: &str, target: &str) -> (Head, Body) {
        let mut connection = self.connect();
        connection
            .send(method, target, &[], b"")
            .unwrap_or_else(|e| panic!("{method} {target}: {e}"));
        let head = connection
            .read_head()
            .unwrap_or_else(|e| panic!("{method} {target}: {e}"));
        let body = connection.into_body(&head);
        (head, body)
    }

    /// Takes over the connection with `Upgrade: tcp`.
    #[must_use]
    pub fn hijack(&self, target: &str, body: Option<&Value>) -> Hijacked {
        self.hijack_with(
            target,
            &[("Connection", "Upgrade"), ("Upgrade", "tcp")],
            body,
        )
    }

    /// Takes over the connection with headers of the caller's choice.
    #[must_use]
    pub fn hijack_with(
        &self,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Hijacked {
        let mut connection = self.connect();
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let mut all = vec![("Content-Type", "application/json")];
        all.extend_from_slice(headers);
        connection
            .send("POST", target, &all, bytes.as_bytes())
            .unwrap_or_else(|e| panic!("POST {target}: {e}"));
        let head = connection
            .read_head()
            .unwrap_or_else(|e| panic!("POST {target}: {e}"));
        Hijacked {
            head,
            stream: connection.stream,
        }
    }
}
