//! What a reader of logs asked for.

use super::line::{Line, Stream, nanoseconds};

/// A request for log lines, already checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Go on with what is written later.
    pub follow: bool,
    /// Give standard output.
    pub stdout: bool,
    /// Give standard error.
    pub stderr: bool,
    /// Nothing older than this, nanoseconds since the epoch.
    pub since: Option<i64>,
    /// Nothing newer than this, nanoseconds since the epoch.
    pub until: Option<i64>,
    /// Put each line's time before it.
    pub timestamps: bool,
    /// Put each line's attributes before it.
    pub details: bool,
    /// Only the last lines; `None` is all. Docker counts lines of both streams, before any other condition.
    pub tail: Option<u64>,
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Give it.
    Give,
    /// Leave it out.
    Skip,
    /// It and all later ones are too new.
    Stop,
}

impl Request {
    /// Decides about one line.
    pub fn judge(&self, line: &Line<'_>) -> Verdict {
        if self.since.is_some() || self.until.is_some() {
            let Some(time) = nanoseconds(&line.time) else {
                return Verdict::Skip;
            };
            if self.until.is_some_and(|until| time > until) {
                return Verdict::Stop;
            }
            if self.since.is_some_and(|since| time < since) {
                return Verdict::Skip;
            }
        }
        match line.stream {
            Stream::Stdout if self.stdout => Verdict::Give,
            Stream::Stderr if self.stderr => Verdict::Give,
            _ => Verdict::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn time_and_stream_decide() {
        let line = |stream, time| Line {
            log: Cow::Borrowed(b"x"),
            stream,
            time: Cow::Borrowed(time),
            attrs: None,
        };
        let request = Request {
            stdout: true,
            since: Some(1_000_000_000),
            until: Some(2_000_000_000),
            ..Request::default()
        };
        let rows = [
            (Stream::Stdout, "1970-01-01T00:00:00Z", Verdict::Skip),
            (Stream::Stdout, "1970-01-01T00:00:01Z", Verdict::Give),
            (Stream::Stderr, "1970-01-01T00:00:01Z", Verdict::Skip),
            (Stream::Stdout, "1970-01-01T00:00:02Z", Verdict::Give),
            (
                Stream::Stdout,
                "1970-01-01T00:00:02.000000001Z",
                Verdict::Stop,
            ),
        ];
        for (stream, time, expected) in rows {
            assert_eq!(request.judge(&line(stream, time)), expected, "{time}");
        }
    }
}
