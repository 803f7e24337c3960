//! The container's log: lines out of byte streams, Docker's json-file format, rotation.
//!
//! Files of a log at `path`: the current one, then `path.1` (`path.1.gz`) the newest rotated one up to `path.<max_file - 1>`.

mod encode;
mod rotate;
mod shipped;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::client::{FilePlan, LogPlan};
use crate::monitor::poll::Poll;
use encode::LineEnd;
use rotate::Rotation;
pub use rotate::remove_all;
pub use shipped::Shipped;

/// Longest text of one log line; the rest follows in further lines without a newline at the end. moby's `logger.Copier` does the same.
const MAX_TEXT: usize = 16 * 1024;

/// Bytes of finished lines at which they are written out.
const BATCH: usize = 256 * 1024;

/// A stream of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; also a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// The number in Docker's stream frames.
    pub fn frame_type(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }
}

/// Where a container's output is kept.
#[derive(Debug)]
pub enum Log {
    /// Nowhere.
    None,
    /// In json-file format.
    Json(JsonLog),
    /// With a log service.
    Shipped(Box<Shipped>),
}

impl Log {
    /// Opens what the plan asks for, appending to what is there.
    pub fn open(plan: &LogPlan) -> io::Result<Log> {
        match plan {
            LogPlan::None => Ok(Log::None),
            LogPlan::File(file) => Ok(Log::Json(JsonLog::of_plan(file)?)),
            LogPlan::Shipped {
                destination,
                limit,
                cache,
            } => {
                let cache = cache.as_ref().map(JsonLog::of_plan).transpose()?;
                let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
                let shipped = Shipped::open(destination, limit, cache)?;
                Ok(Log::Shipped(Box::new(shipped)))
            }
        }
    }

    /// Takes what was read from a stream at `time_ns`. A log that cannot be written (full disk) loses the lines and goes on, as
    /// Docker's does: the container must not stop for it.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], time_ns: i64) {
        match self {
            Log::None => {}
            Log::Json(log) => log.write(stream, bytes, time_ns),
            Log::Shipped(log) => log.write(stream, bytes, time_ns),
        }
    }

    /// The stream has ended: what is left of its last line is logged as it is.
    pub fn end(&mut self, stream: Stream, time_ns: i64) {
        match self {
            Log::None => {}
            Log::Json(log) => log.end(stream, time_ns),
            Log::Shipped(log) => log.end(stream, time_ns),
        }
    }

    /// Gives back the memory that only a busy log needs.
    pub fn release_memory(&mut self) {
        match self {
            Log::None => {}
            Log::Json(log) => log.release_memory(),
            Log::Shipped(log) => log.release_memory(),
        }
    }

    /// Nothing is kept.
    pub fn is_none(&self) -> bool {
        matches!(self, Log::None)
    }

    /// What the container writes has to wait.
    pub fn is_congested(&self) -> bool {
        matches!(self, Log::Shipped(log) if log.is_congested())
    }

    /// There is room again.
    pub fn room(&mut self) {
        if let Log::Shipped(log) = self {
            log.flush();
        }
    }

    /// Watches for room, where that is awaited.
    pub fn watch(&mut self, poll: &Poll) {
        if let Log::Shipped(log) = self {
            log.watch(poll);
        }
    }

    /// A child of this process was reaped; it may have been the one that compresses, or ships.
    pub fn child_ended(&mut self, pid: i32, poll: &Poll) {
        match self {
            Log::None => {}
            Log::Json(log) => log.rotation.child_ended(pid),
            Log::Shipped(log) => log.child_ended(pid, poll),
        }
    }

    /// Starts over with an empty file; rotated ones go.
    pub fn clear(&mut self) -> io::Result<()> {
        match self {
            Log::None => Ok(()),
            Log::Json(log) => log.clear(),
            Log::Shipped(log) => log.cache().map_or(Ok(()), JsonLog::clear),
        }
    }

    /// Waits for a running compression, and a moment for the last lines to be sent.
    pub fn finish(&mut self) {
        match self {
            Log::None => {}
            Log::Json(log) => log.rotation.wait(),
            Log::Shipped(log) => log.finish(),
        }
    }

    /// Nothing of it goes on in other processes.
    pub fn is_done(&self) -> bool {
        match self {
            Log::None | Log::Json(_) => true,
            Log::Shipped(log) => log.is_done(),
        }
    }

    /// When [`Log::is_done`] has to be asked again.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Log::None | Log::Json(_) => None,
            Log::Shipped(log) => log.deadline(),
        }
    }
}

