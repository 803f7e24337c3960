//! Progress of a long operation: the daemon's JSON lines, as bars on a terminal and as plain lines elsewhere.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use wharf_api::progress::Progress;

use crate::failure::Failure;
use crate::print;
use crate::stream::terminal;

/// Where plain lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// They are what the command is for.
    Stdout,
    /// They are only on the way to something else.
    Stderr,
    /// Nobody wants them.
    Nowhere,
}

/// Shows progress until the stream ends.
///
/// # Errors
/// The daemon reports one in the stream, or what comes is no progress.
pub fn show(body: &mut impl Read, to: To) -> Result<(), Failure> {
    let mut bars = (to != To::Nowhere && terminal::stderr_is_terminal()).then(Bars::new);
    for line in BufReader::new(body).lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let progress: Progress = wharf_api::gojson::from_slice(line.as_bytes())
            .map_err(|error| Failure::new(format!("unexpected answer: {error}")))?;
        if let Some(message) = error_of(&progress) {
            return Err(Failure::new(message));
        }
        match &mut bars {
            Some(bars) if bars.takes(&progress) => bars.update(&progress),
            _ => {
                let text = plain(&progress);
                match to {
                    To::Stdout => match &bars {
                        // Lines and bars share the screen.
                        Some(bars) => bars.all.suspend(|| print::out(&text))?,
                        None => print::out(&text)?,
                    },
                    To::Stderr => match &bars {
                        Some(bars) => bars.all.suspend(|| print::error(&text)),
                        None => print::error(&text),
                    },
                    To::Nowhere => {}
                }
            }
        }
    }
    Ok(())
}

fn error_of(progress: &Progress) -> Option<String> {
    match &progress.error_detail {
        Some(detail) if !detail.message.is_empty() => Some(detail.message.clone()),
        _ if !progress.error.is_empty() => Some(progress.error.clone()),
        _ => None,
    }
}

/// A line as Docker's client prints it without a terminal: text of a stream as it is, a status after what it is about,
/// and nothing for the movement of a bar.
fn plain(progress: &Progress) -> String {
    if !progress.stream.is_empty() {
        return progress.stream.clone();
    }
    let moves = progress
        .detail
        .as_ref()
        .is_some_and(|detail| detail.current > 0 || detail.total > 0);
    if progress.status.is_empty() || moves || !progress.bar.is_empty() {
        return String::new();
    }
    if progress.id.is_empty() {
        format!("{}\n", progress.status)
    } else {
        format!("{}: {}\n", progress.id, progress.status)
    }
}

struct Bars {
    all: MultiProgress,
    by_id: HashMap<String, ProgressBar>,
}

impl Bars {
    fn new() -> Bars {
        Bars {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            by_id: HashMap::new(),
        }
    }

    fn takes(&self, progress: &Progress) -> bool {
        !progress.id.is_empty() && progress.detail.is_some()
    }

    fn update(&mut self, progress: &Progress) {
        let bar = self.by_id.entry(progress.id.clone()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(0));
            bar.set_style(style(""));
            bar.set_prefix(progress.id.clone());
            bar
        });
        let detail = progress.detail.clone().unwrap_or_default();
        let total = u64::try_from(detail.total).unwrap_or(0);
        bar.set_message(progress.status.clone());
        if total > 0 {
            bar.set_style(style(
                " {bar:30.cyan} {decimal_bytes}/{decimal_total_bytes}",
            ));
            bar.set_length(total);
            bar.set_position(u64::try_from(detail.current).unwrap_or(0));
        } else {
            bar.set_style(style(""));
            bar.tick();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.by_id.values() {
            bar.abandon();
        }
    }
}

fn style(rest: &str) -> ProgressStyle {
    ProgressStyle::with_template(&format!("{{prefix}}: {{msg}}{rest}"))
        .expect("the template is a constant that parses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines() {
        for (progress, expected) in [
            (Progress::stream("Loaded image: x\n"), "Loaded image: x\n"),
            (
                Progress {
                    detail: None,
                    ..Progress::status("", "sha256:00")
                },
                "sha256:00\n",
            ),
            (
                Progress::status("abc", "Pull complete"),
                "abc: Pull complete\n",
            ),
            (Progress::position("abc", "Loading layer", 5, 10), ""),
        ] {
            assert_eq!(plain(&progress), expected);
        }
    }

    #[test]
    fn an_error_in_the_stream_ends_it() {
        let mut body = &b"{\"status\":\"a\"}\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\n"[..];
        assert_eq!(show(&mut body, To::Nowhere), Err(Failure::new("no space")));
    }
}
