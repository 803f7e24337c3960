//! Network namespaces prepared ahead of time.
//!
//! A thread of its own unshares one namespace after the other and hands each over as descriptors, with loopback up and a netlink
//! socket that was opened inside. Making a namespace costs 0.3 to 0.7 ms; taking a prepared one costs nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::error::{NetworkError, Step};
use crate::link::{change_link, links};
use crate::netlink::{Batch, Connection};

/// How many namespaces wait ready.
const READY: usize = 4;

/// With at least this many left, refilling waits for [`REFILL_DELAY`].
const LOW: usize = 2;

/// Making a namespace takes the same kernel locks (RTNL among them) and a processor, which the container that has just taken one
/// needs for its veth pair and its start.
const REFILL_DELAY: Duration = Duration::from_millis(2);

/// Index of loopback in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// A network namespace that nobody uses yet: loopback up, IPv6 off on interfaces to come.
#[derive(Debug)]
pub(crate) struct Namespace {
    namespace: OwnedFd,
    connection: Connection,
    /// `net.ipv6.conf.default.disable_ipv6` of this namespace; absent on kernels without IPv6.
    ipv6_default: Option<File>,
    next_index: u32,
}

impl Namespace {
    /// The namespace itself and the netlink connection inside.
    pub(crate) fn parts(&mut self) -> (BorrowedFd<'_>, &mut Connection) {
        (self.namespace.as_fd(), &mut self.connection)
    }

    /// The index that the next interface in the namespace will get: the kernel counts up.
    pub(crate) fn next_index(&self) -> u32 {
        self.next_index
    }

    /// An interface got `index`; the next one comes after it.
    pub(crate) fn used_index(&mut self, index: u32) {
        self.next_index = index + 1;
    }

    /// Switches IPv6 on or off for interfaces made from now on.
    ///
    /// An interface on an IPv4-only network must not speak IPv6 at all: link-local addresses would expose it to its neighbours
    /// (Docker since 26 does the same per interface).
    pub(crate) fn set_ipv6(&self, enabled: bool) -> io::Result<()> {
        match &self.ipv6_default {
            Some(file) => file.write_all_at(if enabled { b"0" } else { b"1" }, 0),
            None => Ok(()),
        }
    }

    /// The finished namespace. What the container makes itself has the kernel's defaults again.
    pub(crate) fn finish(self) -> io::Result<OwnedFd> {
        self.set_ipv6(true)?;
        Ok(self.namespace)
    }
}

/// The stock of prepared namespaces. Its thread ends with it.
#[derive(Debug)]
pub(crate) struct NamespacePool {
    ready: Receiver<Result<Namespace, NetworkError>>,
}

impl NamespacePool {
    /// Starts preparing. The first namespace is made when this returns, or its error is returned.
    pub(crate) fn start() -> Result<NamespacePool, NetworkError> {
        let (sender, ready) = crossbeam_channel::bounded(READY);
        let worker = thread::Builder::new()
            .name("netns-pool".into())
            .stack_size(256 * 1024);
        worker
            .spawn(move || prepare_ahead(&sender))
            .step(|| "start the namespace thread".into())?;
        Ok(NamespacePool { ready })
    }

    /// A namespace; waits for one only when containers start faster than namespaces can be made.
    pub(crate) fn take(&self) -> Result<Namespace, NetworkError> {
        self.ready.recv().map_err(|_| {
            NetworkError::io(
                "take a network namespace",
                io::Error::other("the namespace thread ended"),
            )
        })?
    }
}

/// Runs until the pool is gone. An error is handed over like a namespace, to whoever asks next.
fn prepare_ahead(sender: &Sender<Result<Namespace, NetworkError>>) {
    let mut next_index = None;
    while sender.send(prepare(&mut next_index)).is_ok() {
        if sender.len() >= LOW {
            thread::sleep(REFILL_DELAY);
        }
    }
}

/// One namespace. The thread is inside it afterwards, and leaves it by making the next.
fn prepare(next_index: &mut Option<u32>) -> Result<Namespace, NetworkError> {
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
    let first_free = match *next_index {
        Some(index) => index,
        None => *next_index.insert(first_free_index(&mut connection)?),
    };
    let namespace = Namespace {
        namespace,
        connection,
        ipv6_default: open_ipv6_default()?,
        next_index: first_free,
    };
    namespace
        .set_ipv6(false)
        .step(|| "switch IPv6 off in the network namespace".into())?;
    Ok(namespace)
}

/// Modules such as `sit` and `ipip` put an interface into every new namespace (`net.core.fb_tunnels_only_for_init_net`), the same
/// in each.
fn first_free_index(connection: &mut Connection) -> Result<u32, NetworkError> {
    let highest = links(connection)?
        .iter()
        .map(|link| link.header.index)
        .max();
    Ok(highest.unwrap_or(LOOPBACK) + 1)
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
