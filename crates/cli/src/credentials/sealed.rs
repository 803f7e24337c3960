//! Credentials in a file of our own, sealed with a key that only the kernel holds: who gets hold of the file, or of the disk, reads nothing.
//!
//! ```text
//! ~/.docker/wharf-credentials.json     { "<server>": "<base64 of nonce and ChaCha20-Poly1305 of a JSON object>" }
//! ```
//!
//! The key is made at the first login and lives in the user's keyring until the machine stops; after that one logs in again. `config.json` only says
//! that there are credentials, as it does with helper programs, and `docker-credential-wharf` (a link to this program) gives them to other clients.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use wharf_sys::keyring;

use super::{Auth, hostname};
use crate::config_file::write_private;
use crate::failure::Failure;

const FILE: &str = "wharf-credentials.json";
/// What the kernel calls the key.
const KEY: &std::ffi::CStr = c"wharf:credentials";
/// `WHARF_CREDENTIALS=file` keeps credentials as Docker does.
const VARIABLE: &str = "WHARF_CREDENTIALS";

/// Whether credentials are to be sealed: nobody said otherwise, and the kernel holds a key or takes one.
pub(super) fn is_available() -> bool {
    std::env::var(VARIABLE).as_deref() != Ok("file") && ensure_key().is_ok()
}

/// The credentials of a server, if there are any that can be opened.
pub(super) fn get(config: &Path, server: &str) -> Result<Option<Auth>, Failure> {
    let all = load(config)?;
    let Some((name, sealed)) = all.get_key_value(server).or_else(|| {
        all.iter()
            .find(|(known, _)| hostname(known) == hostname(server))
    }) else {
        return Ok(None);
    };
    let Some(key) = keyring::read(KEY).unwrap_or_default() else {
        return Err(Failure::new(format!(
            "credentials for {name} cannot be opened, for their key is gone, as after a restart of the machine: log in again"
        )));
    };
    open(&key, name, sealed).map(Some)
}

/// Keeps the credentials of a server.
pub(super) fn store(config: &Path, auth: &Auth) -> Result<(), Failure> {
    let mut all = load(config)?;
    all.insert(
        auth.server.clone(),
        seal(&ensure_key()?, &auth.server, auth)?,
    );
    save(config, &all)
}

/// Forgets the credentials of a server. Safe to repeat.
pub(super) fn erase(config: &Path, server: &str) -> Result<(), Failure> {
    let mut all = load(config)?;
    if all.remove(server).is_none() {
        return Ok(());
    }
    save(config, &all)
}

/// Servers with the users they are for; those that cannot be opened are left out.
pub(super) fn list(config: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut users = BTreeMap::new();
    for server in load(config)?.into_keys() {
        if let Ok(Some(auth)) = get(config, &server) {
            users.insert(server, auth.username);
        }
    }
    Ok(users)
}

fn ensure_key() -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("keyring of the kernel: {error}"));
    if let Some(key) = keyring::read(KEY).map_err(failed)? {
        return Ok(key);
    }
    let mut key = vec![0; CHACHA20_POLY1305.key_len()];
    random(&mut key)?;
    keyring::add(KEY, &key).map_err(failed)?;
    // Somebody else may have made one at the same time: the one that is found counts.
    let found = keyring::read(KEY).map_err(failed)?;
    found.ok_or_else(|| Failure::new("keyring of the kernel: it does not keep keys"))
}

fn random(bytes: &mut [u8]) -> Result<(), Failure> {
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())
        .map(drop)
        .map_err(|error| Failure::new(format!("no random numbers: {error}")))
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, Failure> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .map(LessSafeKey::new)
        .map_err(|_| Failure::new("the key in the kernel's keyring has another length than ours"))
}

/// The server is bound to what is sealed: an entry cannot be given out as another one's.
fn seal(key: &[u8], server: &str, auth: &Auth) -> Result<String, Failure> {
    let mut bytes = serde_json::to_vec(auth).map_err(|error| Failure::new(error.to_string()))?;
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce)?;
    cipher(key)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(server.as_bytes()),
            &mut bytes,
        )
        .map_err(|_| Failure::new("credentials are too long to be sealed"))?;
    Ok(STANDARD.encode([&nonce[..], &bytes].concat()))
}

fn open(key: &[u8], server: &str, sealed: &str) -> Result<Auth, Failure> {
    let damaged = || {
        Failure::new(format!(
            "credentials for {server} are damaged, or sealed with another key: log in again"
        ))
    };
    let bytes = STANDARD.decode(sealed).map_err(|_| damaged())?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
    let mut bytes = sealed.to_vec();
    let plain = cipher(key)?
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(server.as_bytes()),
            &mut bytes,
        )
        .map_err(|_| damaged())?;
    serde_json::from_slice(plain).map_err(|_| damaged())
}

fn path(config: &Path) -> PathBuf {
    config.with_file_name(FILE)
}

fn load(config: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let path = path(config);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("cannot parse {}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(Failure::new(format!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

fn save(config: &Path, all: &BTreeMap<String, String>) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(all).map_err(|error| Failure::new(error.to_string()))?;
    write_private(&path(config), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> Auth {
        Auth {
            username: "u".into(),
            password: "p".into(),
            server: "r:5000".into(),
            ..Auth::default()
        }
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_server_alone() {
        let (key, other) = ([1; 32], [2; 32]);
        let sealed = seal(&key, "r:5000", &auth()).expect("seals");
        assert_ne!(sealed, seal(&key, "r:5000", &auth()).expect("seals"));
        assert!(open(&key, "r:5000", &sealed).expect("opens") == auth());
        assert!(open(&other, "r:5000", &sealed).is_err());
        assert!(open(&key, "s:5000", &sealed).is_err());
        assert!(open(&key, "r:5000", "AAAA").is_err());
    }
}
