//! A plugin of the engine, over Docker's plugin protocol: JSON posted to a Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Where every daemon looks for sockets.
pub const EVERYBODYS: &str = "/run/docker/plugins";

/// A plugin that listens until it is dropped.
#[derive(Debug)]
pub struct Plugin {
    name: String,
    socket: PathBuf,
}

impl Plugin {
    /// Starts a plugin of the kind `implements` (`authz`, `VolumeDriver`), its socket in `dir`. `answer` gets the method and what
    /// was posted.
    pub fn start(
        dir: &Path,
        implements: &'static str,
        mut answer: impl FnMut(&str, &Value) -> Value + Send + 'static,
    ) -> Plugin {
        let name = format!("wharf-{}-{}", implements.to_lowercase(), std::process::id());
        std::fs::create_dir_all(dir).expect("a directory for plugins");
        let socket = dir.join(format!("{name}.sock"));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A daemon that ended in the middle of a request is no fault of the plugin.
                let _ = serve(stream, |method, asked| match method {
                    "/Plugin.Activate" => json!({"Implements": [implements]}),
                    method => answer(method, asked),
                });
            }
        });
        Plugin { name, socket }
    }

    /// What the daemon's options call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(stream: UnixStream, answer: impl FnOnce(&str, &Value) -> Value) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let method = line.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let text = answer(&method, &serde_json::from_slice(&body).unwrap_or_default()).to_string();
    write!(
        reader.get_mut(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}
