//! A client of registries that writes down what was acknowledged, for tests that kill the other end.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use crate::archive::sha256;
use crate::deadline::{LONG, wait_until};

/// One answer: status, Location, body.
#[derive(Debug)]
pub struct Answer {
    /// 200 and so on.
    pub status: u16,
    /// Where an upload goes on, or a blob is.
    pub location: String,
    /// All of it.
    pub body: Vec<u8>,
}

/// One request over a connection of its own; `None` when the other end was not there, or went away before its answer was whole.
#[must_use]
pub fn ask(port: u16, method: &str, path: &str, kind: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok()?;
    let end = all.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let length: usize = header("Content-Length:").parse().unwrap_or(0);
    let answer = Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        location: header("Location:"),
        body: all[end + 4..].to_vec(),
    };
    (answer.body.len() == length).then_some(answer)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What was acknowledged: paths and their bytes.
#[derive(Debug, Default)]
pub struct Books(Mutex<HashMap<String, Vec<u8>>>);

impl Books {
    fn note(&self, path: String, bytes: Vec<u8>) {
        self.0.lock().expect("no panic").insert(path, bytes);
    }

    fn len(&self) -> usize {
        self.0.lock().expect("no panic").len()
    }

    /// Waits until more than `more` has been acknowledged than now.
    pub fn wait_for_more(&self, more: usize) {
        let before = self.len();
        wait_until("something to be acknowledged", LONG, || {
            self.len() > before + more
        });
    }

    /// All of it is there.
    pub fn check(&self, port: u16) {
        for (path, bytes) in self.0.lock().expect("no panic").iter() {
            let got = ask(port, "GET", path, "", b"").unwrap_or_else(|| panic!("{path}"));
            assert_eq!((got.status, &got.body), (200, bytes), "{path}");
        }
    }
}

/// Pushes one image with two blobs; what was acknowledged goes into the books, whether or not the push ends.
pub fn push(port: u16, seed: &str, books: &Books) -> Option<()> {
    let repo = format!("r{}", seed.len() % 3);
    let mut parts = Vec::new();
    for n in 0..2 {
        let bytes: Vec<u8> = format!("{seed}-{n}-").into_bytes().repeat(1 + n * 9000);
        let digest = format!("sha256:{}", sha256(&bytes));
        let begun = ask(port, "POST", &format!("/v2/{repo}/blobs/uploads/"), "", b"")?;
        let half = bytes.len() / 2;
        let first = ask(port, "PATCH", &begun.location, "", &bytes[..half])?;
        let done = ask(
            port,
            "PUT",
            &format!("{}?digest={digest}", first.location),
            "",
            &bytes[half..],
        )?;
        if done.status != 201 {
            return None;
        }
        parts.push(serde_json::json!({"mediaType": "x", "digest": digest, "size": bytes.len()}));
        books.note(format!("/v2/{repo}/blobs/{digest}"), bytes);
    }
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": [parts[1]]});
    let bytes = manifest.to_string().into_bytes();
    let path = format!("/v2/{repo}/manifests/{seed}");
    let put = ask(port, "PUT", &path, MANIFEST, &bytes)?;
    if put.status == 201 {
        books.note(path, bytes);
    }
    Some(())
}

/// A port that nobody listens on.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
