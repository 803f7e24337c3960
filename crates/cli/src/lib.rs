//! The command line client: Docker's commands over Docker's HTTP API.
//!
//! In: words. Out: requests to a daemon, text on standard output, an exit code. It knows the API and nothing of the
//! engine behind it. Blocking throughout: one thread, and one more while standard input is forwarded.
//!
//! Reading order: [`flags`] (words to values), [`commands`] (one file per command or noun), [`client`] (HTTP),
//! [`request`] (flags to API requests), [`stream`] (attached containers), `wharf-template` and [`text`] (output).

#![forbid(unsafe_code)]

pub mod autostart;
pub mod client;
pub mod commands;
pub mod config_file;
pub mod context;
pub mod copy;
pub mod credentials;
pub mod failure;
pub mod flags;
pub mod hello;
pub mod print;
pub mod request;
pub mod session;
pub mod stream;
pub mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use failure::Failure;

/// Runs one command; `program` is what the program calls itself (`docker` or `wharf`).
pub fn main(program: &'static str, args: Vec<OsString>) -> ExitCode {
    let words: Vec<String> = args
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match commands::dispatch(program, &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                print::error_line(&message);
            }
            ExitCode::from(code)
        }
    }
}
