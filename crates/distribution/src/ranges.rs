//! A large blob in pieces that are fetched side by side and given in order: one connection seldom fills a long line.

use std::collections::VecDeque;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, RANGE};
use tokio::task::JoinHandle;
use wharf_spec::digest::Digest;

use crate::error::RegistryError;
use crate::manifest::header;
use crate::repository::{Ask, Repository};
use crate::transport::transport_error;

/// Blobs with less to come are fetched in one piece.
pub(crate) const WORTH_IT: u64 = 32 << 20;
/// One piece.
const PIECE: u64 = 512 << 10;
/// Pieces in memory or on their way.
const WINDOW: usize = 3;

/// Pieces of one blob, from some offset to its end.
#[derive(Debug)]
pub(crate) struct Ranges {
    repository: Repository,
    digest: Digest,
    /// Begin of the next piece to ask for.
    next: u64,
    end: u64,
    tasks: VecDeque<JoinHandle<Result<VecDeque<Bytes>, RegistryError>>>,
    current: VecDeque<Bytes>,
}

impl Ranges {
    pub(crate) fn new(repository: &Repository, digest: &Digest, offset: u64, end: u64) -> Ranges {
        Ranges {
            repository: repository.clone(),
            digest: digest.clone(),
            next: offset,
            end,
            tasks: VecDeque::new(),
            current: VecDeque::new(),
        }
    }

    /// The next bytes; `None` at the end. An error is final: whoever asked goes on in another way.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            self.fill();
            if let Some(bytes) = self.current.pop_front() {
                return Ok(Some(bytes));
            }
            let Some(task) = self.tasks.front_mut() else {
                return Ok(None);
            };
            let outcome = task.await;
            self.tasks.pop_front();
            self.current = outcome.map_err(|error| RegistryError::Invalid(error.to_string()))??;
        }
    }

    fn fill(&mut self) {
        // The first piece alone tells whether the registry knows ranges.
        let window = if self.next == 0 || self.tasks.is_empty() && self.current.is_empty() {
            1
        } else {
            WINDOW
        };
        while self.tasks.len() < window && self.next < self.end {
            let last = (self.next + PIECE).min(self.end) - 1;
            let piece = fetch(
                self.repository.clone(),
                self.digest.clone(),
                self.next,
                last,
            );
            self.tasks.push_back(tokio::spawn(piece));
            self.next = last + 1;
        }
    }
}

impl Drop for Ranges {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn fetch(
    repository: Repository,
    digest: Digest,
    first: u64,
    last: u64,
) -> Result<VecDeque<Bytes>, RegistryError> {
    let ask = Ask::get(format!("blobs/{digest}")).header(RANGE, format!("bytes={first}-{last}"));
    let mut response = repository.ask_once(&ask).await?;
    let url = response.url().to_string();
    let fits = header(&response, &CONTENT_RANGE).starts_with(&format!("bytes {first}-{last}/"));
    if response.status() != http::StatusCode::PARTIAL_CONTENT || !fits {
        return Err(RegistryError::Invalid(format!(
            "{url}: the registry does not know ranges"
        )));
    }
    let (mut pieces, mut length) = (VecDeque::new(), 0);
    while let Some(bytes) = response
        .chunk()
        .await
        .map_err(|error| transport_error("get", &url, &error))?
    {
        length += bytes.len() as u64;
        pieces.push_back(bytes);
    }
    if length == last + 1 - first {
        return Ok(pieces);
    }
    Err(RegistryError::Invalid(format!(
        "{url}: {length} bytes instead of those from {first} to {last}"
    )))
}
