//! HTTP: listeners, connections, TLS, bodies, limits. Knows nothing of what a registry is.

pub mod body;
pub mod conn;
pub mod limit;
pub mod range;
pub mod serve;
pub mod tls;
