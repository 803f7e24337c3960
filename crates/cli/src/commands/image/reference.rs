//! Image names as people write them, checked before the daemon is asked.

use wharf_spec::reference::{AnyReference, Reference};

use crate::failure::Failure;

/// A name, in full.
///
/// # Errors
/// Docker's text for what is no name.
pub fn parse(name: &str) -> Result<Reference, Failure> {
    Reference::parse(name).map_err(|error| Failure::new(error.to_string()))
}

/// A name that may also be an ID: the name with the tag that is understood, or `None` for an ID.
///
/// # Errors
/// Docker's text for what is neither.
pub fn parse_any(name: &str) -> Result<Option<Reference>, Failure> {
    match AnyReference::parse(name) {
        Ok(AnyReference::Named(reference)) => Ok(Some(reference.or_latest())),
        Ok(AnyReference::Id(_)) => Ok(None),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

/// Repository and tag of a name that the daemon gave, as text. A digest stays with the repository.
pub fn split(name: &str) -> (&str, &str) {
    let last = name.rfind('/').map_or(0, |i| i + 1);
    match name[last..].rfind(':') {
        Some(i) if !name.contains('@') => (&name[..last + i], &name[last + i + 1..]),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colon_begins_the_tag_unless_it_is_a_port() {
        for (given, expected) in [
            ("busybox:1", ("busybox", "1")),
            ("host:5000/app", ("host:5000/app", "")),
            ("host:5000/app:1", ("host:5000/app", "1")),
            ("<none>:<none>", ("<none>", "<none>")),
            ("app@sha256:00", ("app@sha256:00", "")),
        ] {
            assert_eq!(split(given), expected, "{given}");
        }
    }
}
