//! A client of image registries: OCI distribution 1.1 and Docker's registry API, schema 2.
//!
//! In: references, credentials, settings of mirrors, proxies and certificates. Out: manifests, streams of blobs, uploads; errors in Docker's
//! words. Promises: a blob's stream goes on where a connection broke, a mirror that fails is left alone for a while, secrets are
//! never printed. Leaves to others: where layers go, what progress looks like, what is kept. Async; it never blocks.
//!
//! Reading order: [`Registry`] → [`Repository`] (one repository at one endpoint) → [`manifest`], [`blob`], [`upload`]; [`auth`], `endpoint`
//! and `transport` are below them.

#![forbid(unsafe_code)]

pub mod auth;
pub mod blob;
mod challenge;
pub mod config;
mod dns;
pub mod download;
mod endpoint;
pub mod error;
pub mod login;
pub mod manifest;
mod proxy;
mod ranges;
mod registry;
mod repository;
pub mod search;
mod tls;
mod token;
mod transport;
pub mod upload;

pub use auth::Credentials;
pub use config::Config;
pub use error::RegistryError;
pub use registry::Registry;
pub use repository::Repository;
