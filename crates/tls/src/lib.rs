//! Certificates of servers: read from PEM files, and again when these change; what clients' certificates say; and clients that ask for
//! no certificate.
//!
//! Used by the engine's listeners and by the registry, and by all that connect. It knows no sockets and no HTTP but for the protocols it is told to offer.

#![forbid(unsafe_code)]

mod anybody;
mod certificates;
mod files;
mod name;

pub use anybody::Anybody;
pub use certificates::Certificates;
pub use files::{Files, TlsError};
pub use name::common_name;
