//! What daemon, spawner and monitors say to each other, and how it is put on a socket.
//!
//! Every conversation runs over `SOCK_SEQPACKET` unix sockets; a message is one packet of [postcard] bytes behind a tag byte, with the
//! descriptors it speaks of. What does not fit a packet (an environment may have megabytes) travels in a memfd instead.
//!
//! ```text
//! daemon                     spawner                      monitor
//!   │ SpawnMessage + [control, netns?, clients…]             │
//!   ├──────────────────────────▶│ fork ─────────────────────▶│ launch
//!   │◀───────────── Report::Started + [pidfd] ───────────────┤   or Report::Failed
//!   │ Call{id, …} ──────────────────────────────────────────▶│
//!   │◀──────────── Report::Done{id} / ExecStarted / Refused ─┤
//!   │◀──────────── Report::Event(Exited, …) ─────────────────┤ (unasked)
//!   later daemon: connect <state_dir>/monitor.sock, Call{Hello} ─▶│ Started + [pidfd], then events not yet delivered
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wharf_sys::fdpass;

use crate::client::{AttachRequest, ExecRequest, MonitorEvent, SpawnRequest, Target};
use crate::launch::LaunchError;

/// Largest packet. Below the default send buffer of a unix socket (212,992 bytes), above any usual container.
pub const MAX_PACKET: usize = 96 * 1024;

const INLINE: u8 = 0;
const IN_MEMFD: u8 = 1;

/// Daemon to spawner: make a monitor. Descriptors: its control socket, the network namespace if `netns`, one socket per client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpawnMessage {
    /// All the monitor needs.
    pub request: SpawnRequest,
    /// A network namespace comes along.
    pub netns: bool,
    /// Clients that attached before the start.
    pub clients: Vec<AttachRequest>,
}

/// Daemon to monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the daemon, repeated in the answer.
    pub id: u64,
    /// What to do.
    pub request: Request,
}

/// What a daemon can ask of a monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// First words of a daemon that was not there at the start.
    Hello,
    /// Start an exec; one socket comes along if `client` is set.
    Exec {
        /// The exec.
        exec: Box<ExecRequest>,
        /// How its client is joined.
        client: Option<AttachRequest>,
    },
    /// Join the client whose socket comes along to the container's streams.
    Attach(AttachRequest),
    /// Set a terminal's size.
    Resize {
        /// Whose terminal.
        target: Target,
        /// Height in characters.
        rows: u16,
        /// Width in characters.
        cols: u16,
    },
    /// The daemon has noted the end of an exec; its client may now see it. Not answered.
    ExecRecorded {
        /// Exec id.
        exec_id: String,
    },
    /// Empty the log.
    ClearLog,
    /// Send a signal.
    Signal {
        /// To whom.
        target: Target,
        /// Signal number.
        signal: i32,
    },
}

/// Monitor to daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// The container runs; its init's pidfd comes along. Answers the spawn request (id 0) or a [`Request::Hello`].
    Started {
        /// The call answered.
        id: u64,
        /// Pid on the host.
        pid: i32,
        /// Nanoseconds since the epoch.
        started_at_ns: i64,
    },
    /// A process did not reach its `execve`. For id 0 the monitor is gone after this.
    Failed {
        /// The call answered.
        id: u64,
        /// Why.
        error: LaunchError,
    },
    /// The exec runs.
    ExecStarted {
        /// The call answered.
        id: u64,
        /// Pid on the host.
        pid: i32,
    },
    /// The call was carried out.
    Done {
        /// The call answered.
        id: u64,
    },
    /// The call was not carried out.
    Refused {
        /// The call answered.
        id: u64,
        /// Error number, errno(3).
        errno: i32,
    },
    /// Something happened.
    Event(MonitorEvent),
}

/// A message ready to be sent, as often as it takes.
#[derive(Debug)]
pub struct Packet {
    bytes: Vec<u8>,
    overflow: Option<OwnedFd>,
}

impl Packet {
    /// Encodes a message.
    pub fn new<T: Serialize>(message: &T) -> io::Result<Packet> {
        let bytes = postcard::to_extend(message, vec![INLINE]).map_err(invalid)?;
        if bytes.len() <= MAX_PACKET {
            return Ok(Packet {
                bytes,
                overflow: None,
            });
        }
        let mut memory = File::from(memfd_create("wharf-message", MemfdFlags::CLOEXEC)?);
        memory.write_all(&bytes[1..])?;
        Ok(Packet {
            bytes: vec![IN_MEMFD],
            overflow: Some(memory.into()),
        })
    }

