//! Everything the end-to-end tests stand on, also used by `cargo xtask` and the benchmarks.
//!
//! One [`Engine`] is one daemon in a network namespace of its own, with its own data root, exec root, socket and cgroup parent; dropping
//! it checks that nothing is left behind. The stock `docker` CLI ([`cli`]) and raw HTTP over the unix socket ([`http`]) are the two ways in.
//! Failures panic with what was asked and what came back: this is test code, and there is nobody to hand an error to.

#![forbid(unsafe_code)]

pub mod archive;
pub mod bundle;
pub mod cli;
pub mod connect_proxy;
pub mod deadline;
pub mod engine;
pub mod file_server;
pub mod frames;
pub mod http;
pub mod images;
pub mod lan;
pub mod leftovers;
pub mod netns;
pub mod plugin;
pub mod registry;
pub mod registry_client;
pub mod terminal;
pub mod web;

pub use engine::{Engine, Kind};
