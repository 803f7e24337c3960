//! fluentd's forward protocol, version 1, message mode: `[tag, time, record, options]` in MessagePack.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::connection::{Address, Connection};
use crate::{Record, ShipError, Sink};

/// Growth of the wait between attempts, and where it ends.
const GROWTH: f64 = 1.5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A fluentd destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// TCP, TLS or a unix stream.
    pub address: Address,
    /// Tag of every message.
    pub tag: String,
    /// Fields of every record.
    pub fields: Vec<(String, String)>,
    /// Connect later, and keep messages until then.
    pub is_async: bool,
    /// Bytes kept at most while there is no connection.
    pub buffer_limit: u64,
    /// Attempts for one message.
    pub max_retries: u32,
    /// First wait between attempts.
    pub retry_wait: Duration,
    /// Times with nanoseconds.
    pub sub_second: bool,
    /// Ask for the receipt of every message.
    pub request_ack: bool,
    /// Zero is for ever.
    pub write_timeout: Duration,
    /// Zero is for ever.
    pub read_timeout: Duration,
    /// Connect anew after this long; zero is never.
    pub reconnect_interval: Duration,
}

/// A fluentd, connected or about to be.
#[derive(Debug)]
pub struct Fluentd {
    config: Config,
    connection: Option<(Connection, Instant)>,
    /// Of an asynchronous one without a connection.
    waiting: VecDeque<Message>,
    waiting_bytes: u64,
    /// Not before this an asynchronous one tries again.
    next_attempt: Option<Instant>,
    wait: Duration,
}

/// An encoded message, and the receipt it asks for.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    chunk: Option<String>,
}

impl Fluentd {
    /// Connects, unless it is asynchronous.
    pub fn connect(config: &Config) -> Result<Fluentd, ShipError> {
        let mut fluentd = Fluentd {
            wait: config.retry_wait,
            config: config.clone(),
            connection: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            next_attempt: None,
        };
        if !config.is_async {
            fluentd.dial()?;
        }
        Ok(fluentd)
    }

    fn dial(&mut self) -> Result<(), ShipError> {
        let connection = self.config.address.connect()?;
        connection.set_timeouts(self.config.read_timeout, self.config.write_timeout)?;
        self.connection = Some((connection, Instant::now()));
        Ok(())
    }

    /// One attempt; a connection that fails is given up.
    fn attempt(&mut self, message: &Message) -> Result<(), ShipError> {
        let interval = self.config.reconnect_interval;
        let is_old = |since: &Instant| !interval.is_zero() && since.elapsed() >= interval;
        if self
            .connection
            .as_ref()
            .is_none_or(|(_, since)| is_old(since))
        {
            self.dial()?;
        }
        let Some((connection, _)) = &mut self.connection else {
            return Err(ShipError::Refused("no connection".into()));
        };
        let sent = connection
            .send(&message.bytes)
            .map_err(ShipError::from)
            .and_then(|()| match &message.chunk {
                Some(chunk) => await_ack(connection, chunk),
                None => Ok(()),
            });
        if sent.is_err() {
            self.connection = None;
        }
        sent
    }

    /// As often as allowed, with growing waits in between.
    fn insist(&mut self, message: &Message) -> Result<(), ShipError> {
        let mut wait = self.config.retry_wait;
        let mut retries = 0;
        loop {
            match self.attempt(message) {
                Err(_) if retries < self.config.max_retries => {
                    std::thread::sleep(wait);
                    retries += 1;
                    wait = grown(wait);
                }
                other => return other,
            }
        }
    }

