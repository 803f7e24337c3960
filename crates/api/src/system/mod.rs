//! The engine about itself: version, info, disk usage (moby `api/types/system`).

// The fields are Docker's; its API reference describes them.
#![allow(missing_docs)]

pub mod disk_usage;
pub mod info;
pub mod version;

pub use disk_usage::*;
pub use info::*;
pub use version::*;
