//! The log from now on: woken by inotify, across rotations, until the container ends.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc::Sender, watch};

use super::files;
use super::reader::{Position, Scanner};
use super::{LogError, Request, Source};

type Out = Sender<Result<Bytes, LogError>>;

/// Goes on from `position`. Ends when the container ended and all is given, at the `until` time, or when the client leaves.
pub async fn follow(
    source: &Source,
    request: &Request,
    position: Position,
    mut ended: watch::Receiver<bool>,
    out: &Out,
) -> Result<(), LogError> {
    let wake = Wake::new(&source.path)?;
    let mut scanner = Scanner::new(request, source.raw);
    let mut file = position.file;
    let mut last_time = position.last_time;
    seek(&mut file, position.offset, source)?;
    let deadline = tokio::time::sleep(time_left(request.until));
    tokio::pin!(deadline);
    loop {
        // Read before the state is asked for: what was written before the end must still come.
        let over = *ended.borrow_and_update();
        if !drain(&mut scanner, &mut file, source, out).await? {
            return Ok(());
        }
        last_time = scanner.last_time().or(last_time);
        if !files::is_at(&file, &source.path) {
            if !drain(&mut scanner, &mut file, source, out).await? {
                return Ok(());
            }
            last_time = scanner.last_time().or(last_time);
            match catch_up(&mut scanner, source, last_time, out).await? {
                Some(next) => file = next,
                None => return Ok(()),
            }
            continue;
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            woken = wake.wait() => woken.map_err(|error| io("watch", source, error))?,
            changed = ended.changed() => if changed.is_err() { return Ok(()) },
            () = &mut deadline => return Ok(()),
            () = out.closed() => return Ok(()),
        }
    }
}

