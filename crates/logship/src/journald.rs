//! The journal's native protocol: one datagram of fields per entry (systemd `docs/JOURNAL_NATIVE_PROTOCOL.md`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use jiff::Timestamp;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{Record, ShipError, Sink};

/// Where systemd-journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

const ERROR: &str = "3";
const INFO: &str = "6";

/// A journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its socket.
    pub socket: String,
    /// Fields of every entry.
    pub fields: Vec<(String, String)>,
}

/// The journal, reachable.
#[derive(Debug)]
pub struct Journald {
    config: Config,
    socket: UnixDatagram,
    ordinal: u64,
}

impl Journald {
    /// Checks that a journal listens.
    pub fn connect(config: &Config) -> Result<Journald, ShipError> {
        let absent = |_| ShipError::Refused("journald is not enabled on this host".into());
        let socket = UnixDatagram::unbound().map_err(absent)?;
        socket.connect(&config.socket).map_err(absent)?;
        Ok(Journald {
            socket,
            config: config.clone(),
            ordinal: 0,
        })
    }

    fn deliver(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send(entry) {
            Ok(_) => Ok(()),
            // Too much for a datagram: the journal reads it from memory that nobody can change any more.
            Err(error)
                if [Errno::MSGSIZE, Errno::NOBUFS]
                    .contains(&Errno::from_io_error(&error).unwrap_or(Errno::IO)) =>
            {
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
                let mut memory = File::from(memfd_create("journal-entry", flags)?);
                memory.write_all(entry)?;
                let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
                fcntl_add_seals(&memory, all)?;
                wharf_sys::fdpass::send(&self.socket, &[], &[memory.as_fd()])
            }
            Err(error) => Err(error),
        }
    }
}

impl Sink for Journald {
    fn send(&mut self, record: &Record) -> Result<(), ShipError> {
        self.ordinal += 1;
        let entry = entry(&self.config.fields, record, self.ordinal);
        if self.deliver(&entry).is_err() {
            // The journal was restarted.
            self.socket = UnixDatagram::unbound()?;
            self.socket.connect(&self.config.socket)?;
            self.deliver(&entry)?;
        }
        Ok(())
    }
}

fn entry(fields: &[(String, String)], record: &Record, ordinal: u64) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512 + record.text.len());
    let mut push = |name: &str, value: &[u8]| push_field(&mut entry, name, value);
    push(
        "PRIORITY",
        if record.stderr { ERROR } else { INFO }.as_bytes(),
    );
    push("MESSAGE", &record.text);
    for (name, value) in fields {
        push(name, value.as_bytes());
    }
    let time = Timestamp::from_nanosecond(record.time_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    push("SYSLOG_TIMESTAMP", time.to_string().as_bytes());
    push("CONTAINER_LOG_ORDINAL", ordinal.to_string().as_bytes());
    if let Some(partial) = record.partial {
        push("CONTAINER_PARTIAL_ID", partial.id_text().as_bytes());
        push(
            "CONTAINER_PARTIAL_ORDINAL",
            partial.ordinal.to_string().as_bytes(),
        );
        push(
            "CONTAINER_PARTIAL_LAST",
            partial.last.to_string().as_bytes(),
        );
        if !partial.last {
            push("CONTAINER_PARTIAL_MESSAGE", b"true");
        }
    }
    entry
}

/// `NAME=value`, or with a length where the value has lines of its own.
fn push_field(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

/// A label's or variable's name as the journal takes it: upper case, digits and underscores, none of them first (moby
/// `sanitizeKeyMod`).
pub fn field_name(text: &str) -> String {
    let mapped: String = text
        .chars()
        .map(|c| match c.to_ascii_uppercase() {
            c @ ('A'..='Z' | '0'..='9') => c,
            _ => '_',
        })
        .collect();
    mapped.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn record(text: &[u8]) -> Record {
        Record {
            time_ns: 1_795_507_200_000_000_000,
            stderr: true,
            text: text.to_vec(),
            partial: None,
        }
    }

    #[test]
    fn entries_are_fields_line_by_line() {
        let fields = [("CONTAINER_NAME".to_owned(), "web".to_owned())];
        let text = "PRIORITY=3\nMESSAGE=hello\nCONTAINER_NAME=web\nSYSLOG_TIMESTAMP=2026-11-24T08:00:00Z\nCONTAINER_LOG_ORDINAL=4\n";
        assert_eq!(entry(&fields, &record(b"hello"), 4), text.as_bytes());
        let lines = entry(&[], &record(b"a\nb"), 1);
        assert!(lines.starts_with(b"PRIORITY=3\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"));
    }

    #[test]
    fn names_fit_the_journal() {
        assert_eq!(field_name("_com.example-x1"), "COM_EXAMPLE_X1");
    }

    #[test]
    fn a_restarted_journal_is_found_again() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("socket");
        let config = Config {
            socket: path.display().to_string(),
            fields: Vec::new(),
        };
        assert!(Journald::connect(&config).is_err());
        let first = UnixDatagram::bind(&path).expect("bind");
        let mut journald = Journald::connect(&config).expect("connect");
        drop(first);
        std::fs::remove_file(&path).expect("remove");
        let second = UnixDatagram::bind(&path).expect("bind");
        journald.send(&record(b"x")).expect("sent");
        let mut bytes = vec![0; 1024];
        let n = second.recv(&mut bytes).expect("received");
        assert!(bytes[..n].starts_with(b"PRIORITY=3\nMESSAGE=x\n"));
    }
}
