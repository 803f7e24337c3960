//! Image references with the normalisation of the Docker CLI and daemon (`github.com/distribution/reference`).
//!
//! `busybox` means `docker.io/library/busybox`; the short form shown to users is the *familiar* one.

use std::fmt;

use crate::digest::{Digest, DigestError};

/// Registry of names that have none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Tag of references that have neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
/// Longest path of a repository, in bytes.
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// A normalised reference: `domain/path[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a user may write where an image is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyReference {
    /// 64 hexadecimal digits, or a whole digest.
    Id(Digest),
    /// A name.
    Named(Reference),
}

/// Why a text is no reference; Docker's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Does not match the grammar.
    #[error("invalid reference format")]
    Format,
    /// Upper case outside the tag.
    #[error("repository name must be lowercase")]
    Uppercase,
    /// Upper case in the repository, which is named.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UppercaseName(String),
    /// A name that would be taken for an image ID.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// The tag alone is bad.
    #[error("invalid tag format")]
    Tag,
    /// The digest is bad.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// Parses and normalises what a user typed.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.to_lowercase() != remote {
            return Err(ReferenceError::UppercaseName(remote.to_owned()));
        }
        parse_full(&format!("{domain}/{remainder}"))
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository by digest, without a tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Adds `latest` when there is neither tag nor digest.
    pub fn or_latest(mut self) -> Reference {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// Host and port of the registry; empty only for names whose first part looks like a host but is none.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository within the registry, `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Neither tag nor digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// `domain/path`.
    pub fn name(&self) -> String {
        if self.domain.is_empty() {
            self.path.clone()
        } else {
            format!("{}/{}", self.domain, self.path)
        }
    }

    /// The name as users know it, `busybox` for `docker.io/library/busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The familiar name with tag and digest.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl AnyReference {
    /// Parses an image ID, a digest or a name, in this order.
    pub fn parse(text: &str) -> Result<AnyReference, ReferenceError> {
        if is_identifier(text) {
            return Ok(AnyReference::Id(Digest::from_sha256_hex(text)?));
        }
        if let Ok(digest) = Digest::parse(text) {
            return Ok(AnyReference::Id(digest));
        }
        Reference::parse(text).map(AnyReference::Named)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

/// Separates the registry; a first part is one only if it has a dot, a colon, an upper-case letter, or is `localhost`.
fn split_domain(name: &str) -> (&str, String) {
    let Some((first, rest)) = name.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{name}"));
    };
    let (domain, remote) = if first == LEGACY_DEFAULT_DOMAIN {
        (DEFAULT_DOMAIN, rest)
    } else if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first {
        (first, rest)
    } else {
        (DEFAULT_DOMAIN, name)
    };
    if domain == DEFAULT_DOMAIN && !remote.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{remote}"));
    }
    (domain, remote.to_owned())
}

/// Parses a text that has a domain already.
fn parse_full(text: &str) -> Result<Reference, ReferenceError> {
    let Some(parts) = Parts::split(text) else {
        return Err(match Parts::split(&text.to_lowercase()) {
            Some(_) => ReferenceError::Uppercase,
            None => ReferenceError::Format,
        });
    };
    if parts.path.len() > MAX_PATH {
        return Err(ReferenceError::TooLong);
    }
    Ok(Reference {
        domain: parts.domain.to_owned(),
        path: parts.path.to_owned(),
        tag: parts.tag.map(str::to_owned),
        digest: parts.digest.map(Digest::parse).transpose()?,
    })
}

/// A text cut by the grammar, digest not yet checked.
struct Parts<'a> {
    domain: &'a str,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Option<Parts<'a>> {
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (named, None),
        };
        if !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
            return None;
        }
        // A first part that is no host may still be a path component (`a_b.c/d`).
        let (domain, path) = match name.split_once('/') {
            Some((domain, path)) if is_domain(domain) && is_path(path) => (domain, path),
            _ if is_path(name) => ("", name),
            _ => return None,
        };
        Some(Parts {
            domain,
            path,
            tag,
            digest,
        })
    }
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether the text may stand after the colon.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(|&b| word(b))
        && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let component = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(component)
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => {
                return is_ipv6(address) && (after.is_empty() || is_port(after.strip_prefix(':')));
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    (port.is_none() || is_port(port)) && host.split('.').all(is_domain_component)
}

fn is_ipv6(address: &str) -> bool {
    !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

fn is_port(port: Option<&str>) -> bool {
    port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether the text is a repository path: components of the specification, separated by slashes.
pub fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// `[a-z0-9]+` parts joined by `.`, `_`, `__` or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    for b in text.bytes() {
        if alphanumeric(b) {
            if !is_separator(&separator) {
                return false;
            }
            separator.clear();
        } else if !b.is_ascii() {
            return false;
        } else {
            separator.push(char::from(b));
        }
    }
    text.bytes().next().is_some_and(alphanumeric) && separator.is_empty()
}

