//! Network namespaces prepared ahead of time.
//!
//! Threads of their own unshare one namespace after the other and hand each over as descriptors, with loopback up and a netlink
//! socket that was opened inside; those for bridges also with a veth pair, whose host end waits down and unconnected. Making a
//! namespace with a pair costs about a millisecond, most of it for files below `/sys` and `/proc/sys`; taking a prepared one
//! costs nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{NetworkError, Step};
use crate::link::{Inside, Pair, change_link, without_ipv6_address};
use crate::netlink::{Batch, Connection};

/// How many namespaces of a kind wait ready.
const READY: usize = 4;

/// How many exist at most that nobody has: the ready ones and the one being made.
pub(crate) const STOCK: usize = READY + 1;

/// With at least this many left, refilling waits for [`REFILL_DELAY`].
const LOW: usize = 2;

/// Making a namespace takes the same kernel locks (RTNL among them) and a processor, which the container that has just taken one
/// needs for its start.
const REFILL_DELAY: Duration = Duration::from_millis(3);

/// A stock with pairs is given up when nobody has started a container for this long: an idle host shows no interfaces
/// that belong to nothing. The next start makes its own, a millisecond slower.
const IDLE: Duration = Duration::from_millis(500);

/// Index of loopback in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// A network namespace that nobody uses yet: loopback up, IPv6 off on interfaces to come.
#[derive(Debug)]
pub(crate) struct Namespace {
    namespace: OwnedFd,
    /// rtnetlink inside the namespace.
    pub(crate) connection: Connection,
    /// The prepared pair, until somebody takes it.
    pair: Option<Pair>,
    /// `net.ipv6.conf.default.disable_ipv6` of this namespace; absent on kernels without IPv6.
    ipv6_default: Option<File>,
    /// Where the host's ends of pairs go.
    host: Arc<OwnedFd>,
}

impl Namespace {
    /// The namespace of a container that runs. New interfaces do not speak IPv6 until [`Namespace::finish`].
    pub(crate) fn existing(
        namespace: OwnedFd,
        host: Arc<OwnedFd>,
    ) -> Result<Namespace, NetworkError> {
        let opened = on_a_thread_in(&namespace, || {
            let connection = Connection::open_route()
                .step(|| "open a netlink socket in the container".into())?;
            Ok((connection, open_ipv6_default()?))
        });
        let (connection, ipv6_default) = opened?;
        let namespace = Namespace {
            namespace,
            connection,
            pair: None,
            ipv6_default,
            host,
        };
        namespace
            .set_ipv6(false)
            .step(|| "switch IPv6 off for new interfaces of the container".into())?;
        Ok(namespace)
    }

    /// A new namespace that somebody else has made, brought to where a prepared one is.
    pub(crate) fn new_elsewhere(
        namespace: OwnedFd,
        host: Arc<OwnedFd>,
    ) -> Result<Namespace, NetworkError> {
        let mut namespace = Namespace::existing(namespace, host)?;
        let mut batch = Batch::new();
        batch.push_route(
            "bring up loopback",
            0,
            change_link(LOOPBACK, Vec::new(), true),
        );
        namespace.connection.exchange(&mut batch)?;
        Ok(namespace)
    }

    /// The veth pair for the interface `name`: the prepared one if there is one yet, else a new one.
    pub(crate) fn take_pair(&mut self, name: &str) -> Result<Pair, NetworkError> {
        match self.pair.take() {
            Some(pair) if pair.inside_name == name => Ok(pair),
            Some(pair) => Ok(pair.renamed(&mut self.connection, name)?),
            None => Ok(Pair::create(&mut self.connection, self.host.as_fd(), name)?),
        }
    }

    /// Sets an interface up: its link, what it needs below `/proc/sys/net`, its addresses and routes.
    pub(crate) fn set_up(&mut self, inside: &Inside) -> Result<(), NetworkError> {
        let namespace = &self.namespace;
        inside.execute(&mut self.connection, |inside| {
            on_a_thread_in(namespace, || write_sysctls(inside))
        })
    }

    /// The namespace itself.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// The finished namespace. Interfaces that the container makes itself have the kernel's defaults again.
    pub(crate) fn finish(self) -> io::Result<OwnedFd> {
        self.set_ipv6(true)?;
        Ok(self.namespace)
    }

    /// Switches IPv6 on or off for interfaces made from now on.
    ///
    /// An interface on an IPv4-only network must not speak IPv6 at all: link-local addresses would expose it to its neighbours
    /// (Docker since 26 does the same per interface).
    fn set_ipv6(&self, enabled: bool) -> io::Result<()> {
        match &self.ipv6_default {
            Some(file) => file.write_all_at(if enabled { b"0" } else { b"1" }, 0),
            None => Ok(()),
        }
    }
}

