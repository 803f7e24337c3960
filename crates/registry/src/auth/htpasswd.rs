//! Passwords: lines of `name:hash`, bcrypt only. A password that was right is remembered for a while (as a keyed hash), because bcrypt is slow on purpose
//! and clients show it with every request.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use ring::hmac;

use super::AuthError;

/// For how long a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// The hash of no password, of the usual cost: a name that does not exist takes as long as one that does.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuJ8QsOpmDZ8YVpNUpwkzCcqfmWDU.n1G";

/// A file of passwords.
#[derive(Debug)]
pub struct Htpasswd {
    path: PathBuf,
    state: Mutex<State>,
    key: hmac::Key,
}

#[derive(Debug)]
struct State {
    users: HashMap<String, String>,
    modified: Option<SystemTime>,
    looked: Instant,
    right: HashMap<[u8; 32], Instant>,
}

impl Htpasswd {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> Result<Htpasswd, AuthError> {
        let users = read(path).map_err(|source| AuthError::Htpasswd {
            path: path.to_owned(),
            source,
        })?;
        Ok(Htpasswd {
            path: path.to_owned(),
            state: Mutex::new(State {
                users,
                modified: modified(path),
                looked: Instant::now(),
                right: HashMap::new(),
            }),
            key: hmac::Key::new(hmac::HMAC_SHA256, &crate::random::bytes::<32>()),
        })
    }

    /// Whether the password is the user's.
    pub async fn check(&self, name: &str, password: &str) -> bool {
        self.look();
        let mut seen = hmac::Context::with_key(&self.key);
        seen.update(&(name.len() as u64).to_le_bytes());
        seen.update(name.as_bytes());
        seen.update(password.as_bytes());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(seen.sign().as_ref());
        let hash = {
            let state = self.state.lock();
            if state
                .right
                .get(&fingerprint)
                .is_some_and(|since| since.elapsed() < REMEMBERED)
            {
                return true;
            }
            state.users.get(name).cloned()
        };
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        let password = password.to_owned();
        // A quarter of a tenth of a second of work.
        let right =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false))
                .await
                .unwrap_or(false);
        if right && known {
            let mut state = self.state.lock();
            if state.right.len() > 10_000 {
                state.right.clear();
            }
            state.right.insert(fingerprint, Instant::now());
        }
        right && known
    }

    /// Reads the file again if it changed.
    fn look(&self) {
        let mut state = self.state.lock();
        if state.looked.elapsed() < LOOK {
            return;
        }
        state.looked = Instant::now();
        if modified(&self.path) != state.modified {
            drop(state);
            self.reload();
        }
    }

    /// Reads the file again. One that cannot be read leaves everything as it was.
    pub fn reload(&self) {
        let now = modified(&self.path);
        match read(&self.path) {
            Ok(users) => {
                let mut state = self.state.lock();
                state.users = users;
                state.modified = now;
                state.right.clear();
            }
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "auth.htpasswd cannot be read; the old one stays")
            }
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
}

fn read(path: &Path) -> std::io::Result<HashMap<String, String>> {
    Ok(parse(&std::fs::read_to_string(path)?))
}

/// Names and hashes; comments and what is no bcrypt hash are left out, with a word in the log.
fn parse(text: &str) -> HashMap<String, String> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, hash) = line.split_once(':')?;
            let bcrypt = ["$2y$", "$2b$", "$2a$", "$2x$"].iter().any(|kind| hash.starts_with(kind));
            if !bcrypt {
                tracing::warn!(user = name, "auth.htpasswd: only bcrypt hashes are supported (htpasswd -B); the user cannot log in");
            }
            bcrypt.then(|| (name.to_owned(), hash.to_owned()))
        })
        .collect()
}

/// A text of such a file with the user's password set, or with the user gone.
///
/// # Errors
/// The password cannot be hashed (it is longer than bcrypt takes).
pub fn edit(text: &str, name: &str, password: Option<&str>) -> Result<String, bcrypt::BcryptError> {
    let prefix = format!("{name}:");
    let mut edited: String = text
        .lines()
        .filter(|line| !line.starts_with(&prefix))
        .map(|line| format!("{line}\n"))
        .collect();
    if let Some(password) = password {
        let hash =
            bcrypt::hash_with_result(password, 10)?.format_for_version(bcrypt::Version::TwoY);
        edited.push_str(&format!("{name}:{hash}\n"));
    }
    Ok(edited)
}

/// The names in such a file.
pub fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = parse(text).into_keys().collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_and_changes_of_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("htpasswd");
        let text = edit("# users\n", "alice", Some("secret")).expect("hashes");
        std::fs::write(&path, edit(&text, "bob", Some("b")).expect("hashes")).expect("writes");
        let file = Htpasswd::open(&path).expect("opens");
        assert!(file.check("alice", "secret").await);
        assert!(file.check("alice", "secret").await, "remembered");
        assert!(!file.check("alice", "Secret").await);
        assert!(!file.check("nobody", "secret").await);
        let text = std::fs::read_to_string(&path).expect("reads");
        assert_eq!(names(&text), ["alice", "bob"]);
        std::fs::write(&path, edit(&text, "alice", None).expect("edits")).expect("writes");
        file.reload();
        assert!(!file.check("alice", "secret").await, "gone");
        assert!(file.check("bob", "b").await);
    }
}