/// Gives everything up to the end of the file. False: no more is wanted.
async fn drain(
    scanner: &mut Scanner<'_>,
    file: &mut File,
    source: &Source,
    out: &Out,
) -> Result<bool, LogError> {
    loop {
        // Page cache reads of at most one chunk: microseconds, not worth the blocking pool.
        let n = scanner
            .read_chunk(file)
            .map_err(|error| io("read", source, error))?;
        if let Some(batch) = scanner.take_output()
            && out.send(Ok(Bytes::from(batch))).await.is_err()
        {
            return Ok(false);
        }
        if scanner.stopped() {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

/// After a rotation: gives what stands between the last line given and the end of the current file, which is returned.
async fn catch_up(
    scanner: &mut Scanner<'_>,
    source: &Source,
    last_time: Option<i64>,
    out: &Out,
) -> Result<Option<File>, LogError> {
    let snapshot = files::open(&source.path)?;
    let Some(current) = snapshot.current else {
        return Ok(None);
    };
    scanner.end_of_file();
    scanner.resume_after(last_time);
    for part in snapshot.rotated {
        let Some(text) = rewritten_since(&part, last_time) else {
            continue;
        };
        let mut reader: &[u8] = &text;
        while scanner
            .read_chunk(&mut reader)
            .map_err(|error| io("read rotated", source, error))?
            > 0
        {
            if let Some(batch) = scanner.take_output()
                && out.send(Ok(Bytes::from(batch))).await.is_err()
            {
                return Ok(None);
            }
        }
        scanner.end_of_file();
    }
    scanner.resume_after(None);
    Ok(Some(current))
}

/// The text of a rotated file unless it was last written before `time`.
fn rewritten_since(part: &files::Part, time: Option<i64>) -> Option<Vec<u8>> {
    let modified = part.file.metadata().ok()?.modified().ok()?;
    let modified = i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
    if !part.compressed && time.is_some_and(|time| modified < time) {
        return None;
    }
    let mut text = Vec::new();
    part.reader().read_to_end(&mut text).ok()?;
    Some(text)
}

fn seek(file: &mut File, offset: u64, source: &Source) -> Result<(), LogError> {
    file.seek(SeekFrom::Start(offset))
        .map_err(|error| io("seek", source, error))?;
    Ok(())
}

fn time_left(until: Option<i64>) -> Duration {
    /// Longer than any client waits; tokio clamps longer sleeps anyway.
    const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
    let Some(until) = until else { return FOREVER };
    let until = UNIX_EPOCH + Duration::from_nanos(u64::try_from(until).unwrap_or(0));
    until
        .duration_since(SystemTime::now())
        .unwrap_or(Duration::ZERO)
}

fn io(what: &'static str, source: &Source, error: std::io::Error) -> LogError {
    LogError::Io {
        what,
        path: source.path.clone(),
        source: error,
    }
}

/// Wakes when something changes in the log's directory.
struct Wake {
    inotify: AsyncFd<OwnedFd>,
}

impl Wake {
    fn new(log: &Path) -> Result<Wake, LogError> {
        let error = |what| {
            move |source: std::io::Error| LogError::Io {
                what,
                path: log.to_owned(),
                source,
            }
        };
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|errno| error("inotify")(errno.into()))?;
        let directory = log.parent().unwrap_or(Path::new("/"));
        inotify::add_watch(
            &fd,
            directory,
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVE,
        )
        .map_err(|errno| error("watch")(errno.into()))?;
        // Its replacement is `unsafe`, for descriptors that may be closed elsewhere; this one is owned.
        #[allow(deprecated)]
        let inotify = AsyncFd::new(fd).map_err(error("watch"))?;
        Ok(Wake { inotify })
    }

    /// Waits for the next change and takes all pending notices.
    async fn wait(&self) -> std::io::Result<()> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut reader = inotify::Reader::new(ready.get_inner(), &mut buffer);
            let mut woken = false;
            loop {
                match reader.next() {
                    Ok(_) => woken = true,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(errno) => return Err(errno.into()),
                }
            }
            ready.clear_ready();
            if woken {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs;
    use std::io::Write;

    fn line(n: u32) -> String {
        format!(
            "{{\"log\":\"{n}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-24T08:00:{:02}.{n:09}Z\"}}\n",
            n % 60
        )
    }

    async fn next(batches: &mut logs::Batches, wanted: &str) {
        let mut got = String::new();
        while got.len() < wanted.len() {
            let batch = tokio::time::timeout(Duration::from_secs(10), batches.recv())
                .await
                .expect("in time");
            got.push_str(
                std::str::from_utf8(&batch.expect("not over").expect("batch")).expect("text"),
            );
        }
        assert_eq!(got, wanted);
    }

    #[tokio::test]
    async fn lines_come_as_written_and_across_rotations() {
        let dir = tempfile::tempdir().expect("dir");
        let log = dir.path().join("log");
        let mut file = File::create(&log).expect("create");
        file.write_all(line(0).as_bytes()).expect("write");
        let (ended, watch) = watch::channel(false);
        let request = Request {
            follow: true,
            stdout: true,
            ..Request::default()
        };
        let mut batches = logs::read(
            Source {
                path: log.clone(),
                raw: true,
            },
            request,
            Some(watch),
        );
        next(&mut batches, "0\n").await;
        let second = line(1);
        file.write_all(&second.as_bytes()[..20]).expect("write");
        file.write_all(&second.as_bytes()[20..]).expect("write");
        next(&mut batches, "1\n").await;
        file.write_all(line(2).as_bytes()).expect("write");
        std::fs::rename(&log, dir.path().join("log.1")).expect("rotate");
        let mut file = File::create(&log).expect("create");
        file.write_all(line(3).as_bytes()).expect("write");
        std::fs::rename(dir.path().join("log.1"), dir.path().join("log.2")).expect("rotate");
        std::fs::rename(&log, dir.path().join("log.1")).expect("rotate");
        std::fs::write(&log, line(4)).expect("write");
        next(&mut batches, "2\n3\n4\n").await;
        let mut file = File::options().append(true).open(&log).expect("open");
        file.write_all(line(5).as_bytes()).expect("write");
        ended.send(true).expect("follower listens");
        next(&mut batches, "5\n").await;
        assert!(batches.recv().await.is_none());
    }
}