/// A stock of prepared namespaces of one kind. Its thread ends with it.
#[derive(Debug)]
pub(crate) struct NamespacePool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stock: Mutex<Stock>,
    /// Signalled at every change of the stock.
    changed: Condvar,
    /// How long an untouched stock is kept; `None` is for ever.
    idle: Option<Duration>,
}

#[derive(Debug)]
struct Stock {
    /// An error is handed over like a namespace, to whoever asks next.
    ready: VecDeque<Result<Namespace, NetworkError>>,
    /// How many callers wait for one.
    waiting: usize,
    last_use: Option<Instant>,
    closed: bool,
}

/// What the preparing thread does next.
enum Next {
    Prepare { at_once: bool },
    GiveUp(VecDeque<Result<Namespace, NetworkError>>),
    End,
}

impl NamespacePool {
    /// Starts preparing namespaces with loopback only.
    pub(crate) fn bare() -> Result<NamespacePool, NetworkError> {
        NamespacePool::start("netns-bare", None, |worker| worker.prepare())
    }

    /// Prepares namespaces with a veth pair to the calling thread's namespace, while containers are being started.
    pub(crate) fn with_pairs() -> Result<NamespacePool, NetworkError> {
        NamespacePool::start("netns-pairs", Some(IDLE), Worker::prepare_with_pair)
    }

    /// A namespace; waits for one when containers start faster than namespaces can be made, or after a pause.
    pub(crate) fn take(&self) -> Result<Namespace, NetworkError> {
        let mut stock = self.shared.stock.lock();
        stock.last_use = Some(Instant::now());
        stock.waiting += 1;
        self.shared.changed.notify_all();
        loop {
            if let Some(namespace) = stock.ready.pop_front() {
                stock.waiting -= 1;
                self.shared.changed.notify_all();
                return namespace;
            }
            self.shared.changed.wait(&mut stock);
        }
    }

    fn start(
        name: &str,
        idle: Option<Duration>,
        prepare: fn(&mut Worker) -> Result<Namespace, NetworkError>,
    ) -> Result<NamespacePool, NetworkError> {
        let stock = Stock {
            ready: VecDeque::with_capacity(READY),
            waiting: 0,
            last_use: None,
            closed: false,
        };
        let shared = Arc::new(Shared {
            stock: Mutex::new(stock),
            changed: Condvar::new(),
            idle,
        });
        let mut worker = Worker::in_current_namespace()?;
        let thread = thread::Builder::new()
            .name(name.into())
            .stack_size(256 * 1024);
        let theirs = Arc::clone(&shared);
        thread
            .spawn(move || prepare_ahead(&theirs, &mut worker, prepare))
            .step(|| format!("start the thread {name}"))?;
        Ok(NamespacePool { shared })
    }
}

impl Drop for NamespacePool {
    fn drop(&mut self) {
        self.shared.stock.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Waits until there is something to do.
    fn next(&self) -> Next {
        let mut stock = self.stock.lock();
        loop {
            if stock.closed {
                return Next::End;
            }
            let now = Instant::now();
            // `None`: kept for ever. A stock never asked for is idle from the start.
            let left = self.idle.map(|idle| {
                stock.last_use.map_or(Duration::ZERO, |at| {
                    (at + idle).saturating_duration_since(now)
                })
            });
            let wanted = stock.waiting > 0 || left != Some(Duration::ZERO);
            if wanted && stock.ready.len() < READY.max(stock.waiting) {
                let at_once = stock.waiting > 0 || stock.ready.len() < LOW;
                return Next::Prepare { at_once };
            }
            match left {
                Some(Duration::ZERO) if !stock.ready.is_empty() => {
                    return Next::GiveUp(std::mem::take(&mut stock.ready));
                }
                Some(left) if !stock.ready.is_empty() => {
                    self.changed.wait_for(&mut stock, left);
                }
                _ => self.changed.wait(&mut stock),
            }
        }
    }
}

/// Runs until the pool is gone.
fn prepare_ahead(
    shared: &Shared,
    worker: &mut Worker,
    prepare: fn(&mut Worker) -> Result<Namespace, NetworkError>,
) {
    loop {
        match shared.next() {
            Next::Prepare { at_once } => {
                if !at_once {
                    thread::sleep(REFILL_DELAY);
                }
                let namespace = prepare(worker);
                // The thread is in the one just made: a container that gets it would leave it behind with its pair until the
                // next is made, which may be never.
                worker.go_home();
                shared.stock.lock().ready.push_back(namespace);
                shared.changed.notify_all();
            }
            Next::GiveUp(stock) => drop(stock),
            Next::End => return,
        }
    }
}

/// What a preparing thread keeps of the host's namespace, where it goes back to from each that it makes.
struct Worker {
    host: Arc<OwnedFd>,
    host_connection: Connection,
}

impl Worker {
    fn in_current_namespace() -> Result<Worker, NetworkError> {
        let host =
            wharf_sys::netns::current().step(|| "open the host's network namespace".into())?;
        let host_connection = Connection::open_route().step(|| "open a netlink socket".into())?;
        Ok(Worker {
            host: Arc::new(host),
            host_connection,
        })
    }

