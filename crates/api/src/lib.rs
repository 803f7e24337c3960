//! Docker's Engine API as values: JSON types, error kinds, filters, stream frames, version gates. Pure: no I/O.
//!
//! In: request bodies, query strings, stream bytes. Out: checked types, and back to the bytes dockerd would have sent.
//! `docker inspect` prints the daemon's bytes, so field order, `null` against `[]` against `{}`, and left-out
//! fields follow moby 28's Go structs (`api/types`). One rule covers the three shapes of a Go list or map:
//!
//! - `Option<Vec<_>>`/`Option<BTreeMap<_>>`: always written; `None` is Go's nil and reads `null`.
//! - `Vec<_>`/`BTreeMap<_>` without a skip: always written, never `null`.
//! - `Vec<_>`/`BTreeMap<_>` that is skipped when empty: Go's `omitempty`.
//!
//! Bodies are read and written through [`gojson`], which is as lenient and as particular as Go's `encoding/json`.
//! Times are text (RFC 3339 with up to nine decimals, see [`time`]) because that is what has to come out again.

#![forbid(unsafe_code)]

pub mod container;
pub mod error;
pub mod events;
pub mod filters;
pub mod gojson;
pub mod image;
pub mod network;
pub mod progress;
pub mod stream;
pub mod system;
pub mod time;
pub mod units;
pub mod version;
pub mod volume;

/// Serde predicate for Go's `omitempty` on numbers, booleans and text.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
