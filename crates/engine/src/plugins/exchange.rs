//! One request to a driver and its answer: JSON posted over HTTP.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use wharf_logship::ShipError;
use wharf_logship::connection::{Address, Connection};

/// A driver may have to ask a server far away.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest answer that is read.
const MAX_ANSWER: u64 = 16 << 20;
/// How long a driver that does not listen is waited for: it may be on its way up as the engine is (moby waits 30 s).
const STARTING: Duration = Duration::from_secs(10);

/// Whether a driver that does not listen may be about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It fails at once.
    Fails,
    /// It is tried again for some time.
    MayCome,
}

/// Status and body of the answer. HTTP/1.0, so that the answer ends with the connection and is never chunked.
pub(super) fn exchange(
    address: &Address,
    name: &str,
    method: &str,
    body: &str,
    absent: Absent,
) -> io::Result<(u16, Vec<u8>)> {
    let request = format!(
        "POST {method} HTTP/1.0\r\nHost: {name}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\nContent-Type: application/vnd.docker.plugins.v1.2+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    match connect(address, absent)? {
        Connection::Unix(stream) => {
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream, &request)
        }
        Connection::Tcp(stream) => {
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream, &request)
        }
        Connection::Tls(stream) => {
            stream.sock.set_read_timeout(Some(PATIENCE))?;
            talk(stream, &request)
        }
        Connection::Udp(_) | Connection::UnixDatagram(_) => {
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }
    }
}

fn connect(address: &Address, absent: Absent) -> io::Result<Connection> {
    let (begun, mut pause) = (Instant::now(), Duration::from_millis(50));
    loop {
        match address.connect() {
            Ok(connection) => return Ok(connection),
            Err(ShipError::Connect { .. })
                if absent == Absent::MayCome && begun.elapsed() + pause < STARTING =>
            {
                std::thread::sleep(pause);
                pause *= 2;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

fn talk(mut stream: impl Read + Write, request: &str) -> io::Result<(u16, Vec<u8>)> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
        // Servers commonly end a TLS stream without saying so; the answer's own length tells whether it is whole.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        other => drop(other?),
    }
    split(answer)
}

/// Status and body of an answer.
fn split(mut answer: Vec<u8>) -> io::Result<(u16, Vec<u8>)> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed HTTP answer");
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(malformed)?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    if length(&head).is_some_and(|length| body.len() < length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((status.ok_or_else(malformed)?, body))
}

fn length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let (status, body) =
            split(Vec::from(*b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}")).expect("an answer");
        assert_eq!((status, body.as_slice()), (200, &b"{}"[..]));
        for broken in [
            "nonsense",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.0 x\r\n\r\n",
        ] {
            assert!(split(broken.into()).is_err(), "{broken}");
        }
    }
}