    fn go_home(&self) {
        if let Err(error) = wharf_sys::netns::enter(self.host.as_fd()) {
            tracing::warn!(%error, "cannot return to the host's network namespace");
        }
    }

    fn prepare(&mut self) -> Result<Namespace, NetworkError> {
        wharf_sys::netns::unshare().step(|| "create a network namespace".into())?;
        let namespace = wharf_sys::netns::current().step(|| "open the network namespace".into())?;
        let mut connection = Connection::open_route().step(|| "open a netlink socket".into())?;
        let mut batch = Batch::new();
        batch.push_route(
            "bring up loopback",
            0,
            change_link(LOOPBACK, Vec::new(), true),
        );
        connection.exchange(&mut batch)?;
        let namespace = Namespace {
            namespace,
            connection,
            pair: None,
            ipv6_default: open_ipv6_default()?,
            host: Arc::clone(&self.host),
        };
        namespace
            .set_ipv6(false)
            .step(|| "switch IPv6 off in the network namespace".into())?;
        Ok(namespace)
    }

    fn prepare_with_pair(&mut self) -> Result<Namespace, NetworkError> {
        let mut namespace = self.prepare()?;
        let pair = namespace.take_pair("eth0")?;
        if namespace.ipv6_default.is_some() {
            let mut batch = Batch::new();
            batch.push_route(
                "switch IPv6 addresses off",
                0,
                without_ipv6_address(pair.host_index),
            );
            self.host_connection.exchange(&mut batch)?;
        }
        namespace.pair = Some(pair);
        Ok(namespace)
    }
}

/// Runs `work` on a thread of its own inside `namespace`: what is below `/proc/sys/net` is that of the thread that looks.
fn on_a_thread_in<T: Send>(
    namespace: &OwnedFd,
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(256 * 1024);
        let worker = worker
            .spawn_scoped(scope, || {
                wharf_sys::netns::enter(namespace.as_fd())
                    .step(|| "enter the container's network namespace".into())?;
                work()
            })
            .step(|| "start a thread".into())?;
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn write_sysctls(inside: &Inside) -> Result<(), NetworkError> {
    if inside.ipv6 {
        let path = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", inside.interface);
        std::fs::write(&path, "0").step(|| format!("enable IPv6 by {path}"))?;
    }
    for (name, value) in &inside.sysctls {
        // Interface names may have dots; the other parts of a name do not.
        let parts: Vec<&str> = name.splitn(5, '.').collect();
        let [_, family, scope, _, setting] = parts.as_slice() else {
            continue;
        };
        let path = format!(
            "/proc/sys/net/{family}/{scope}/{}/{setting}",
            inside.interface
        );
        std::fs::write(&path, value).step(|| format!("set {path} to {value}"))?;
    }
    Ok(())
}

/// The file stays bound to the namespace of the thread that opens it.
fn open_ipv6_default() -> Result<Option<File>, NetworkError> {
    let path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    match File::options().write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(NetworkError::io(format!("open {path}"), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Namespaces of this process's threads called `name`.
    fn namespaces_of(name: &str) -> Vec<std::path::PathBuf> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let named = tasks.filter(|task| {
            let comm = std::fs::read_to_string(task.path().join("comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        });
        named
            .filter_map(|task| std::fs::read_link(task.path().join("ns/net")).ok())
            .collect()
    }

    #[test]
    fn the_preparing_thread_stays_in_no_namespace_that_it_made() {
        assert!(
            rustix::process::geteuid().is_root(),
            "making network namespaces takes root"
        );
        let home = std::fs::read_link(Path::new("/proc/thread-self/ns/net")).unwrap();
        let pool = NamespacePool::start("netns-test", None, |worker| worker.prepare()).unwrap();
        pool.take().unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let full = || pool.shared.stock.lock().ready.len() == READY;
        while !(full() && namespaces_of("netns-test") == [home.clone()]) {
            assert!(Instant::now() < end, "{:?}", namespaces_of("netns-test"));
            thread::sleep(Duration::from_millis(1));
        }
    }
}