/// A log in json-file format.
#[derive(Debug)]
pub struct JsonLog {
    file: File,
    path: PathBuf,
    size: u64,
    rotation: Rotation,
    attrs: Vec<u8>,
    unfinished: [Unfinished; 2],
    /// Encoded lines not yet written.
    out: Vec<u8>,
}

/// The beginning of a line whose newline has not come yet.
#[derive(Debug, Default)]
struct Unfinished {
    text: Vec<u8>,
    /// When its first piece was logged, if one was: all pieces of a line carry that time.
    since: Option<i64>,
}

impl JsonLog {
    fn of_plan(plan: &FilePlan) -> io::Result<JsonLog> {
        let rotation = Rotation::new(plan.max_size, plan.max_file, plan.compress);
        JsonLog::open(&plan.path, rotation, encode::encode_attrs(&plan.attrs))
    }

    fn release_memory(&mut self) {
        self.out = Vec::new();
    }

    /// A reader that has the old file open sees that it is gone.
    fn clear(&mut self) -> io::Result<()> {
        self.flush();
        self.rotation.wait();
        rotate::remove_all(&self.path)?;
        self.file = open_file(&self.path)?;
        self.size = 0;
        Ok(())
    }

    fn open(path: &Path, rotation: Rotation, attrs: Vec<u8>) -> io::Result<JsonLog> {
        let file = open_file(path)?;
        let size = file.metadata()?.len();
        let path = path.to_owned();
        Ok(JsonLog {
            file,
            path,
            size,
            rotation,
            attrs,
            unfinished: Default::default(),
            out: Vec::new(),
        })
    }

    fn write(&mut self, stream: Stream, bytes: &[u8], time_ns: i64) {
        let batch = Batch::new(stream, &self.attrs, time_ns);
        let mut rest = bytes;
        while let Some(newline) = memchr::memchr(b'\n', rest) {
            self.finish_line(&batch, &rest[..newline]);
            rest = &rest[newline + 1..];
        }
        if !rest.is_empty() {
            self.hold(&batch, rest);
        }
        self.flush();
    }

    fn end(&mut self, stream: Stream, time_ns: i64) {
        let left = std::mem::take(&mut self.unfinished[index(stream)]);
        if !left.text.is_empty() {
            let batch = Batch::new(stream, &self.attrs, left.since.unwrap_or(time_ns));
            self.line(&left.text, false, &batch.end);
        }
        self.flush();
    }

    /// `text` and a newline came. The common case, a short line in one piece, goes straight through.
    fn finish_line(&mut self, batch: &Batch, text: &[u8]) {
        let held = &self.unfinished[index(batch.stream)];
        if held.text.is_empty() && held.since.is_none() && text.len() < MAX_TEXT {
            return self.line(text, true, &batch.end);
        }
        self.hold(batch, text);
        let whole = std::mem::take(&mut self.unfinished[index(batch.stream)]);
        match whole.since {
            Some(since) => self.line(
                &whole.text,
                true,
                &Batch::new(batch.stream, &self.attrs, since).end,
            ),
            None => self.line(&whole.text, true, &batch.end),
        }
    }

