//! Doing the same to several objects: the names of those done on standard output, the errors at the end.

use crate::client::ClientError;
use crate::failure::Failure;
use crate::print;

/// Does `action` for each name and prints the name after it. What fails does not keep the others from being done;
/// the errors come last, one a line.
///
/// # Errors
/// All errors together.
pub fn each(
    names: &[String],
    mut action: impl FnMut(&str) -> Result<(), ClientError>,
) -> Result<(), Failure> {
    let mut errors = Vec::new();
    for name in names {
        match action(name) {
            Ok(()) => print::out_line(name)?,
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}
