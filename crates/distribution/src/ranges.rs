//! A large blob in pieces that are fetched side by side and given in order: one connection seldom fills a long line.
//!
//! Each request costs a registry some milliseconds, so a piece is as long as what comes in [`LASTS`]: half a megabyte over a slow line, many
//! over a fast one, where few requests do as well.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_RANGE, RANGE};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use wharf_spec::digest::Digest;

use crate::error::RegistryError;
use crate::manifest::header;
use crate::repository::{Ask, Repository};
use crate::transport::transport_error;

/// Blobs with less to come are fetched in one piece.
pub(crate) const WORTH_IT: u64 = 32 << 20;
/// The least one piece has, and the first ones.
const PIECE: u64 = 512 << 10;
/// The most one piece has.
const LARGEST: u64 = 16 << 20;
/// How long the bytes of a piece shall be on their way.
const LASTS: Duration = Duration::from_millis(50);
/// Pieces on their way.
const WINDOW: usize = 3;
/// Bytes of one piece that wait in memory for their turn: as many as the smallest has.
const AHEAD: u32 = 512 << 10;
/// Bytes of a piece, counted against [`AHEAD`] until they are taken.
type Part = Result<(Bytes, OwnedSemaphorePermit), RegistryError>;

/// Pieces of one blob, from some offset to its end.
#[derive(Debug)]
pub(crate) struct Ranges {
    repository: Repository,
    digest: Digest,
    /// Begin of the next piece to ask for.
    next: u64,
    end: u64,
    /// How long the next piece is.
    length: Arc<AtomicU64>,
    /// In order; the first is being given.
    pieces: VecDeque<Piece>,
    given: bool,
}

/// A piece on its way. Dropping it ends the request.
#[derive(Debug)]
struct Piece {
    parts: mpsc::UnboundedReceiver<Part>,
    task: AbortHandle,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ranges {
    pub(crate) fn new(repository: &Repository, digest: &Digest, offset: u64, end: u64) -> Ranges {
        Ranges {
            repository: repository.clone(),
            digest: digest.clone(),
            next: offset,
            end,
            length: Arc::new(AtomicU64::new(PIECE)),
            pieces: VecDeque::new(),
            given: false,
        }
    }

    /// The next bytes; `None` at the end. An error is final: whoever asked goes on in another way.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            self.fill();
            let Some(piece) = self.pieces.front_mut() else {
                return Ok(None);
            };
            let part = piece.parts.recv().await.transpose()?;
            if let Some((bytes, _)) = part {
                self.given = true;
                return Ok(Some(bytes));
            }
            self.pieces.pop_front();
        }
    }

    fn fill(&mut self) {
        // The first piece alone tells whether the registry knows ranges.
        let window = if self.given { WINDOW } else { 1 };
        while self.pieces.len() < window && self.next < self.end {
            let length = self.length.load(Ordering::Relaxed);
            let end = (self.next + length).min(self.end);
            let (sender, parts) = mpsc::unbounded_channel();
            let fetch = Fetch {
                repository: self.repository.clone(),
                digest: self.digest.clone(),
                first: self.next,
                end,
                length: self.length.clone(),
            };
            let task = tokio::spawn(async move {
                if let Err(error) = fetch.run(&sender).await {
                    // Nobody waits for a piece that was dropped.
                    let _ = sender.send(Err(error));
                }
            });
            self.pieces.push_back(Piece {
                parts,
                task: task.abort_handle(),
            });
            self.next = end;
        }
    }
}

/// One request.
struct Fetch {
    repository: Repository,
    digest: Digest,
    first: u64,
    end: u64,
    length: Arc<AtomicU64>,
}

impl Fetch {
    async fn run(&self, parts: &mpsc::UnboundedSender<Part>) -> Result<(), RegistryError> {
        let mut response = self.ask().await?;
        let url = response.url().to_string();
        let room = Arc::new(Semaphore::new(AHEAD as usize));
        let (mut came, mut waited) = (0, Duration::ZERO);
        let wanted = self.end - self.first;
        loop {
            let before = Instant::now();
            let bytes = response.chunk().await;
            waited += before.elapsed();
            let Some(bytes) = bytes.map_err(|error| transport_error("get", &url, &error))? else {
                break;
            };
            came += bytes.len() as u64;
            if came > wanted {
                break;
            }
            let share = u32::try_from(bytes.len()).unwrap_or(AHEAD).min(AHEAD);
            let permit = room.clone().acquire_many_owned(share).await;
            let permit = permit.map_err(|error| RegistryError::Invalid(error.to_string()))?;
            if parts.send(Ok((bytes, permit))).is_err() {
                return Ok(());
            }
        }
        if came != wanted {
            return Err(RegistryError::Invalid(format!(
                "{url}: {came} bytes instead of those from {} to {}",
                self.first,
                self.end - 1
            )));
        }
        self.length
            .store(piece_length(came, waited), Ordering::Relaxed);
        Ok(())
    }

    async fn ask(&self) -> Result<reqwest::Response, RegistryError> {
        let (first, last) = (self.first, self.end - 1);
        let ask = Ask::get(format!("blobs/{}", self.digest))
            .header(RANGE, format!("bytes={first}-{last}"));
        let response = self.repository.ask_once(&ask).await?;
        let fits = header(&response, &CONTENT_RANGE).starts_with(&format!("bytes {first}-{last}/"));
        if response.status() != http::StatusCode::PARTIAL_CONTENT || !fits {
            return Err(RegistryError::Invalid(format!(
                "{}: the registry does not know ranges",
                response.url()
            )));
        }
        Ok(response)
    }
}

/// How long a piece shall be when so many bytes came after waiting so long.
fn piece_length(came: u64, waited: Duration) -> u64 {
    let waited = waited.as_micros().max(1);
    let length = u128::from(came) * LASTS.as_micros() / waited;
    u64::try_from(length)
        .unwrap_or(LARGEST)
        .clamp(PIECE, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_longer_where_the_line_is_fast() {
        for (came, milliseconds, expected) in [
            (PIECE, 1000, PIECE),
            (PIECE, 50, PIECE),
            (PIECE, 10, 5 * PIECE),
            (PIECE, 0, LARGEST),
            (LARGEST, 200, LARGEST / 4),
        ] {
            let length = piece_length(came, Duration::from_millis(milliseconds));
            assert_eq!(length, expected, "{came} bytes in {milliseconds} ms");
        }
    }
}
