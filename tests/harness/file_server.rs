//! A web server of files, in threads of the test.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::Engine;
use crate::registry::inside;

/// A path's type and bytes.
type Files = BTreeMap<String, (String, Vec<u8>)>;

/// The server; it ends with the test.
#[derive(Debug)]
pub struct FileServer {
    /// `http://127.0.0.1:<port>`
    pub address: String,
    /// Heads of all requests.
    requests: Arc<Mutex<Vec<String>>>,
}

impl FileServer {
    /// Listens inside the engine's network namespace. Paths begin with a slash.
    #[must_use]
    pub fn start(engine: &Engine, files: &[(&str, &str, &[u8])]) -> FileServer {
        let files = files
            .iter()
            .map(|(path, kind, bytes)| ((*path).to_owned(), ((*kind).to_owned(), bytes.to_vec())))
            .collect();
        FileServer::serving(engine, files)
    }

    /// Serves all files of a directory as bytes.
    #[must_use]
    pub fn directory(engine: &Engine, directory: &Path) -> FileServer {
        let mut files = BTreeMap::new();
        let mut pending = vec![directory.to_owned()];
        while let Some(next) = pending.pop() {
            for entry in std::fs::read_dir(&next).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    pending.push(path);
                    continue;
                }
                let name = path.strip_prefix(directory).expect("it is inside");
                let bytes = std::fs::read(&path).expect("a file");
                let kind = "application/octet-stream".to_owned();
                files.insert(format!("/{}", name.display()), (kind, bytes));
            }
        }
        FileServer::serving(engine, files)
    }

    fn serving(engine: &Engine, files: Files) -> FileServer {
        let listener = inside(&engine.netns().path(), || {
            TcpListener::bind(("127.0.0.1", 0)).expect("a port on the loopback")
        });
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (files, seen) = (Arc::new(files), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, seen) = (files.clone(), seen.clone());
                // A client that breaks off is its own business.
                std::thread::spawn(move || answer(stream, &files, &seen));
            }
        });
        FileServer { address, requests }
    }

    /// Heads of all requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no thread panicked").clone()
    }
}

fn answer(stream: TcpStream, files: &Files, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default().to_owned();
    seen.lock().expect("no thread panicked").push(head);
    let none = (String::from("text/plain"), b"not there\n".to_vec());
    let (status, (kind, bytes)) = match files.get(&path) {
        Some(found) => ("200 OK", found),
        None => ("404 Not Found", &none),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len()
    )?;
    stream.write_all(bytes)
}