    /// `text` came without a newline; pieces that are full are logged, the rest is kept.
    fn hold(&mut self, batch: &Batch, mut text: &[u8]) {
        while !text.is_empty() {
            let held = &mut self.unfinished[index(batch.stream)];
            let (now, later) = text.split_at(text.len().min(MAX_TEXT - held.text.len()));
            held.text.extend_from_slice(now);
            text = later;
            if held.text.len() == MAX_TEXT {
                let since = *held.since.get_or_insert(batch.time_ns);
                let piece = std::mem::take(&mut held.text);
                self.line(
                    &piece,
                    false,
                    &Batch::new(batch.stream, &self.attrs, since).end,
                );
            }
        }
    }

    fn line(&mut self, text: &[u8], complete: bool, end: &LineEnd) {
        if self.rotation.due(self.size + self.out.len() as u64) {
            self.flush();
            self.rotate();
        }
        encode::push_line(&mut self.out, text, complete, end);
        if self.out.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        match self.file.write_all(&self.out) {
            Ok(()) => self.size += self.out.len() as u64,
            // Half a line would spoil the next one for every reader. Nothing to report to: the log is what reports.
            Err(_) => drop(self.file.set_len(self.size)),
        }
        self.out.clear();
    }

    /// The current file becomes `.1`. If that fails, lines go on into the current file.
    fn rotate(&mut self) {
        if self.rotation.rotate(&self.path).is_ok()
            && let Ok(file) = open_file(&self.path)
        {
            self.file = file;
            self.size = 0;
            self.rotation.compress_newest(&self.path);
        }
    }
}

/// What the lines of one read have in common.
struct Batch {
    stream: Stream,
    time_ns: i64,
    end: LineEnd,
}

