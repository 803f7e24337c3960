//! Content digests: three types over one text form, so that one cannot be passed for another.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// Digest of stored bytes, `sha256:<64 hex>` or `sha512:<128 hex>` (OCI image-spec, descriptor, "Digests").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

/// Digest of a layer's uncompressed tar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// Name of a stack of diff IDs (OCI image-spec, config, "Layer ChainID").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

/// Why a text is no digest; the texts are those of the Go library all Docker tools use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not `algorithm:hex`.
    #[error("invalid checksum digest format")]
    Format,
    /// The hexadecimal part has the wrong length.
    #[error("invalid checksum digest length")]
    Length,
    /// Neither sha256 nor sha512.
    #[error("unsupported digest algorithm")]
    Algorithm,
}

/// The hash function of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `sha256`, the one Docker writes.
    Sha256,
    /// `sha512`, allowed by the specification.
    Sha512,
}

impl Algorithm {
    /// As written before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Starts hashing.
    pub fn hasher(self) -> Hasher {
        match self {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A running hash; a [`Write`] that keeps nothing.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// See [`Algorithm::Sha256`].
    Sha256(Sha256),
    /// See [`Algorithm::Sha512`].
    Sha512(Sha512),
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hash) => Digest(format!("sha256:{}", hex::encode(hash.finalize()))),
            Hasher::Sha512(hash) => Digest(format!("sha512:{}", hex::encode(hash.finalize()))),
        }
    }
}

impl Write for Hasher {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Digest {
    /// Parses `algorithm:hex`; only lower-case hexadecimal digits are canonical.
    pub fn parse(text: &str) -> Result<Digest, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        if algorithm.is_empty() || hex.is_empty() || !algorithm.bytes().all(is_algorithm_byte) {
            return Err(DigestError::Format);
        }
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm),
        };
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length);
        }
        if !hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(DigestError::Format);
        }
        Ok(Digest(text.to_owned()))
    }

    /// The sha256 digest with these hexadecimal digits.
    pub fn from_sha256_hex(hex: &str) -> Result<Digest, DigestError> {
        Digest::parse(&format!("sha256:{hex}"))
    }

    /// Hashes bytes with sha256.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Which hash function.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512:") {
            Algorithm::Sha512
        } else {
            Algorithm::Sha256
        }
    }

    /// Whether these bytes have this digest.
    pub fn verify(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.algorithm().hasher();
        hasher.update(bytes);
        hasher.finish() == *self
    }

    /// The hexadecimal digits.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The first twelve digits, Docker's short form.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_algorithm_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'-')
}

impl ChainId {
    /// The chain of the bottom layer is its diff ID.
    pub fn base(diff: &DiffId) -> ChainId {
        ChainId(diff.0.clone())
    }

    /// `sha256(parent + " " + diff)` (OCI image-spec, config, "Layer ChainID").
    pub fn child(&self, diff: &DiffId) -> ChainId {
        ChainId(Digest::of(format!("{} {}", self.0, diff.0).as_bytes()))
    }

    /// One step up from an optional parent.
    pub fn above(parent: Option<&ChainId>, diff: &DiffId) -> ChainId {
        match parent {
            Some(parent) => parent.child(diff),
            None => ChainId::base(diff),
        }
    }

    /// The chain ID of every prefix of `diffs`, bottom first.
    pub fn chain(diffs: &[DiffId]) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::with_capacity(diffs.len());
        for diff in diffs {
            let next = ChainId::above(chain.last(), diff);
            chain.push(next);
        }
        chain
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        Digest::parse(text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn refuses_what_is_no_digest() {
        let check = |text: &str, expected| assert_eq!(Digest::parse(text), Err(expected), "{text}");
        check("", DigestError::Format);
        check("sha256", DigestError::Format);
        check("sha256:", DigestError::Format);
        check(":abc", DigestError::Format);
        check("sha256:abc", DigestError::Length);
        check(
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            DigestError::Algorithm,
        );
        check(
            &EMPTY.to_uppercase().replace("SHA256", "sha256"),
            DigestError::Format,
        );
    }

    #[test]
    fn hashes_and_verifies() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
        assert!(Digest::of(b"x").verify(b"x"));
        assert!(!Digest::of(b"x").verify(b"y"));
        let mut sha512 = Algorithm::Sha512.hasher();
        sha512.update(b"x");
        assert!(sha512.finish().verify(b"x"));
    }

    #[test]
    fn chains_as_the_specification_says() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let chain = ChainId::chain(&[a.clone(), b.clone()]);
        assert_eq!(chain[0].0, a.0);
        assert_eq!(
            chain[1].0,
            Digest::of(format!("{} {}", a.0, b.0).as_bytes())
        );
    }

    #[test]
    fn json_is_checked() {
        assert!(serde_json::from_str::<Digest>("\"sha256:../../etc\"").is_err());
        assert_eq!(
            serde_json::to_string(&Digest::of(b"")).ok(),
            Some(format!("\"{EMPTY}\""))
        );
    }
}