    fn keep(&mut self, message: Message) -> Result<(), ShipError> {
        let bytes = message.bytes.len() as u64;
        if self.waiting_bytes + bytes > self.config.buffer_limit {
            return Err(ShipError::Refused(format!(
                "fluent#appendBuffer: Buffer full, limit {}",
                self.config.buffer_limit
            )));
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(message);
        Ok(())
    }

    /// Sends what waits, while the service takes it.
    fn catch_up(&mut self) {
        if self.next_attempt.is_some_and(|at| Instant::now() < at) {
            return;
        }
        while let Some(message) = self.waiting.pop_front() {
            match self.attempt(&message) {
                Ok(()) => {
                    self.waiting_bytes -= message.bytes.len() as u64;
                    self.next_attempt = None;
                    self.wait = self.config.retry_wait;
                }
                Err(_) => {
                    self.waiting.push_front(message);
                    self.next_attempt = Some(Instant::now() + self.wait);
                    self.wait = grown(self.wait);
                    return;
                }
            }
        }
    }
}

impl Sink for Fluentd {
    fn send(&mut self, record: &Record) -> Result<(), ShipError> {
        let message = encode(&self.config, record);
        if !self.config.is_async {
            return self.insist(&message);
        }
        let kept = self.keep(message);
        self.catch_up();
        kept
    }