impl Batch {
    fn new(stream: Stream, attrs: &[u8], time_ns: i64) -> Batch {
        Batch {
            stream,
            time_ns,
            end: LineEnd::new(stream.name(), attrs, time_ns),
        }
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// Mode 0640 as Docker's.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: i64 = 1_795_507_200_000_000_000;

    fn plan(dir: &Path, max_size: Option<u64>, max_file: u32, compress: bool) -> LogPlan {
        LogPlan::File(FilePlan {
            path: dir.join("log"),
            max_size,
            max_file,
            compress,
            attrs: Vec::new(),
        })
    }

    /// `(stream, text)` of every line, oldest first.
    fn lines(path: &Path) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).expect("log file");
        let parse = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
            let field = |name: &str| value[name].as_str().expect("text").to_owned();
            (field("stream"), field("log"))
        };
        text.lines().map(parse).collect()
    }

    fn logged(pieces: &[(Stream, &[u8])]) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = Log::open(&plan(dir.path(), None, 1, false)).expect("open");
        for (stream, bytes) in pieces {
            log.write(*stream, bytes, T);
        }
        log.end(Stream::Stdout, T);
        log.end(Stream::Stderr, T);
        lines(&dir.path().join("log"))
    }

    fn out(text: &str) -> (String, String) {
        ("stdout".into(), text.into())
    }

    #[test]
    fn streams_are_cut_into_lines() {
        let (o, e) = (Stream::Stdout, Stream::Stderr);
        assert_eq!(logged(&[(o, b"a\nb\n")]), [out("a\n"), out("b\n")]);
        assert_eq!(
            logged(&[(o, b"a"), (o, b"b\n\n")]),
            [out("ab\n"), out("\n")]
        );
        assert_eq!(logged(&[(o, b"no newline")]), [out("no newline")]);
        let mixed = logged(&[(o, b"one "), (e, b"err\n"), (o, b"line\n")]);
        assert_eq!(
            mixed,
            [("stderr".into(), "err\n".into()), out("one line\n")]
        );
        assert_eq!(logged(&[]), []);
    }

    #[test]
    fn long_lines_are_cut_at_16_kib() {
        let long = vec![b'x'; 40_000];
        let mut text = long.clone();
        text.extend_from_slice(b"end\nnext\n");
        let piece = "x".repeat(16_384);
        let expected = [
            out(&piece),
            out(&piece),
            out(&format!("{}end\n", "x".repeat(7_232))),
            out("next\n"),
        ];
        assert_eq!(logged(&[(Stream::Stdout, &text)]), expected);
        let halves: Vec<_> = text
            .chunks(1000)
            .map(|piece| (Stream::Stdout, piece))
            .collect();
        assert_eq!(logged(&halves), expected);
        let exact = [&long[..16_384], b"\n"].concat();
        assert_eq!(
            logged(&[(Stream::Stdout, &exact)]),
            [out(&piece), out("\n")]
        );
    }

    #[test]
    fn pieces_of_a_line_carry_the_time_of_the_first() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = Log::open(&plan(dir.path(), None, 1, false)).expect("open");
        log.write(Stream::Stdout, &vec![b'x'; 17_000], T);
        log.write(Stream::Stdout, b"end\nnext\n", T + 1_000_000_000);
        let text = std::fs::read_to_string(dir.path().join("log")).expect("log file");
        let times: Vec<_> = text
            .lines()
            .map(|line| line.rsplit_once("time").expect("time").1)
            .collect();
        let (first, second) = (
            "\":\"2026-11-24T08:00:00Z\"}",
            "\":\"2026-11-24T08:00:01Z\"}",
        );
        assert_eq!(times, [first, first, second]);
    }

    #[test]
    fn rotated_files_hold_the_newest_lines_in_order() {
        for compress in [false, true] {
            let dir = tempfile::tempdir().expect("tempdir");
            let mut log = Log::open(&plan(dir.path(), Some(1000), 3, compress)).expect("open");
            for n in 0..100 {
                log.write(Stream::Stdout, format!("line {n:04}\n").as_bytes(), T);
            }
            log.finish();
            let mut found = std::fs::read_dir(dir.path())
                .expect("dir")
                .map(|e| e.expect("entry").file_name())
                .collect::<Vec<_>>();
            found.sort();
            let suffix = if compress { ".gz" } else { "" };
            let (newest, older) = (format!("log.1{suffix}"), format!("log.2{suffix}"));
            assert_eq!(found, ["log", newest.as_str(), older.as_str()]);
            let mut all = Vec::new();
            for name in [older, newest, "log".to_owned()] {
                let path = dir.path().join(name);
                all.extend(lines(&if compress { gunzip(&path) } else { path }));
            }
            let first = 100 - all.len();
            assert!(all.len() > 20, "{}", all.len());
            let expected: Vec<_> = (first..100)
                .map(|n| out(&format!("line {n:04}\n")))
                .collect();
            assert_eq!(all, expected);
        }
    }

    fn gunzip(path: &Path) -> PathBuf {
        if path.extension().is_none_or(|extension| extension != "gz") {
            return path.to_owned();
        }
        let plain = path.with_extension("plain");
        let mut reader = flate2::read::GzDecoder::new(File::open(path).expect("gz"));
        io::copy(&mut reader, &mut File::create(&plain).expect("create")).expect("gunzip");
        plain
    }

    #[test]
    fn a_single_file_starts_over_at_its_limit() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = Log::open(&plan(dir.path(), Some(500), 1, true)).expect("open");
        for n in 0..50 {
            log.write(Stream::Stderr, format!("{n}\n").as_bytes(), T);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("dir").count(), 1);
        let left = lines(&dir.path().join("log"));
        assert!(left.len() < 10);
        assert_eq!(left.last().expect("a line").1, "49\n");
    }

    proptest! {
        #[test]
        fn what_is_logged_is_what_was_written(text in "[a-z<\"\\n]{0,200}", cuts in proptest::collection::vec(0usize..200, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|w| (Stream::Stdout, &text.as_bytes()[w[0]..w[1]])).collect();
            let back: String = logged(&pieces).into_iter().map(|(_, line)| line).collect();
            prop_assert_eq!(back, text);
        }
    }
}
