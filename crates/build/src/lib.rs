//! Builds: a Dockerfile becomes instructions, instructions become an image.
//!
//! `dockerfile` and `ignore` are pure: text in, values out, errors with the lines they are about.

#![forbid(unsafe_code)]

pub mod copy;
pub mod dockerfile;
pub mod files;
pub mod graph;
pub mod ignore;
pub mod image;
pub mod lint;
pub mod outline;
pub mod path;
pub mod settings;
pub mod solve;
