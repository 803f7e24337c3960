//! syslog: RFC 3164 and RFC 5424 over UDP, TCP, TLS and unix sockets, as Docker's `syslog` driver writes it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::connection::{Address, Connection};
use crate::{Record, ShipError, Sink};

const ERROR: u8 = 3;
const INFO: u8 = 6;

/// Where the host's own syslog daemon listens, in the order they are tried.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// RFC 3164 without a host name, for a daemon on the same host. The default.
    Unix,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424.
    Rfc5424,
    /// RFC 5424 with microseconds.
    Rfc5424Micro,
}

/// A syslog destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `None`: the host's own daemon.
    pub address: Option<Address>,
    /// 0 to 23.
    pub facility: u8,
    /// How a message is written.
    pub format: Format,
    /// Program name in the message.
    pub tag: String,
    /// This host.
    pub hostname: String,
}

/// A connected syslog.
#[derive(Debug)]
pub struct Syslog {
    config: Config,
    connection: Connection,
    zone: TimeZone,
    pid: u32,
}

impl Syslog {
    /// Connects.
    pub fn connect(config: &Config) -> Result<Syslog, ShipError> {
        Ok(Syslog {
            connection: dial(config)?,
            config: config.clone(),
            zone: TimeZone::system(),
            pid: std::process::id(),
        })
    }
}

impl Sink for Syslog {
    fn send(&mut self, record: &Record) -> Result<(), ShipError> {
        if record.text.is_empty() {
            return Ok(());
        }
        let message = message(&self.config, record, &self.zone, self.pid);
        if self.connection.send(&message).is_err() {
            // Once more over a new connection, as the client Docker uses does.
            self.connection = dial(&self.config)?;
            self.connection.send(&message)?;
        }
        Ok(())
    }
}

fn dial(config: &Config) -> Result<Connection, ShipError> {
    if let Some(address) = &config.address {
        return address.connect();
    }
    LOCAL
        .iter()
        .flat_map(|path| {
            [
                Address::UnixDatagram((*path).to_owned()),
                Address::Unix((*path).to_owned()),
            ]
        })
        .find_map(|address| address.connect().ok())
        .ok_or_else(|| ShipError::Refused("Unix syslog delivery error".into()))
}

/// One message as it goes out, newline included: that is how a stream's messages are told apart.
fn message(config: &Config, record: &Record, zone: &TimeZone, pid: u32) -> Vec<u8> {
    let severity = if record.stderr { ERROR } else { INFO };
    let priority = u32::from(config.facility) * 8 + u32::from(severity);
    let time = Timestamp::from_nanosecond(record.time_ns.into())
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(zone.clone());
    let Config { tag, hostname, .. } = config;
    let head = match config.format {
        Format::Unix => format!(
            "<{priority}>{} {tag}[{pid}]: ",
            time.strftime("%b %e %H:%M:%S")
        ),
        Format::Rfc3164 => format!(
            "<{priority}>{} {hostname} {tag}[{pid}]: ",
            time.strftime("%b %e %H:%M:%S")
        ),
        Format::Rfc5424 | Format::Rfc5424Micro => {
            let fraction = if config.format == Format::Rfc5424Micro {
                "%.6f"
            } else {
                ""
            };
            let zone = if time.offset().is_zero() { "Z" } else { "%:z" };
            let time = time
                .strftime(&format!("%Y-%m-%dT%H:%M:%S{fraction}{zone}"))
                .to_string();
            format!("<{priority}>1 {time} {hostname} {tag} {pid} {tag} - ")
        }
    };
    let mut message = head.into_bytes();
    message.extend_from_slice(&record.text);
    if message.last() != Some(&b'\n') {
        message.push(b'\n');
    }
    let counted = matches!(config.format, Format::Rfc5424 | Format::Rfc5424Micro)
        && matches!(config.address, Some(Address::Tls(..)));
    if counted {
        // RFC 5425: octets are counted, as the text may hold newlines.
        let mut framed = format!("{} ", message.len()).into_bytes();
        framed.append(&mut message);
        return framed;
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, address: Option<Address>, stderr: bool) -> String {
        let config = Config {
            address,
            facility: 3,
            format,
            tag: "web".into(),
            hostname: "host".into(),
        };
        let record = Record {
            time_ns: 1_795_507_205_123_456_789,
            stderr,
            text: b"hello".to_vec(),
            partial: None,
        };
        String::from_utf8(message(&config, &record, &TimeZone::UTC, 7)).expect("text")
    }

    #[test]
    fn messages_are_dockers() {
        let rows = [
            (Format::Unix, false, "<30>Nov 24 08:00:05 web[7]: hello\n"),
            (Format::Unix, true, "<27>Nov 24 08:00:05 web[7]: hello\n"),
            (
                Format::Rfc3164,
                false,
                "<30>Nov 24 08:00:05 host web[7]: hello\n",
            ),
            (
                Format::Rfc5424,
                false,
                "<30>1 2026-11-24T08:00:05Z host web 7 web - hello\n",
            ),
            (
                Format::Rfc5424Micro,
                false,
                "<30>1 2026-11-24T08:00:05.123456Z host web 7 web - hello\n",
            ),
        ];
        for (format, stderr, expected) in rows {
            assert_eq!(written(format, None, stderr), expected);
        }
        let tls = Address::Tls("h:1".into(), crate::connection::Tls::default());
        assert_eq!(
            written(Format::Rfc5424, Some(tls), false),
            "50 <30>1 2026-11-24T08:00:05Z host web 7 web - hello\n"
        );
    }
}
