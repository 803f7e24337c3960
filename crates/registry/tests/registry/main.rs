//! The registry over HTTP, in one process with the test: what the distribution specification says of pull, push, content discovery and content
//! management, and what goes beyond it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod access;
mod cache;
mod collection;
mod discovery;
mod faults;
mod harness;
mod hooks;
mod management;
mod pull;
mod push;
mod status;
