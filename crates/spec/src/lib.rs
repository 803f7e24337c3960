//! The vocabulary of images: digests, references, platforms, root file systems. Pure: no I/O.
//!
//! In: text and bytes from registries, archives and users. Out: checked types that cannot be confused.
//! OCI documents themselves are the `oci-spec` crate's types, re-exported as [`image`] and [`runtime`].

#![forbid(unsafe_code)]

pub mod digest;
pub mod image_config;
pub mod platform;
pub mod reference;
pub mod rootfs;

pub use oci_spec::{image, runtime};
