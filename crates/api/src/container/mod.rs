//! Containers and execs on the wire (moby `api/types/container`).

// The fields are Docker's; its API reference describes them.
#![allow(missing_docs)]

pub mod answers;
pub mod config;
pub mod create;
pub mod exec;
pub mod host_config;
pub mod inspect;
pub mod mount;
pub mod state;
pub mod stats;
pub mod summary;

pub use answers::*;
pub use config::*;
pub use create::*;
pub use exec::*;
pub use host_config::*;
pub use inspect::*;
pub use mount::*;
pub use state::*;
pub use stats::*;
pub use summary::*;
