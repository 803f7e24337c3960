//! See the crate header.
