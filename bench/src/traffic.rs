//! Traffic between network namespaces: threads that ask and answer, or send as fast as they can.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Connections that ask at once.
const ASKERS: usize = 8;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world\n";

/// A network namespace.
pub(crate) struct Place(Arc<File>);

impl Place {
    /// The one that a file stands for.
    pub(crate) fn named(path: &Path) -> Result<Place> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Place(Arc::new(file)))
    }

    /// Runs `work` in a thread that sits there.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> thread::JoinHandle<Result<T>> {
        let file = Arc::clone(&self.0);
        thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("enter a network namespace")?;
            work()
        })
    }

    fn listen(&self, port: u16) -> Result<TcpListener> {
        let bind = move || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?);
        done(self.spawn(bind))
    }
}

/// What a thread came to.
pub(crate) fn done<T>(thread: thread::JoinHandle<Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Answers requests until it is dropped.
pub(crate) struct Server {
    over: Arc<AtomicBool>,
    address: SocketAddr,
    place: Place,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let address = self.address;
        // Wakes the listener; one that is gone needs no waking.
        let _ = done(
            self.place
                .spawn(move || Ok(TcpStream::connect(address).is_ok())),
        );
    }
}

/// Answers requests at `port` of a place.
pub(crate) fn serve_requests(place: &Place, port: u16) -> Result<Server> {
    let listener = place.listen(port)?;
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            if seen.load(Ordering::Relaxed) {
                return;
            }
            thread::spawn(move || answer(stream));
        }
    });
    Ok(Server {
        over,
        address: (Ipv4Addr::LOCALHOST, port).into(),
        place: Place(Arc::clone(&place.0)),
    })
}

/// Clients send one request and wait for its answer: what is read is one request.
fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 512];
    while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {
        if stream.write_all(ANSWER).is_err() {
            return;
        }
    }
}

/// How many requests `target` answers within `time`, asked from a place on several connections at once.
pub(crate) fn count_requests(from: &Place, target: SocketAddr, time: Duration) -> Result<f64> {
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| from.spawn(move || ask(target, time)))
        .collect();
    let counts: Vec<u64> = askers.into_iter().map(done).collect::<Result<_>>()?;
    #[allow(clippy::cast_precision_loss)] // Far below 2^52.
    let sum = counts.iter().sum::<u64>() as f64;
    Ok(sum)
}

fn ask(target: SocketAddr, time: Duration) -> Result<u64> {
    let mut stream = TcpStream::connect(target).context("connect to the server")?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut count) = ([0; 512], 0);
    let end = Instant::now() + time;
    while Instant::now() < end {
        stream.write_all(REQUEST)?;
        let mut length = 0;
        while length < ANSWER.len() {
            let more = stream.read(&mut buffer)?;
            ensure!(more > 0, "the server hung up");
            length += more;
        }
        count += 1;
    }
    Ok(count)
}

/// How many bytes arrive within `time`.
pub(crate) fn count_bytes(
    from: &Place,
    to: &Place,
    target: SocketAddr,
    time: Duration,
) -> Result<f64> {
    let listener = to.listen(target.port())?;
    let arrived = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&arrived);
    let receiver = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                length => sum.fetch_add(u64::try_from(length)?, Ordering::Relaxed),
            };
        }
    });
    done(from.spawn(move || {
        let mut stream = TcpStream::connect(target).context("connect to the receiver")?;
        let (bytes, end) = (vec![0; 128 * 1024], Instant::now() + time);
        while Instant::now() < end {
            stream.write_all(&bytes)?;
        }
        Ok(())
    }))?;
    done(receiver)?;
    #[allow(clippy::cast_precision_loss)] // Far below 2^52.
    let bytes = arrived.load(Ordering::Relaxed) as f64;
    Ok(bytes)
}
