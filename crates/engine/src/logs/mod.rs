//! Reading container logs in Docker's json-file format, rotated and compressed files included.
//!
//! In: a [`Source`] and a [`Request`]. Out: a channel of byte batches ready for the wire. The writer is the monitor; this side
//! only reads. Reading order: [`mod@line`] (one line) → [`encode`] (one output frame) → [`files`] (which files) → [`tail`] (where to
//! begin) → [`reader`] (history) → [`follow`] (what comes after).

pub mod encode;
pub mod files;
pub mod follow;
pub mod line;
pub mod query;
pub mod reader;
pub mod tail;

pub use query::Request;

use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

/// Where the lines are.
#[derive(Debug, Clone)]
pub struct Source {
    /// The current file.
    pub path: PathBuf,
    /// Raw output without frame headers (terminal).
    pub raw: bool,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file operation failed.
    #[error("log: {what} {}", path.display())]
    Io {
        /// Attempted step.
        what: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// Batches of output. The stream ends when the log does, or, following, when the container has ended.
pub type Batches = mpsc::Receiver<Result<Bytes, LogError>>;

/// How many batches may wait for a slow client.
const BACKLOG: usize = 8;

/// Starts reading. `ended` turns true when the container's init is gone and its output complete; only used to end a follow.
pub fn read(source: Source, request: Request, ended: Option<watch::Receiver<bool>>) -> Batches {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let history = {
            let (source, request, sender) = (source.clone(), request.clone(), sender.clone());
            tokio::task::spawn_blocking(move || reader::history(&source, &request, &sender)).await
        };
        let outcome = match history {
            Ok(Ok(Some(position))) if request.follow => match ended {
                Some(ended) => follow::follow(&source, &request, position, ended, &sender).await,
                None => Ok(()),
            },
            Ok(Ok(_)) | Err(_) => Ok(()),
            Ok(Err(error)) => Err(error),
        };
        if let Err(error) = outcome {
            let _ = sender.send(Err(error)).await;
        }
    });
    receiver
}
