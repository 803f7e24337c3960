//! Clients that people use, each with a realistic piece of work: a shop of a web server, a database and a worker, in containers whose
//! programs are Debian's. `cargo xtask test` installs the clients (`WHARF_CLIENTS`).
//!
//! What a client does stands in its own language beside this file; a script that fails, or does not print `done`, fails the test.

#![allow(missing_docs)]

mod bollard;
mod compose;
mod contract;
mod dockerode;
mod object_store;
mod python;
mod shop;
mod testcontainers;
