//! `man DIRECTORY`: the manual pages.

use std::path::Path;

use crate::failure::{Failure, errno_text};
use crate::flags::man;
use crate::print;

/// Writes every page into a directory, which is made.
///
/// # Errors
/// It cannot be written.
pub fn run(words: &[String]) -> Result<(), Failure> {
    let directory = match words {
        [directory] if !directory.starts_with('-') => Path::new(directory),
        _ => {
            return Err(Failure::new(
                "Usage:  wharf man DIRECTORY\n\nWrite the manual pages (section 1) into a directory",
            ));
        }
    };
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(format!(
            "cannot write {}: {}",
            path.display(),
            errno_text(&error)
        ))
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let pages = man::pages("wharf");
    for (name, text) in &pages {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    print::out_line(&format!("{} pages", pages.len()))
}
