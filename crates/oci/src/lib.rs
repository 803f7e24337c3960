//! The OCI runtime's command line (`wharf-runtime`, `runc`, `wharf oci-runtime`), as runc has made it customary.
//!
//! A thin user of `wharf-runtime`: a bundle becomes the same plan, and the plan is carried out by the same launch, as for the
//! engine's own containers. Nothing stays behind between two commands but the container and a directory below `--root`.
//!
//! Reading order: `commands` → `bundle` (what is asked for) → `create` → `container` (what is remembered).

#![forbid(unsafe_code)]

mod bundle;
mod commands;
mod console;
mod container;
mod create;
mod failure;
mod foreground;
mod notify;
mod options;
mod seal;
mod signals;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs one command. `name` is what the program calls itself.
pub fn main(name: &str, args: Vec<OsString>) -> ExitCode {
    // What callers do not want to know of their children must not keep us from waiting for ours.
    let _ = wharf_sys::signal::keep_children();
    commands::main(name, args)
}
