//! A netlink socket bound to the namespace it was opened in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::net::RecvFlags;

use super::batch::Batch;
use super::reply::{NetlinkError, Replies, Reply};

/// Dumps come in datagrams of at most this (`NLMSG_GOODSIZE` up to 32 KiB since Linux 4.4).
const RECEIVE_BUFFER: usize = 32 * 1024;

/// A netlink socket with its sequence counter. It works in the namespace it was opened in, whatever thread uses it later.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    /// rtnetlink: links, addresses, routes, neighbours.
    pub(crate) fn open_route() -> io::Result<Connection> {
        Connection::open(NETLINK_ROUTE)
    }

    /// nfnetlink: nftables.
    pub(crate) fn open_netfilter() -> io::Result<Connection> {
        Connection::open(NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> io::Result<Connection> {
        let socket = Socket::new(protocol)?;
        // Explanations with errors, without the request echoed. Kernels before 4.12 and 4.3 lack them; we do without.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Connection {
            socket,
            sequence: 1,
        })
    }

    /// Has notifications of a multicast group sent to this socket.
    pub(crate) fn join_group(&mut self, group: u32) -> io::Result<()> {
        // A socket without a number of its own is left out of notifications (`do_one_broadcast` in the kernel).
        self.socket.bind_auto()?;
        self.socket.add_membership(group)
    }

    /// The number under which the kernel knows this socket, and with which it marks changes made through it.
    pub(crate) fn port(&self) -> Option<u32> {
        let mut address = netlink_sys::SocketAddr::new(0, 0);
        self.socket.get_address(&mut address).ok()?;
        Some(address.port_number())
    }

    /// One datagram of notifications that has come.
    pub(crate) fn receive_notifications(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; RECEIVE_BUFFER];
        let (_, length) = rustix::net::recv(self.borrow(), &mut buffer[..], RecvFlags::DONTWAIT)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.borrow()
    }

    /// Makes room for large batches (CAP_NET_ADMIN lifts the system limit).
    pub(crate) fn grow_buffers(&self, bytes: usize) -> io::Result<()> {
        let socket = self.borrow();
        rustix::net::sockopt::set_socket_send_buffer_size_force(socket, bytes)?;
        Ok(rustix::net::sockopt::set_socket_recv_buffer_size_force(
            socket, bytes,
        )?)
    }

    /// Sends everything in one go and returns the first refusal, if any. The last message is acknowledged.
    pub(crate) fn exchange(&mut self, batch: &mut Batch) -> Result<(), NetlinkError> {
        let last = batch.len().saturating_sub(1);
        self.exchange_acknowledged_at(batch, last)
    }

    /// The same with the acknowledgement at message `acknowledged`: an nfnetlink batch ends with a message that old kernels do
    /// not acknowledge.
    pub(crate) fn exchange_acknowledged_at(
        &mut self,
        batch: &mut Batch,
        acknowledged: usize,
    ) -> Result<(), NetlinkError> {
        let first = self.sequence;
        let count = u32::try_from(batch.len()).expect("few messages");
        self.sequence = self.sequence.wrapping_add(count).max(1);
        let sent = self.socket.send(batch.seal(first, acknowledged), 0);
        sent.map_err(|source| failure(batch.step(0), None, source))?;
        self.collect(batch, first, acknowledged)
    }

    /// Reads all answers to the batch; they are queued already.
    fn collect(
        &mut self,
        batch: &Batch,
        first: u32,
        acknowledged: usize,
    ) -> Result<(), NetlinkError> {
        let mut buffer = [0; 4096];
        let mut refusal = None;
        let mut done = false;
        while !done {
            let length =
                match rustix::net::recv(self.borrow(), &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((_, length)) => length.min(buffer.len()),
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(rustix::io::Errno::INTR) => continue,
                    // Answers were lost, not requests; the missing acknowledgement below tells.
                    Err(rustix::io::Errno::NOBUFS) => continue,
                    Err(errno) => return Err(failure(batch.step(0), None, errno.into())),
                };
            for reply in Replies::new(&buffer[..length]) {
                let index = |sequence: u32| sequence.wrapping_sub(first) as usize;
                match reply {
                    Reply::Ack { sequence } if index(sequence) == acknowledged => done = true,
                    Reply::Error {
                        sequence,
                        errno,
                        reason,
                    } if refusal.is_none() && index(sequence) < batch.len() => {
                        let source = io::Error::from_raw_os_error(errno);
                        refusal = Some(failure(batch.step(index(sequence)), reason, source));
                    }
                    _ => {}
                }
            }
        }
        match (refusal, done) {
            (Some(refusal), _) => Err(refusal),
            (None, true) => Ok(()),
            (None, false) => {
                let source = io::Error::other("the kernel did not acknowledge");
                Err(failure(batch.step(acknowledged), None, source))
            }
        }
    }

    /// All objects that `request` lists.
    pub(crate) fn dump(
        &mut self,
        step: &str,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.request_route(step, NLM_F_DUMP, request)
    }

    /// The answer to a request for one object; `ENODEV` and the like come as errors.
    pub(crate) fn get(
        &mut self,
        step: &str,
        request: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        Ok(self.request_route(step, 0, request)?.into_iter().next())
    }

    fn request_route(
        &mut self,
        step: &str,
        flags: u16,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut found = Vec::new();
        let mut batch = Batch::new();
        batch.push_route(step, flags, request);
        self.request(&mut batch, &mut |bytes| {
            if let Some(message) = parse(bytes) {
                found.push(message);
            }
        })?;
        Ok(found)
    }

    /// Sends one question; `found` is called with each message of the answer, header and all.
    pub(crate) fn request(
        &mut self,
        question: &mut Batch,
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let sent = self.socket.send(question.seal(sequence, usize::MAX), 0);
        let step = question.step(0);
        sent.map_err(|source| failure(step, None, source))?;
        let mut buffer = vec![0; RECEIVE_BUFFER];
        loop {
            let length =
                match rustix::net::recv(self.borrow(), &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((_, length)) => length.min(buffer.len()),
                    Err(rustix::io::Errno::AGAIN) => return Ok(()),
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(errno) => return Err(failure(step, None, errno.into())),
                };
            for reply in Replies::new(&buffer[..length]) {
                match reply {
                    Reply::Message { bytes, .. } => found(bytes),
                    Reply::Error { errno, reason, .. } => {
                        return Err(failure(step, reason, io::Error::from_raw_os_error(errno)));
                    }
                    Reply::Done { errno: 0 } => return Ok(()),
                    Reply::Done { errno } => {
                        return Err(failure(step, None, io::Error::from_raw_os_error(errno)));
                    }
                    Reply::Ack { .. } => {}
                }
            }
        }
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failure(step: &str, reason: Option<String>, source: io::Error) -> NetlinkError {
    NetlinkError {
        step: step.to_owned(),
        reason,
        source,
    }
}

/// `None` for messages the parser does not know, which are none of ours.
fn parse(bytes: &[u8]) -> Option<RouteNetlinkMessage> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
        .ok()?
        .payload
    {
        NetlinkPayload::InnerMessage(message) => Some(message),
        _ => None,
    }
}
