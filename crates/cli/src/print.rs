//! Everything that is printed goes through here: data to standard output, all else to standard error.

use std::io::{self, Write};

use crate::failure::Failure;

/// Data, as it is. A reader that has gone away ends the command quietly: `wharf ps | head -1` is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn out(text: &str) -> Result<(), Failure> {
    out_bytes(text.as_bytes())
}

/// A line of data.
///
/// # Errors
/// See [`out`].
pub fn out_line(text: &str) -> Result<(), Failure> {
    out(&format!("{text}\n"))
}

/// Data that may not be text.
///
/// # Errors
/// See [`out`].
pub fn out_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::exit(0)),
        other => other.map_err(Failure::from),
    }
}

/// A line for the person at the terminal. There is nobody to tell if that fails.
pub fn error_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Text for the person at the terminal, as it is.
pub fn error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Asks on standard output and reads the answer; anything but `y` is no.
///
/// # Errors
/// Standard output cannot be written.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    out(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
