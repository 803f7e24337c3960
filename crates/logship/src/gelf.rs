//! GELF 1.1: JSON over UDP (compressed, in chunks) or TCP.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use serde::{Deserialize, Serialize};

use crate::connection::{Address, Connection};
use crate::{Record, ShipError, Sink};

const ERROR: i32 = 3;
const INFO: i32 = 6;
/// Largest datagram, as the client Docker uses has it: fits an Ethernet frame.
const CHUNK: usize = 1420;
const CHUNK_HEAD: usize = 12;
const MAX_CHUNKS: usize = 128;

/// How datagrams are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packing {
    /// gzip, Docker's default.
    Gzip,
    /// zlib.
    Zlib,
    /// Not at all.
    None,
}

/// A GELF destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// UDP or TCP.
    pub address: Address,
    /// Of UDP.
    pub packing: Packing,
    /// -1 (the default level) to 9.
    pub level: i32,
    /// Attempts to connect again over TCP.
    pub max_reconnect: u32,
    /// Wait between them.
    pub reconnect_delay: Duration,
    /// This host.
    pub hostname: String,
    /// Further fields of every message: names with their underscore.
    pub extra: Vec<(String, String)>,
}

/// A connected GELF endpoint.
#[derive(Debug)]
pub struct Gelf {
    config: Config,
    connection: Connection,
    /// The end of every message: `,"_name":"value",…}`.
    tail: String,
}

impl Gelf {
    /// Connects.
    pub fn connect(config: &Config) -> Result<Gelf, ShipError> {
        let (Address::Udp(host) | Address::Tcp(host)) = &config.address else {
            return Err(ShipError::Refused(
                "gelf: endpoint needs to be TCP or UDP".into(),
            ));
        };
        let connection = config.address.connect().map_err(|error| {
            ShipError::Refused(format!(
                "gelf: cannot connect to GELF endpoint: {host} {error}"
            ))
        })?;
        Ok(Gelf {
            connection,
            tail: tail(&config.extra),
            config: config.clone(),
        })
    }

    fn send_tcp(&mut self, mut message: Vec<u8>) -> Result<(), ShipError> {
        message.push(0);
        let mut sent = self.connection.send(&message).map_err(ShipError::from);
        for _ in 0..self.config.max_reconnect {
            if sent.is_ok() {
                break;
            }
            std::thread::sleep(self.config.reconnect_delay);
            sent = self.config.address.connect().and_then(|connection| {
                self.connection = connection;
                Ok(self.connection.send(&message)?)
            });
        }
        sent
    }

    fn send_udp(&mut self, message: &[u8]) -> Result<(), ShipError> {
        let packed = pack(message, self.config.packing, self.config.level)?;
        for datagram in chunks(&packed, identity())? {
            self.connection.send(&datagram)?;
        }
        Ok(())
    }
}

impl Sink for Gelf {
    fn send(&mut self, record: &Record) -> Result<(), ShipError> {
        if record.text.is_empty() {
            return Ok(());
        }
        let message = message(&self.config.hostname, &self.tail, record);
        match self.config.address {
            Address::Tcp(_) => self.send_tcp(message.into_bytes()),
            _ => self.send_udp(message.as_bytes()),
        }
    }
}

fn tail(extra: &[(String, String)]) -> String {
    let mut text = String::new();
    for (key, value) in extra {
        text.push(',');
        text.push_str(&json(key));
        text.push(':');
        text.push_str(&json(value));
    }
    text.push('}');
    text
}

fn message(hostname: &str, tail: &str, record: &Record) -> String {
    let level = if record.stderr { ERROR } else { INFO };
    let ms = record.time_ns.div_euclid(1_000_000);
    format!(
        "{{\"version\":\"1.1\",\"host\":{},\"short_message\":{},\"timestamp\":{},\"level\":{level}{tail}",
        json(hostname),
        json(&String::from_utf8_lossy(&record.text)),
        seconds(ms),
    )
}

/// Milliseconds as seconds, without a fraction where there is none.
fn seconds(ms: i64) -> String {
    let (whole, rest) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn pack(message: &[u8], packing: Packing, level: i32) -> std::io::Result<Vec<u8>> {
    let level = match u32::try_from(level) {
        Ok(level) => Compression::new(level.min(9)),
        Err(_) => Compression::default(),
    };
    match packing {
        Packing::None => Ok(message.to_owned()),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(message)?;
            encoder.finish()
        }
        Packing::Zlib => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(message)?;
            encoder.finish()
        }
    }
}

/// Datagrams: the message, or numbered pieces of it.
fn chunks(message: &[u8], id: [u8; 8]) -> Result<Vec<Vec<u8>>, ShipError> {
    if message.len() <= CHUNK {
        return Ok(vec![message.to_owned()]);
    }
    let pieces: Vec<&[u8]> = message.chunks(CHUNK - CHUNK_HEAD).collect();
    let count = u8::try_from(pieces.len())
        .ok()
        .filter(|count| usize::from(*count) <= MAX_CHUNKS)
        .ok_or_else(|| {
            ShipError::Refused(format!("msg too large, would need {} chunks", pieces.len()))
        })?;
    let datagram = |(number, piece): (u8, &&[u8])| {
        let mut datagram = vec![0x1e, 0x0f];
        datagram.extend_from_slice(&id);
        datagram.extend_from_slice(&[number, count]);
        datagram.extend_from_slice(piece);
        datagram
    };
    Ok((0..count).zip(&pieces).map(datagram).collect())
}

fn identity() -> [u8; 8] {
    let mut id = [0; 8];
    // Without randomness two long messages in flight might be taken for one: still better than none.
    let _ = getrandom::fill(&mut id);
    id
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn record(text: &str) -> Record {
        Record {
            time_ns: 1_500_250_000_000,
            stderr: true,
            text: text.into(),
            partial: None,
        }
    }

    #[test]
    fn messages_are_json_with_dockers_fields() {
        let tail = tail(&[("_tag".into(), "a\"b".into())]);
        assert_eq!(
            message("h", &tail, &record("x\ty")),
            r#"{"version":"1.1","host":"h","short_message":"x\ty","timestamp":1500.25,"level":3,"_tag":"a\"b"}"#
        );
        assert_eq!(
            (seconds(1000).as_str(), seconds(1).as_str()),
            ("1", "0.001")
        );
    }

    #[test]
    fn long_messages_go_in_chunks() {
        let message: Vec<u8> = (0..4000u32).map(|n| n.to_le_bytes()[0]).collect();
        let datagrams = chunks(&message, *b"identity").expect("short enough");
        assert_eq!(datagrams.len(), 3);
        let mut joined = Vec::new();
        for (number, datagram) in datagrams.iter().enumerate() {
            assert!(datagram.len() <= CHUNK);
            assert_eq!(&datagram[..10], b"\x1e\x0fidentity");
            assert_eq!((usize::from(datagram[10]), datagram[11]), (number, 3));
            joined.extend_from_slice(&datagram[12..]);
        }
        assert_eq!(joined, message);
        assert!(chunks(&vec![0; 1 << 20], [0; 8]).is_err());
    }

    #[test]
    fn packing_can_be_undone() {
        let packed = pack(b"text", Packing::Gzip, 1).expect("packed");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .expect("gzip");
        assert_eq!(text, "text");
        let packed = pack(b"text", Packing::Zlib, -1).expect("packed");
        let mut text = String::new();
        flate2::read::ZlibDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .expect("zlib");
        assert_eq!(text, "text");
    }
}
