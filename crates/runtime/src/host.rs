//! What this host can do, read once.
