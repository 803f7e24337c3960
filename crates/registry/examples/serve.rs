//! The registry without the rest of the program: what `wharf registry …` does, quick to build and to time.

use std::process::ExitCode;

fn main() -> ExitCode {
    wharf_registry::command::main(std::env::args_os().skip(1), None)
}
