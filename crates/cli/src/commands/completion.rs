//! `completion SHELL`

use crate::failure::Failure;
use crate::flags::complete;
use crate::flags::spec::Flag;
use crate::print;

/// Prints the completion script for a shell.
///
/// # Errors
/// The shell is not known.
pub fn run(
    program: &'static str,
    words: &[String],
    globals: &[&'static Flag],
) -> Result<(), Failure> {
    let known = complete::SHELLS.join(", ");
    match words {
        [shell] if !shell.starts_with('-') => match complete::script(program, shell, globals) {
            Some(script) => print::out_bytes(&script),
            None => Err(Failure::new(format!(
                "unknown shell {shell}; known are {known}"
            ))),
        },
        _ => Err(Failure::new(format!(
            "Usage:  {program} completion SHELL\n\nShells: {known}"
        ))),
    }
}
