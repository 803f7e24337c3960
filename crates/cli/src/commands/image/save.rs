//! `save`

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::request::Request;
use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::session::Session;
use crate::stream::{terminal, write_all};

/// `save`
///
/// # Errors
/// An image does not exist, or the archive cannot be written.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let output = matches.text_or_empty("output");
    if output.is_empty() && terminal::stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let target = (!output.is_empty())
        .then(|| Target::create(output, "failed to save image"))
        .transpose()?;
    let platform = matches.text_or_empty("platform");
    let mut request =
        Request::get("/images/get").query_if(!platform.is_empty(), "platform", platform);
    for name in &matches.args {
        request = request.query("names", name);
    }
    let mut body = session.client.send(request)?.body;
    match target {
        None => copy(&mut body, |bytes| write_all(rustix::stdio::stdout(), bytes)),
        Some(mut target) => {
            target.fill(&mut body, "Saving")?;
            target.finish()
        }
    }
}

/// Passes a body on in large pieces. A reader that has gone away ends the command quietly.
///
/// # Errors
/// Reading or writing failed.
pub fn copy(
    body: &mut impl Read,
    mut write: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = body.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        match write(&buffer[..n]) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Err(Failure::exit(141));
            }
            other => other?,
        }
    }
}

fn download_bar(verb: &str) -> ProgressBar {
    if !terminal::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(
        ProgressStyle::with_template(&format!(
            "{verb} {{decimal_bytes}} {{decimal_bytes_per_sec}}"
        ))
        .expect("the template parses: the verb is a word"),
    );
    bar
}

/// A file that appears under its name only when it is complete.
pub struct Target {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Target {
    /// Makes it. `what` introduces errors.
    ///
    /// # Errors
    /// Its directory is missing or cannot be written.
    pub fn create(output: &str, what: &str) -> Result<Target, Failure> {
        let path = PathBuf::from(output);
        let failed = |reason: String| Failure::new(format!("{what}: {reason}"));
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if !directory.is_dir() {
            let shown = directory.display();
            return Err(failed(format!(
                "invalid output path: stat {shown}: no such file or directory"
            )));
        }
        if path.is_dir() {
            return Err(failed("cannot write to a directory".into()));
        }
        // What is no regular file (a device, a pipe) is written to as it is.
        let is_special = path.exists() && !path.is_file();
        let temporary = if is_special {
            path.clone()
        } else {
            directory.join(format!(".save-{}.tmp", std::process::id()))
        };
        let file = OpenOptions::new()
            .write(true)
            .create(!is_special)
            .truncate(!is_special)
            .open(&temporary)
            .map_err(|error| failed(format!("open {output}: {}", errno_text(&error))))?;
        Ok(Target {
            file,
            temporary,
            path,
            done: is_special,
        })
    }

    /// Writes a body to it and shows how much has come.
    ///
    /// # Errors
    /// Reading or writing failed.
    pub fn fill(&mut self, body: &mut impl Read, verb: &str) -> Result<(), Failure> {
        let bar = download_bar(verb);
        copy(&mut bar.wrap_read(body), |bytes| self.file.write_all(bytes))?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// See rename(2).
    pub fn finish(mut self) -> Result<(), Failure> {
        if self.temporary != self.path {
            std::fs::rename(&self.temporary, &self.path)?;
        }
        self.done = true;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