    /// Sends it with `fds`. `WouldBlock` from a non-blocking socket means: nothing was sent.
    pub fn send(&self, socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        match &self.overflow {
            None => fdpass::send(socket, &self.bytes, fds),
            Some(memory) => {
                let mut all = vec![memory.as_fd()];
                all.extend_from_slice(fds);
                fdpass::send(socket, &self.bytes, &all)
            }
        }
    }
}

/// A message as it came off the socket.
#[derive(Debug)]
pub struct Incoming {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Incoming {
    /// Receives one packet; `None` when the peer is gone.
    pub fn receive(socket: impl AsFd) -> io::Result<Option<Incoming>> {
        let fdpass::Received { bytes, fds } = fdpass::receive(socket)?;
        Ok((!bytes.is_empty()).then_some(Incoming { bytes, fds }))
    }

    /// Decodes it; the descriptors are those the sender passed to [`Packet::send`].
    pub fn decode<T: DeserializeOwned>(self) -> io::Result<(T, Vec<OwnedFd>)> {
        let Incoming { bytes, mut fds } = self;
        match bytes.split_first() {
            Some((&INLINE, rest)) => Ok((postcard::from_bytes(rest).map_err(invalid)?, fds)),
            Some((&IN_MEMFD, [])) if !fds.is_empty() => {
                let message = read_memfd(fds.remove(0))?;
                Ok((postcard::from_bytes(&message).map_err(invalid)?, fds))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not one of our packets",
            )),
        }
    }
}

fn read_memfd(memory: OwnedFd) -> io::Result<Vec<u8>> {
    // The descriptor shares the sender's file offset, which stands at the end.
    rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    File::from(memory).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn invalid(error: postcard::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::LaunchErrorKind;
    use proptest::prelude::*;
    use std::os::fd::AsRawFd;

    fn through_socket<T: Serialize + DeserializeOwned>(
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> (T, Vec<OwnedFd>) {
        let (a, b) = fdpass::seqpacket_pair().expect("socketpair");
        Packet::new(message)
            .expect("encode")
            .send(&a, fds)
            .expect("send");
        Incoming::receive(&b)
            .expect("receive")
            .expect("a packet")
            .decode()
            .expect("decode")
    }

    #[test]
    fn message_too_large_for_a_packet_arrives_whole_with_its_descriptors() {
        let (reader, _writer) = rustix::pipe::pipe().expect("pipe");
        let message: Vec<String> = (0..200_000).map(|n| format!("NAME{n}=value")).collect();
        let (back, fds) = through_socket(&message, &[reader.as_fd()]);
        assert_eq!(back, message);
        assert_eq!(fds.len(), 1);
        let same = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("fstat").st_ino;
        assert_eq!(
            same(&fds[0]),
            same(&reader),
            "descriptor {} is the pipe",
            fds[0].as_raw_fd()
        );
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bytes in [
            vec![],
            vec![9],
            vec![IN_MEMFD],
            vec![IN_MEMFD, 0],
            vec![INLINE, 200],
        ] {
            let incoming = Incoming {
                bytes: bytes.clone(),
                fds: Vec::new(),
            };
            assert!(incoming.decode::<Call>().is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn calls_and_reports_come_back_equal(id: u64, rows: u16, cols: u16, signal: i32, exec_id in "[a-f0-9]{0,64}",
                                             keys: Vec<u8>, input: Vec<u8>, errno: i32, code: i32) {
            let attach = AttachRequest { stdin: true, stdout: false, stderr: true, raw: rows > 9, detach_keys: keys, early_input: input };
            for request in [
                Request::Hello,
                Request::Attach(attach),
                Request::Resize { target: Target::Init, rows, cols },
                Request::Signal { target: Target::Exec(exec_id.clone()), signal },
            ] {
                let call = Call { id, request };
                prop_assert_eq!(format!("{:?}", through_socket(&call, &[]).0), format!("{call:?}"));
            }
            for report in [
                Report::Refused { id, errno },
                Report::Failed { id, error: LaunchError { kind: LaunchErrorKind::NotFound, message: exec_id.clone() } },
                Report::Event(MonitorEvent::ExecExited { exec_id, code }),
            ] {
                prop_assert_eq!(format!("{:?}", through_socket(&report, &[]).0), format!("{report:?}"));
            }
        }
    }
}
