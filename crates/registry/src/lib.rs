//! The registry server: OCI distribution 1.1 over a local directory or an object store.
//!
//! In: HTTP requests of clients (docker, podman, skopeo, …), a configuration. Out: manifests and blobs, webhooks, metrics, pages. Any number of
//! processes may serve one store; what is acknowledged is in the store. Knows nothing of containers; of an engine only what
//! [`source::Source`] says.
//!
//! Reading order: [`config`], [`name`], [`storage`] (bytes), [`content`] (repositories over bytes), [`collect`] (throwing away), [`auth`],
//! [`http`] (connections), [`routes`] (requests), [`upstream`] (other registries), [`command`] (`wharf registry …`).

#![forbid(unsafe_code)]

pub mod auth;
pub mod collect;
pub mod command;
pub mod config;
pub mod content;
pub mod error;
pub mod events;
pub mod http;
pub mod manifest;
pub mod metrics;
pub mod name;
mod random;
pub mod routes;
pub mod run;
pub mod server;
pub mod source;
pub mod storage;
pub mod upstream;
pub mod web;
