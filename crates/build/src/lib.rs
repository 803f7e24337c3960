//! Builds: a Dockerfile becomes instructions, instructions become an image.
//!
//! `dockerfile` and `ignore` are pure: text in, values out, errors with the lines they are about.

#![forbid(unsafe_code)]

pub mod dockerfile;
pub mod ignore;
pub mod lint;
pub mod path;
