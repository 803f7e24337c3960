//! The log up to now: rotated files, then the current one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use memchr::memchr_iter;
use tokio::sync::mpsc::Sender;

use super::encode;
use super::files::{self, Part, Snapshot};
use super::line::{self, nanoseconds};
use super::query::Verdict;
use super::tail::{self, Start};
use super::{LogError, Request, Source};

/// Output bytes collected before they are sent.
const BATCH: usize = 64 * 1024;
/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// Where a follower goes on.
#[derive(Debug)]
pub struct Position {
    /// The file.
    pub file: File,
    /// Bytes of it already given. Always the start of a line.
    pub offset: u64,
    /// Time of the last line seen, to find the place again after several rotations.
    pub last_time: Option<i64>,
}

/// Gives the history. Blocking. `None`: nothing may follow (the `until` time was reached, the client left, or no file).
pub fn history(
    source: &Source,
    request: &Request,
    sender: &Sender<Result<Bytes, LogError>>,
) -> Result<Option<Position>, LogError> {
    let snapshot = files::open(&source.path)?;
    let io = |what| {
        move |error| LogError::Io {
            what,
            path: source.path.clone(),
            source: error,
        }
    };
    let begin = find_begin(&snapshot, request.tail).map_err(io("find tail"))?;
    let mut send = |batch: Vec<u8>| sender.blocking_send(Ok(Bytes::from(batch))).is_ok();
    let mut scanner = Scanner::new(request, source.raw);
    for (part, skip) in snapshot.rotated.iter().zip(begin.rotated) {
        let Some(skip) = skip else { continue };
        let mut reader = part.reader();
        io::copy(&mut reader.by_ref().take(skip), &mut io::sink()).map_err(io("read rotated"))?;
        if !scanner
            .read_all(&mut reader, &mut send)
            .map_err(io("read rotated"))?
        {
            return Ok(None);
        }
        scanner.end_of_file();
    }
    let Some(mut file) = snapshot.current else {
        scanner.flush(&mut send);
        return Ok(None);
    };
    file.seek(SeekFrom::Start(begin.current))
        .map_err(io("seek"))?;
    let more = scanner.read_all(&mut file, &mut send).map_err(io("read"))?;
    if !more || !scanner.flush(&mut send) {
        return Ok(None);
    }
    let position = file.stream_position().map_err(io("seek"))?;
    Ok(Some(Position {
        offset: position - scanner.unfinished() as u64,
        file,
        last_time: scanner.last_time(),
    }))
}

/// Offsets at which to begin; `None` leaves a rotated file out.
struct Begin {
    rotated: Vec<Option<u64>>,
    current: u64,
}

fn find_begin(snapshot: &Snapshot, tail: Option<u64>) -> io::Result<Begin> {
    let mut begin = Begin {
        rotated: vec![Some(0); snapshot.rotated.len()],
        current: 0,
    };
    let Some(mut missing) = tail else {
        return Ok(begin);
    };
    if let Some(file) = &snapshot.current {
        match tail::in_file(file, file.metadata()?.len(), missing)? {
            Start::At(offset) => {
                begin.current = offset;
                missing = 0;
            }
            Start::Missing(rest) => missing = rest,
        }
    }
    for (part, skip) in snapshot.rotated.iter().zip(&mut begin.rotated).rev() {
        if missing == 0 {
            *skip = None;
            continue;
        }
        match find_in_part(part, missing)? {
            Start::At(offset) => {
                *skip = Some(offset);
                missing = 0;
            }
            Start::Missing(rest) => missing = rest,
        }
    }
    Ok(begin)
}

fn find_in_part(part: &Part, lines: u64) -> io::Result<Start> {
    if !part.compressed {
        return tail::in_file(&part.file, part.file.metadata()?.len(), lines);
    }
    let mut text = Vec::new();
    part.reader().read_to_end(&mut text)?;
    // Reading moved the shared offset of the open file.
    (&part.file).seek(SeekFrom::Start(0))?;
    Ok(tail::in_text(&text, lines))
}

