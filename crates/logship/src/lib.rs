//! Ships a container's log lines to a log service: syslog, GELF, fluentd, the journal.
//!
//! In: a [`Destination`] (plain data, decided by the daemon) and records over a socket from the container's monitor, whose child a shipper
//! is. Out: the service's own protocol. A process of its own, so that the monitor stays small and never waits for a network: ordinary blocking
//! code, one thread, no async runtime. It ends when the monitor's end of the socket closes and everything is sent.
//!
//! Reading order: [`record`] (what comes in) → [`shipper`] (the loop) → [`connection`] → one file per service.

#![forbid(unsafe_code)]

pub mod connection;
pub mod fluentd;
pub mod gelf;
pub mod journald;
pub mod record;
pub mod shipper;
pub mod syslog;
mod trust;

pub use record::{Partial, Record};
pub use shipper::{READY, run};

use serde::{Deserialize, Serialize};

/// Where lines go and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// BSD or IETF syslog.
    Syslog(syslog::Config),
    /// Graylog's extended log format.
    Gelf(gelf::Config),
    /// fluentd's forward protocol.
    Fluentd(fluentd::Config),
    /// The journal of this host.
    Journald(journald::Config),
}

/// Why lines cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// No connection.
    #[error("dial {target}: {}", go_text(source))]
    Connect {
        /// Protocol and address, as Go's `net.Dial` names them.
        target: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(String),
    /// A send failed.
    #[error("send: {0}")]
    Send(#[from] std::io::Error),
    /// The service said no.
    #[error("{0}")]
    Refused(String),
}

/// An error as Go's `net` shows it: no number, lower case, the system call before its errno.
fn go_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let Some((text, _)) = text.split_once(" (os error") else {
        return text;
    };
    format!("connect: {}", text.to_ascii_lowercase())
}

/// A service that takes records.
pub trait Sink {
    /// Sends one record, trying again where the service's protocol lets one hope.
    fn send(&mut self, record: &Record) -> Result<(), ShipError>;

    /// Called when no record is waiting: what was held back goes out.
    fn flush(&mut self) -> Result<(), ShipError> {
        Ok(())
    }
}

/// Connects to a destination.
pub fn connect(destination: &Destination) -> Result<Box<dyn Sink>, ShipError> {
    Ok(match destination {
        Destination::Syslog(config) => Box::new(syslog::Syslog::connect(config)?),
        Destination::Gelf(config) => Box::new(gelf::Gelf::connect(config)?),
        Destination::Fluentd(config) => Box::new(fluentd::Fluentd::connect(config)?),
        Destination::Journald(config) => Box::new(journald::Journald::connect(config)?),
    })
}
