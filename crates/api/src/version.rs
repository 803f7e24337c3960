//! API versions and the gates on them.

use std::fmt;
use std::str::FromStr;

/// An API version such as `1.51`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u16,
    /// Counts up.
    pub minor: u16,
}

/// The newest version offered; also the version of a path without one.
pub const MAX: ApiVersion = v(1, 51);

/// The oldest version accepted.
pub const MIN: ApiVersion = v(1, 24);

/// The engine version presented to clients that parse it.
pub const ENGINE: &str = "28.2.2";

/// A version as a constant.
#[must_use]
pub const fn v(major: u16, minor: u16) -> ApiVersion {
    ApiVersion { major, minor }
}

impl ApiVersion {
    /// Whether this is older than `1.minor`.
    #[must_use]
    pub fn before(self, minor: u16) -> bool {
        self < v(1, minor)
    }
}

/// Not of the form `<number>.<number>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an API version")]
pub struct ParseVersionError;

impl FromStr for ApiVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once('.').ok_or(ParseVersionError)?;
        Ok(ApiVersion {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

/// Digits only: Rust's parser would take a sign too.
fn number(text: &str) -> Result<u16, ParseVersionError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseVersionError);
    }
    text.parse().map_err(|_| ParseVersionError)
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_number() {
        assert!("1.9".parse::<ApiVersion>().expect("well formed") < v(1, 24));
        assert!(MIN < MAX);
        assert!(v(1, 41).before(42) && !v(1, 42).before(42));
    }

    #[test]
    fn malformed_versions_are_refused() {
        for text in ["", "1", "1.", ".5", "1.2.3", "1.+2", "a.b", "1.99999999"] {
            assert_eq!(text.parse::<ApiVersion>(), Err(ParseVersionError), "{text}");
        }
    }
}