fn is_separator(text: &str) -> bool {
    matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalises_names() {
        let check = |input: &str, full: &str, familiar: &str| {
            let parsed = Reference::parse(input).expect(input);
            assert_eq!(
                (parsed.to_string().as_str(), parsed.familiar().as_str()),
                (full, familiar),
                "{input}"
            );
        };
        check("busybox", "docker.io/library/busybox", "busybox");
        check(
            "busybox:1.36",
            "docker.io/library/busybox:1.36",
            "busybox:1.36",
        );
        check("docker.io/busybox", "docker.io/library/busybox", "busybox");
        check(
            "index.docker.io/busybox",
            "docker.io/library/busybox",
            "busybox",
        );
        check("library/busybox", "docker.io/library/busybox", "busybox");
        check("library/a/b", "docker.io/library/a/b", "library/a/b");
        check("some/thing", "docker.io/some/thing", "some/thing");
        check(
            "localhost/thing:a",
            "localhost/thing:a",
            "localhost/thing:a",
        );
        check(
            "localhost:5000",
            "docker.io/library/localhost:5000",
            "localhost:5000",
        );
        check("localhost:5000/x", "localhost:5000/x", "localhost:5000/x");
        check("Host/x", "Host/x", "Host/x");
        check("[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y");
        check("a_b.c/d", "a_b.c/d", "a_b.c/d");
        check("a--b__c.d/e", "a--b__c.d/e", "a--b__c.d/e");
        check(
            &format!("x:t@sha256:{HEX}"),
            &format!("docker.io/library/x:t@sha256:{HEX}"),
            &format!("x:t@sha256:{HEX}"),
        );
    }

    #[test]
    fn refuses_with_dockers_words() {
        let check = |input: &str, message: &str| {
            let error = Reference::parse(input).expect_err(input);
            assert_eq!(error.to_string(), message, "{input}");
        };
        check("", "invalid reference format");
        check(":tag", "invalid reference format");
        check("a b", "invalid reference format");
        check("a/", "invalid reference format");
        check("/a", "invalid reference format");
        check("a:", "invalid reference format");
        check("a..b", "invalid reference format");
        check("a___b", "invalid reference format");
        check("-a", "invalid reference format");
        check("a@b", "invalid reference format");
        check(
            &format!("a:{}", "t".repeat(129)),
            "invalid reference format",
        );
        check(
            "Busybox",
            "invalid reference format: repository name (library/Busybox) must be lowercase",
        );
        check(
            "x/Busybox:t",
            "invalid reference format: repository name (x/Busybox) must be lowercase",
        );
        check(
            HEX,
            &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        );
        check(
            &format!("x/{}", "a".repeat(256)),
            "repository name must not be more than 255 characters",
        );
        check(
            &format!("a@md5:{}", "0".repeat(32)),
            "unsupported digest algorithm",
        );
        check(
            &format!("a@sha256:{}", "0".repeat(40)),
            "invalid checksum digest length",
        );
    }

    #[test]
    fn tells_ids_from_names() {
        let id = Digest::from_sha256_hex(HEX).expect("a digest");
        assert_eq!(AnyReference::parse(HEX), Ok(AnyReference::Id(id.clone())));
        assert_eq!(
            AnyReference::parse(&format!("sha256:{HEX}")),
            Ok(AnyReference::Id(id))
        );
        assert!(matches!(
            AnyReference::parse(&HEX[..12]),
            Ok(AnyReference::Named(_))
        ));
    }

    #[test]
    fn adds_latest_only_where_nothing_is_named() {
        let latest = |text: &str| Reference::parse(text).map(|r| r.or_latest().familiar());
        assert_eq!(latest("a").as_deref(), Ok("a:latest"));
        assert_eq!(latest("a:b").as_deref(), Ok("a:b"));
        assert_eq!(
            latest(&format!("a@sha256:{HEX}")),
            Ok(format!("a@sha256:{HEX}"))
        );
    }

    /// Whatever parses, parses to itself again from both of its forms.
    #[test]
    fn both_forms_parse_to_the_same_reference() {
        let alphabet = [
            "a",
            "b9",
            ".",
            "_",
            "__",
            "-",
            "/",
            ":",
            "@",
            "localhost",
            "docker.io",
            "library",
            "A",
            "5000",
        ];
        let mut state = 0x9e37_79b9_u32;
        let mut parsed = 0;
        for _ in 0..200_000 {
            let mut text = String::new();
            for _ in 0..=(state % 6) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                text.push_str(alphabet[(state >> 16) as usize % alphabet.len()]);
            }
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let Ok(reference) = Reference::parse(&text) else {
                continue;
            };
            parsed += 1;
            assert_eq!(
                Reference::parse(&reference.to_string()),
                Ok(reference.clone()),
                "{text}"
            );
            // Docker's own familiar form is ambiguous for a user of the hub called "localhost".
            if !reference.path().starts_with("localhost/") {
                assert_eq!(
                    Reference::parse(&reference.familiar()),
                    Ok(reference),
                    "{text}"
                );
            }
        }
        assert!(parsed > 1000, "the generator makes valid names: {parsed}");
    }
}
