//! Certificates of servers: read from PEM files, and again when these change; and what clients' certificates say.
//!
//! Used by the engine's listeners and by the registry. It knows no sockets and no HTTP but for the protocols it is told to offer.

#![forbid(unsafe_code)]

mod certificates;
mod files;
mod name;

pub use certificates::Certificates;
pub use files::{Files, TlsError};
pub use name::common_name;
