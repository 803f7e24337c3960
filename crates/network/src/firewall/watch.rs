//! Notices that somebody else took our rules away (`nft flush ruleset`, a reload of firewalld or of the host's own rules), and has
//! them made again.

use std::io::PipeWriter;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::error::{NetworkError, Step};
use crate::netlink::Connection;

/// Multicast group of nftables' changes (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;

/// Messages about something that is gone: a table, a chain, a rule, an element.
const GONE: [u16; 4] = [2, 5, 8, 14];

/// Changes come in bursts; the rules are made again when one is over.
const QUIET: Duration = Duration::from_millis(100);

/// Whose deletions are noticed, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    /// Port number of the netlink socket whose changes are ours.
    pub(crate) sender: Option<u32>,
    /// Tables that we look at.
    pub(crate) tables: &'static [&'static str],
    /// Those of them in which nobody else has anything.
    pub(crate) own: &'static [&'static str],
}

/// A watching thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    _end: PipeWriter,
}

impl Watch {
    /// Starts watching in the calling thread's network namespace. `lost` is called after each burst of deletions by others, and told
    /// whether something is certainly missing.
    pub(crate) fn start(
        watched: Watched,
        lost: impl Fn(bool) + Send + 'static,
    ) -> Result<Watch, NetworkError> {
        let mut connection = Connection::open_netfilter().step(|| "watch nftables".into())?;
        connection
            .join_group(GROUP)
            .step(|| "watch changes of nftables".into())?;
        let (reader, writer) = std::io::pipe().step(|| "make a pipe".into())?;
        thread::Builder::new()
            .name("firewall-watch".into())
            .stack_size(256 * 1024)
            .spawn(move || watch(&connection, &reader.into(), watched, &lost))
            .step(|| "start the thread firewall-watch".into())?;
        Ok(Watch { _end: writer })
    }
}

fn watch(connection: &Connection, end: &OwnedFd, watched: Watched, lost: &dyn Fn(bool)) {
    let (mut pending, mut certain) = (false, false);
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN),
        ];
        let quiet = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: QUIET.subsec_nanos().into(),
        };
        match poll(&mut fds, pending.then_some(&quiet)) {
            Ok(0) => {
                lost(certain);
                (pending, certain) = (false, false);
                continue;
            }
            Ok(_) if !fds[1].revents().is_empty() => return,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => {
                tracing::warn!(error = %errno, "changes of the firewall are not watched any more");
                return;
            }
        }
        // When too many came at once, some may have been ours: looking is never wrong.
        match connection.receive_notifications() {
            Ok(bytes) => {
                pending |= deletes_ours(&bytes, watched.sender, watched.tables);
                certain |= deletes_ours(&bytes, watched.sender, watched.own);
            }
            Err(_) => pending = true,
        }
    }
}

/// Whether a datagram of notifications tells of something deleted from `tables` by another than `own`.
fn deletes_ours(mut bytes: &[u8], own: Option<u32>, tables: &[&str]) -> bool {
    let number = |bytes: &[u8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    while bytes.len() >= 20 {
        let length = usize::try_from(number(bytes)).unwrap_or(usize::MAX);
        if length < 20 || length > bytes.len() {
            return false;
        }
        let message = &bytes[..length];
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        let sender = number(&message[12..]);
        let gone = kind >> 8 == SUBSYSTEM && GONE.contains(&(kind & 0xff));
        if gone && own != Some(sender) && table_of(&message[20..], tables) {
            return true;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    false
}

/// The first attribute of these messages is the table's name (`NFTA_*_TABLE`, always 1).
fn table_of(mut attributes: &[u8], tables: &[&str]) -> bool {
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]) & 0x3fff;
        if length < 4 || length > attributes.len() {
            return false;
        }
        if kind == 1 {
            let name = &attributes[4..length];
            let name = name.strip_suffix(&[0]).unwrap_or(name);
            return tables.iter().any(|table| table.as_bytes() == name);
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(kind: u16, sender: u32, table: &str) -> Vec<u8> {
        let mut name = table.as_bytes().to_vec();
        name.push(0);
        let mut attributes = Vec::new();
        attributes.extend(u16::try_from(name.len() + 4).unwrap().to_ne_bytes());
        attributes.extend(1u16.to_ne_bytes());
        attributes.extend(name);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
        let mut bytes = u32::try_from(20 + attributes.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend((SUBSYSTEM << 8 | kind).to_ne_bytes());
        bytes.extend([0; 6]);
        bytes.extend(sender.to_ne_bytes());
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn only_deletions_of_others_in_our_tables_count() {
        const TABLES: &[&str] = &["wharf-bridges"];
        let rows = [
            (notification(2, 0, "wharf-bridges"), true),
            (notification(2, 77, "wharf-bridges"), false),
            (notification(8, 5, "filter"), false),
            (notification(6, 5, "wharf-bridges"), false),
            (
                [
                    notification(6, 5, "filter"),
                    notification(8, 5, "wharf-bridges"),
                ]
                .concat(),
                true,
            ),
            (vec![1, 2, 3], false),
        ];
        for (bytes, expected) in rows {
            assert_eq!(
                deletes_ours(&bytes, Some(77), TABLES),
                expected,
                "{bytes:?}"
            );
        }
    }
}
