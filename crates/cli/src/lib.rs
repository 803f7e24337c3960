//! The command line client: Docker's commands over Docker's HTTP API.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs one command; `name` is what the program calls itself (`docker` or `wharf`).
pub fn main(name: &'static str, _args: Vec<OsString>) -> ExitCode {
    eprintln!("{name}: no command is in this build");
    ExitCode::FAILURE
}
