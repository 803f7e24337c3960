//! A daemon on another machine, reached as Docker reaches it: the system's `ssh` runs `docker system dial-stdio` there, and its
//! standard input and output are the connection. Keys, host names and jumps are those of the user's `ssh_config`.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::socket::Bridge;

/// Names the program over there where it is not `docker`.
const REMOTE: &str = "WHARF_SSH_COMMAND";

/// `ssh://[user@]host[:port][/path/of/the/socket]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    user: String,
    host: String,
    port: String,
    /// The daemon's socket over there; empty means the usual one.
    path: String,
}

impl SshTarget {
    /// Reads the address.
    ///
    /// # Errors
    /// Docker's text for what does not fit.
    pub fn parse(url: &str) -> Result<SshTarget, String> {
        let bad = |why: &str| format!("ssh host connection is not valid: invalid SSH URL: {why}");
        let rest = url.strip_prefix("ssh://").unwrap_or(url);
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !query.is_empty() {
            return Err(bad(&format!("query parameters are not allowed: {query:?}")));
        }
        if !fragment.is_empty() {
            return Err(bad(&format!("fragments are not allowed: {fragment:?}")));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            return Err(bad("plain-text password is not supported"));
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (host, ""),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(bad("hostname is empty"));
        }
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad(&format!("invalid port \":{port}\" after host")));
        }
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8_lossy()
                .into_owned()
        };
        Ok(SshTarget {
            user: decode(user),
            host: host.to_owned(),
            port: port.to_owned(),
            path: decode(path),
        })
    }

    /// The words after `ssh`, as Docker's client says them: the last ones are the command over there, which `ssh` joins for a shell.
    fn words(&self, remote: &str) -> Vec<String> {
        // No terminal over there, which would echo and change line ends.
        let mut words = vec!["-o ConnectTimeout=30".to_owned(), "-T".to_owned()];
        if !self.user.is_empty() {
            words.extend(["-l".to_owned(), self.user.clone()]);
        }
        if !self.port.is_empty() {
            words.extend(["-p".to_owned(), self.port.clone()]);
        }
        words.extend(["--".to_owned(), self.host.clone(), remote.to_owned()]);
        if !self.path.trim_matches('/').is_empty() {
            words.extend([
                "--host".to_owned(),
                quoted(&format!("unix://{}", self.path)),
            ]);
        }
        words.extend(["system", "dial-stdio"].map(str::to_owned));
        words
    }

    /// Starts `ssh`.
    ///
    /// # Errors
    /// There is no `ssh`, or it cannot be started.
    pub fn connect(&self) -> io::Result<Bridge> {
        let (ours, theirs) = UnixStream::pair()?;
        let remote = crate::context::env(REMOTE).unwrap_or_else(|| "docker".to_owned());
        let words = self.words(&remote);
        let child = Command::new("ssh")
            .args(&words)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::Error::other(
                    "exec: \"ssh\": executable file not found in $PATH: install an SSH client to use ssh:// hosts",
                ),
                _ => error,
            })?;
        let end = Ending {
            child: Mutex::new(child),
            words,
        };
        Ok(Bridge::new(ours, Arc::new(move || end.tell())))
    }
}

/// The `ssh` that runs, for what it says when it ends.
struct Ending {
    child: Mutex<Child>,
    words: Vec<String>,
}

impl Ending {
    /// Why the connection ended, if it did not end well. Called when `ssh` has closed its output.
    fn tell(&self) -> Option<String> {
        let mut child = self.child.lock().ok()?;
        let mut stderr = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            let _ = pipe.read_to_string(&mut stderr);
        }
        let status = child.wait().ok()?;
        if status.success() {
            return None;
        }
        let code = status.code().unwrap_or(-1);
        Some(format!(
            "command [ssh {}] has exited with exit status {code}, make sure the URL is valid, and Docker 18.09 or later is installed on \
             the remote host: stderr={}",
            self.words.join(" "),
            stderr.trim_end()
        ))
    }
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ssh() {
        for (url, remote, expected) in [
            (
                "ssh://me@there:2222",
                "docker",
                "-o ConnectTimeout=30 -T -l me -p 2222 -- there docker system dial-stdio",
            ),
            (
                "ssh://there/run/my x.sock",
                "docker",
                "-o ConnectTimeout=30 -T -- there docker --host 'unix:///run/my x.sock' system dial-stdio",
            ),
            (
                "ssh://[::1]/",
                "wharf",
                "-o ConnectTimeout=30 -T -- ::1 wharf system dial-stdio",
            ),
        ] {
            let target = SshTarget::parse(url).expect(url);
            assert_eq!(target.words(remote).join(" "), expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for (url, why) in [
            ("ssh://", "hostname is empty"),
            ("ssh://a:b@c", "plain-text password is not supported"),
            ("ssh://a?b=c", "query parameters are not allowed: \"b=c\""),
            ("ssh://a#b", "fragments are not allowed: \"b\""),
            ("ssh://a:b", "invalid port \":b\" after host"),
        ] {
            let error = SshTarget::parse(url).expect_err(url);
            assert_eq!(
                error,
                format!("ssh host connection is not valid: invalid SSH URL: {why}")
            );
        }
    }
}
