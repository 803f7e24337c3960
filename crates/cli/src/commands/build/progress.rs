//! What a build says, as the classic builder prints it or step by step with numbers and times as BuildKit's clients do.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wharf_api::progress::Progress;

use super::request::quiet;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::stream::terminal;

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Nothing,
    /// The daemon's text as it is, on standard output.
    Classic,
    /// `#3 [2/5] RUN …` on standard error.
    Plain,
    /// The same with a line that moves.
    Terminal,
}

/// The present state of the screen.
pub(super) struct Shown {
    style: Style,
    begun: Instant,
    bar: Option<ProgressBar>,
    step: Option<Step>,
    /// Text that has no newline yet.
    pending: String,
    steps: usize,
}

struct Step {
    number: usize,
    title: String,
    begun: Instant,
    cached: bool,
}

/// Whether the build is shown on a terminal, with a bar.
pub(super) fn on_terminal(matches: &Matches) -> bool {
    style(matches) == Style::Terminal
}

fn style(matches: &Matches) -> Style {
    let classic = std::env::var("DOCKER_BUILDKIT").is_ok_and(|value| value == "0");
    match matches.text_or_empty("progress") {
        _ if quiet(matches) => Style::Nothing,
        "classic" => Style::Classic,
        "plain" => Style::Plain,
        "tty" => Style::Terminal,
        _ if classic => Style::Classic,
        _ if terminal::stderr_is_terminal() => Style::Terminal,
        _ => Style::Plain,
    }
}

impl Shown {
    pub(super) fn new(matches: &Matches) -> Shown {
        let style = style(matches);
        let bar = (style == Style::Terminal).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(
                ProgressStyle::with_template("[+] Building {elapsed} {msg}")
                    .expect("the template is a constant that parses"),
            );
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        Shown {
            style,
            begun: Instant::now(),
            bar,
            step: None,
            pending: String::new(),
            steps: 0,
        }
    }

    /// Takes one line of the answer.
    pub(super) fn line(&mut self, progress: &Progress) -> Result<(), Failure> {
        match self.style {
            Style::Nothing => Ok(()),
            Style::Classic => print::out(&classic_text(progress)),
            Style::Plain | Style::Terminal => {
                let text = if progress.stream.is_empty() {
                    classic_text(progress)
                } else {
                    progress.stream.clone()
                };
                self.pending.push_str(uncoloured(&text));
                while let Some(end) = self.pending.find('\n') {
                    let line: String = self.pending.drain(..=end).collect();
                    self.whole_line(line.trim_end_matches('\n'));
                }
                Ok(())
            }
        }
    }

    fn whole_line(&mut self, line: &str) {
        if let Some(step) = line.strip_prefix("Step ") {
            self.end_step();
            self.begin_step(step);
            return;
        }
        let Some(step) = &mut self.step else {
            return self.say(line);
        };
        if line == " ---> Using cache" {
            step.cached = true;
            let number = step.number;
            return self.say(&format!("#{number} CACHED"));
        }
        if let Some(image) = line.strip_prefix(" ---> ") {
            let is_id = image.len() == 12 && image.chars().all(|c| c.is_ascii_hexdigit());
            if is_id || image.is_empty() {
                return self.end_step();
            }
            if image.starts_with("Running in") || image.starts_with("Removed intermediate") {
                return;
            }
        }
        if line.starts_with("Successfully built") || line.starts_with("Successfully tagged") {
            return self.say(line);
        }
        let text = format!(
            "#{} {:.3} {line}",
            step.number,
            step.begun.elapsed().as_secs_f64()
        );
        self.say(&text);
    }

    fn begin_step(&mut self, text: &str) {
        let (count, source) = text.split_once(" : ").unwrap_or((text, ""));
        self.steps += 1;
        let title = format!("[{count}] {source}");
        self.say(&format!("#{} {title}", self.steps));
        if let Some(bar) = &self.bar {
            bar.set_message(title.clone());
        }
        self.step = Some(Step {
            number: self.steps,
            title,
            begun: Instant::now(),
            cached: false,
        });
    }

    fn end_step(&mut self) {
        let Some(step) = self.step.take() else { return };
        if !step.cached {
            let seconds = step.begun.elapsed().as_secs_f64();
            self.say(&format!("#{} DONE {seconds:.1}s", step.number));
        }
        self.say("");
    }

    fn say(&self, line: &str) {
        let text = format!("{line}\n");
        match &self.bar {
            Some(bar) => bar.suspend(|| print::error(&text)),
            None => print::error(&text),
        }
    }

    /// The last words.
    pub(super) fn finish(&mut self, result: &Result<super::Facts, Failure>) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if matches!(self.style, Style::Nothing | Style::Classic) {
            return;
        }
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.whole_line(&rest);
        }
        match (result, self.step.take()) {
            (Err(failure), Some(step)) => {
                self.say(&format!("#{} ERROR: {}", step.number, failure.message));
                self.say(&format!("------\n > {}:\n------", step.title));
            }
            (Ok(_), _) => {
                let seconds = self.begun.elapsed().as_secs_f64();
                self.say(&format!("Built in {seconds:.1}s"));
            }
            _ => {}
        }
    }
}

/// The classic builder writes standard error in red, piece by piece.
fn uncoloured(text: &str) -> &str {
    let inner = text.strip_prefix("\u{1b}[91m");
    inner
        .and_then(|inner| inner.strip_suffix("\u{1b}[0m"))
        .unwrap_or(text)
}

fn classic_text(progress: &Progress) -> String {
    if !progress.stream.is_empty() {
        return progress.stream.clone();
    }
    let moves = progress
        .detail
        .as_ref()
        .is_some_and(|detail| detail.current > 0 || detail.total > 0);
    if progress.status.is_empty() || moves {
        return String::new();
    }
    if progress.id.is_empty() {
        format!("{}\n", progress.status)
    } else {
        format!("{}: {}\n", progress.id, progress.status)
    }
}