    fn flush(&mut self) -> Result<(), ShipError> {
        self.catch_up();
        Ok(())
    }
}

fn grown(wait: Duration) -> Duration {
    wait.mul_f64(GROWTH).min(LONGEST_WAIT)
}

fn encode(config: &Config, record: &Record) -> Message {
    let chunk = config.request_ack.then(receipt);
    let bytes = write(config, record, chunk.as_deref()).expect("a Vec takes every byte");
    Message { bytes, chunk }
}

fn receipt() -> String {
    let mut id = [0; 16];
    // Receipts are taken one at a time: even equal ones would do.
    let _ = getrandom::fill(&mut id);
    STANDARD.encode(id)
}

type Written = Result<Vec<u8>, rmp::encode::ValueWriteError<std::io::Error>>;

fn write(config: &Config, record: &Record, chunk: Option<&str>) -> Written {
    use rmp::encode::{write_array_len, write_map_len, write_sint, write_str};
    let mut out = Vec::with_capacity(256 + record.text.len());
    write_array_len(&mut out, 4)?;
    write_str(&mut out, &config.tag)?;
    let seconds = record.time_ns.div_euclid(1_000_000_000);
    if config.sub_second {
        write_event_time(&mut out, record.time_ns);
    } else {
        write_sint(&mut out, seconds)?;
    }
    let text = String::from_utf8_lossy(&record.text);
    let source = if record.stderr { "stderr" } else { "stdout" };
    let mut fields: Vec<(&str, String)> =
        vec![("source", source.into()), ("log", text.into_owned())];
    if let Some(partial) = record.partial {
        fields.push(("partial_message", "true".into()));
        fields.push(("partial_id", partial.id_text()));
        fields.push(("partial_ordinal", partial.ordinal.to_string()));
        fields.push(("partial_last", partial.last.to_string()));
    }
    let constant = config
        .fields
        .iter()
        .map(|(key, value)| (key.as_str(), value));
    let own = fields.iter().map(|(key, value)| (*key, value));
    let count = config.fields.len() + fields.len();
    write_map_len(&mut out, u32::try_from(count).unwrap_or(u32::MAX))?;
    for (key, value) in constant.chain(own) {
        write_str(&mut out, key)?;
        write_str(&mut out, value)?;
    }
    write_map_len(&mut out, u32::from(chunk.is_some()))?;
    if let Some(chunk) = chunk {
        write_str(&mut out, "chunk")?;
        write_str(&mut out, chunk)?;
    }
    Ok(out)
}

/// The forward protocol's EventTime: extension 0 of eight bytes, seconds and nanoseconds.
fn write_event_time(out: &mut Vec<u8>, time_ns: i64) {
    const FIXEXT8: u8 = 0xd7;
    let seconds = u32::try_from(time_ns.div_euclid(1_000_000_000)).unwrap_or(u32::MAX);
    let rest = u32::try_from(time_ns.rem_euclid(1_000_000_000)).unwrap_or(0);
    out.extend_from_slice(&[FIXEXT8, 0]);
    out.extend_from_slice(&seconds.to_be_bytes());
    out.extend_from_slice(&rest.to_be_bytes());
}

/// Reads `{"ack": chunk}`.
fn await_ack(connection: &mut Connection, chunk: &str) -> Result<(), ShipError> {
    let mut wanted = Vec::new();
    rmp::encode::write_map_len(&mut wanted, 1).expect("a Vec takes every byte");
    rmp::encode::write_str(&mut wanted, "ack").expect("a Vec takes every byte");
    rmp::encode::write_str(&mut wanted, chunk).expect("a Vec takes every byte");
    let mut answer = vec![0; wanted.len()];
    let mut filled = 0;
    while filled < answer.len() {
        match connection.read(&mut answer[filled..])? {
            0 => return Err(ShipError::Refused("no receipt".into())),
            n => filled += n,
        }
    }
    if answer == wanted {
        Ok(())
    } else {
        Err(ShipError::Refused("fluentd: another receipt".into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn config(path: &str) -> Config {
        Config {
            address: Address::Unix(path.into()),
            tag: "t".into(),
            fields: vec![("container_id".into(), "abc".into())],
            is_async: false,
            buffer_limit: 1 << 20,
            max_retries: 3,
            retry_wait: Duration::from_millis(1),
            sub_second: false,
            request_ack: false,
            write_timeout: Duration::ZERO,
            read_timeout: Duration::ZERO,
            reconnect_interval: Duration::ZERO,
        }
    }

    fn record() -> Record {
        Record {
            time_ns: 1_500_000_000,
            stderr: false,
            text: b"hi".to_vec(),
            partial: None,
        }
    }

    #[test]
    fn messages_are_arrays_of_four() {
        let bytes = encode(&config("/x"), &record()).bytes;
        let expected =
            b"\x94\xa1t\x01\x83\xaccontainer_id\xa3abc\xa6source\xa6stdout\xa3log\xa2hi\x80";
        assert_eq!(bytes, expected);
        let exact = Config {
            sub_second: true,
            ..config("/x")
        };
        let bytes = encode(&exact, &record()).bytes;
        assert_eq!(&bytes[3..13], b"\xd7\x00\x00\x00\x00\x01\x1d\xcd\x65\x00");
    }

    #[test]
    fn a_receipt_is_waited_for() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("bind");
        let config = Config {
            request_ack: true,
            ..config(path.to_str().expect("text"))
        };
        let server = std::thread::spawn(move || {
            // The first connection is dropped: the client has to try again.
            drop(listener.accept().expect("accept"));
            let (mut client, _) = listener.accept().expect("accept");
            let mut bytes = vec![0; 1024];
            let n = client.read(&mut bytes).expect("read");
            let at = bytes[..n]
                .windows(6)
                .position(|window| window == b"\xa5chunk")
                .expect("a chunk");
            client.write_all(b"\x81\xa3ack").expect("write");
            client.write_all(&bytes[at + 6..n]).expect("write");
        });
        let mut fluentd = Fluentd::connect(&config).expect("connect");
        fluentd.send(&record()).expect("sent");
        server.join().expect("server");
    }

    #[test]
    fn asynchronous_messages_wait_for_the_service() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("s");
        let config = Config {
            is_async: true,
            buffer_limit: 100,
            ..config(path.to_str().expect("text"))
        };
        let mut fluentd = Fluentd::connect(&config).expect("no connection needed");
        fluentd.send(&record()).expect("kept");
        fluentd.send(&record()).expect("kept");
        assert!(fluentd.send(&record()).is_err(), "the buffer is full");
        let listener = UnixListener::bind(&path).expect("bind");
        while !fluentd.waiting.is_empty() {
            fluentd.flush().expect("flush");
        }
        let (mut client, _) = listener.accept().expect("accept");
        let mut bytes = vec![0; 1024];
        assert!(client.read(&mut bytes).expect("read") > 0);
    }
}