/// Turns file bytes into batches of output.
pub struct Scanner<'a> {
    request: &'a Request,
    raw: bool,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    last_time: Option<i64>,
    /// Lines up to this time were given already.
    resume_after: Option<i64>,
    stopped: bool,
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of a line.
    pub fn new(request: &'a Request, raw: bool) -> Scanner<'a> {
        Scanner {
            request,
            raw,
            input: vec![0; CHUNK],
            filled: 0,
            output: Vec::with_capacity(BATCH + 4096),
            last_time: None,
            resume_after: None,
            stopped: false,
        }
    }

    /// Leaves out lines up to `time`.
    pub fn resume_after(&mut self, time: Option<i64>) {
        self.resume_after = time;
    }

    /// Reads to the end. False: no more is wanted.
    pub fn read_all(
        &mut self,
        reader: &mut dyn Read,
        send: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> io::Result<bool> {
        loop {
            let n = self.read_chunk(reader)?;
            if n == 0 {
                return Ok(true);
            }
            if self.output.len() >= BATCH && !self.flush(send) {
                return Ok(false);
            }
            if self.stopped {
                self.flush(send);
                return Ok(false);
            }
        }
    }

    /// Reads once and takes in the complete lines. 0: end of file.
    pub fn read_chunk(&mut self, reader: &mut dyn Read) -> io::Result<usize> {
        if self.filled == self.input.len() {
            // A single line longer than the buffer.
            self.input.resize(self.input.len() * 2, 0);
        }
        let n = reader.read(&mut self.input[self.filled..])?;
        self.filled += n;
        self.take_lines();
        Ok(n)
    }

    fn take_lines(&mut self) {
        let mut begin = 0;
        let input = std::mem::take(&mut self.input);
        for end in memchr_iter(b'\n', &input[..self.filled]) {
            self.take_line(&input[begin..end]);
            begin = end + 1;
            if self.stopped {
                break;
            }
        }
        self.input = input;
        self.input.copy_within(begin..self.filled, 0);
        self.filled -= begin;
    }

    fn take_line(&mut self, text: &[u8]) {
        // A damaged line (power cut) is left out; what follows is still good.
        let Some(line) = line::parse(text) else {
            return;
        };
        if self.request.follow {
            let time = nanoseconds(&line.time);
            if self
                .resume_after
                .is_some_and(|last| time.is_some_and(|time| time <= last))
            {
                return;
            }
            self.last_time = time;
        }
        match self.request.judge(&line) {
            Verdict::Give => encode::append(&mut self.output, &line, self.request, self.raw),
            Verdict::Skip => {}
            Verdict::Stop => self.stopped = true,
        }
    }

    /// Sends what is collected. False: the client is gone.
    pub fn flush(&mut self, send: &mut dyn FnMut(Vec<u8>) -> bool) -> bool {
        self.take_output().is_none_or(send)
    }

    /// Takes what is collected, if anything.
    pub fn take_output(&mut self) -> Option<Vec<u8>> {
        if self.output.is_empty() {
            return None;
        }
        Some(std::mem::replace(
            &mut self.output,
            Vec::with_capacity(BATCH + 4096),
        ))
    }

    /// Forgets an unfinished last line: the file it stood in will not be written again.
    pub fn end_of_file(&mut self) {
        self.filled = 0;
    }

    /// Bytes of the line that has no newline yet.
    pub fn unfinished(&self) -> usize {
        self.filled
    }

    /// Whether a line was too new.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Time of the last line.
    pub fn last_time(&self) -> Option<i64> {
        self.last_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::Path;

    fn text(range: std::ops::Range<u32>) -> String {
        range
            .map(|n| format!("{{\"log\":\"{n}\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:{n:02}Z\"}}\n"))
            .collect()
    }

    fn write_gz(path: &Path, text: &str) {
        let file = File::create(path).expect("create");
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("write");
        encoder.finish().expect("finish");
    }

    fn read(request: &Request) -> String {
        let dir = tempfile::tempdir().expect("dir");
        let log = dir.path().join("log");
        write_gz(&dir.path().join("log.2.gz"), &text(0..10));
        std::fs::write(dir.path().join("log.1"), text(10..20)).expect("write");
        std::fs::write(&log, text(20..30) + "{\"log\":\"unfinished").expect("write");
        let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
        let source = Source {
            path: log,
            raw: true,
        };
        history(&source, request, &sender).expect("history");
        drop(sender);
        let mut all = Vec::new();
        while let Some(batch) = receiver.blocking_recv() {
            all.extend_from_slice(&batch.expect("batch"));
        }
        String::from_utf8(all).expect("text").replace('\n', " ")
    }

    fn numbers(range: std::ops::Range<u32>) -> String {
        range.map(|n| format!("{n} ")).collect()
    }

    #[test]
    fn rotated_and_compressed_files_come_first() {
        let all = Request {
            stdout: true,
            ..Request::default()
        };
        assert_eq!(read(&all), numbers(0..30));
        for tail in [0, 1, 10, 11, 20, 25, 30, 99] {
            let request = Request {
                tail: Some(tail),
                ..all.clone()
            };
            let first = 30u32.saturating_sub(u32::try_from(tail).expect("small"));
            assert_eq!(read(&request), numbers(first..30), "tail {tail}");
        }
        let span = Request {
            since: Some(8_000_000_000),
            until: Some(21_000_000_000),
            ..all
        };
        assert_eq!(read(&span), numbers(8..22));
    }

    #[test]
    fn a_million_lines_take_under_a_second() {
        let dir = tempfile::tempdir().expect("dir");
        let log = dir.path().join("log");
        let line = format!(
            "{{\"log\":\"{}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-24T08:00:00.123456789Z\"}}\n",
            "x".repeat(64)
        );
        std::fs::write(&log, line.repeat(1_000_000)).expect("write");
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Result<Bytes, LogError>>(8);
        let reading = std::thread::spawn(move || {
            let mut total = 0;
            while let Some(batch) = receiver.blocking_recv() {
                total += batch.expect("batch").len();
            }
            total
        });
        let started = std::time::Instant::now();
        let request = Request {
            stdout: true,
            ..Request::default()
        };
        history(
            &Source {
                path: log,
                raw: false,
            },
            &request,
            &sender,
        )
        .expect("history");
        drop(sender);
        assert_eq!(reading.join().expect("reader"), 73_000_000);
        if !cfg!(debug_assertions) {
            assert!(
                started.elapsed().as_secs_f64() < 0.6,
                "took {:?}",
                started.elapsed()
            );
        }
    }
}
