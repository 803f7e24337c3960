//! Fuzz targets on stable Rust: seeds are mutated without pause, and whatever a target promises is checked after each.
//!
//! ```text
//! fuzz/corpus/<target>/*     inputs that once were wrong; each run begins with them
//! target/fuzz/<target>       the input that was wrong now, to be moved there
//! ```
//!
//! A target panics when its promise is broken. `cargo test -p wharf-fuzz` gives each a second, `WHARF_FUZZ_SECONDS` says how many. What is
//! random repeats with `WHARF_FUZZ_SEED`.

#![forbid(unsafe_code)]

mod layers;
mod mutate;
mod run;
mod texts;

pub use run::{Target, fuzz};

/// All targets.
pub const TARGETS: &[Target] = &[
    texts::MANIFEST,
    texts::REFERENCE,
    layers::TAR,
    layers::WHITEOUT,
];
