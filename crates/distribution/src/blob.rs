//! Blobs: small ones whole, large ones as a stream that goes on where a connection broke.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use wharf_spec::digest::Digest;

use crate::error::RegistryError;
use crate::manifest::header;
use crate::ranges::{self, Ranges};
use crate::repository::{Ask, Repository};
use crate::transport::{limited, transport_error};

/// The first pause after a broken stream; further ones are twice as long each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

impl Repository {
    /// A small blob whole, verified. `what` names it in errors.
    pub async fn blob(
        &self,
        digest: &Digest,
        limit: usize,
        what: &'static str,
    ) -> Result<Bytes, RegistryError> {
        let response = self.ask(&Ask::get(format!("blobs/{digest}"))).await?;
        let bytes = limited(response, limit).await.ok_or_else(|| {
            RegistryError::Invalid(format!(
                "{what} {digest} is longer than {limit} bytes, or broke off"
            ))
        })?;
        if !digest.verify(&bytes) {
            return Err(RegistryError::Verification {
                what,
                digest: digest.clone(),
            });
        }
        Ok(bytes.into())
    }

    /// The length of a blob that is there.
    pub async fn blob_head(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        match self
            .ask(&Ask::new(Method::HEAD, format!("blobs/{digest}")))
            .await
        {
            Ok(response) => Ok(Some(
                header(&response, &CONTENT_LENGTH).parse().unwrap_or(0),
            )),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A stream of the bytes of a blob from `offset` on. Nothing is asked before the first [`BlobStream::next`]. `size` is what the
    /// manifest says; more is an error.
    pub fn blob_stream(&self, digest: &Digest, size: u64, offset: u64) -> BlobStream {
        BlobStream {
            repository: self.clone(),
            digest: digest.clone(),
            end: size,
            offset,
            response: None,
            failures: 0,
            pending: None,
            leftover: None,
            ranges: None,
            plain: false,
        }
    }
}

/// What a [`BlobStream`] gives.
#[derive(Debug)]
pub enum BlobEvent {
    /// The next bytes.
    Data(Bytes),
    /// The connection broke; the next call waits so long and goes on.
    Retry(Duration),
}

/// A blob on its way. It does not verify: whoever consumes it hashes it anyway.
#[derive(Debug)]
pub struct BlobStream {
    repository: Repository,
    digest: Digest,
    end: u64,
    offset: u64,
    response: Option<reqwest::Response>,
    /// In a row, without a byte between them.
    failures: u32,
    pending: Option<Duration>,
    /// The rest of a piece whose beginning was known.
    leftover: Option<Bytes>,
    /// Fetches side by side.
    ranges: Option<Ranges>,
    /// From here on in one piece, for something went wrong with ranges.
    plain: bool,
}

impl BlobStream {
    /// Bytes so far, those before the beginning counted.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next event; `None` at the end. An error is final.
    pub async fn next(&mut self) -> Result<Option<BlobEvent>, RegistryError> {
        if let Some(wait) = self.pending.take() {
            tokio::time::sleep(wait).await;
        }
        match self.advance().await {
            Ok(Some(bytes)) => {
                self.failures = 0;
                Ok(Some(BlobEvent::Data(bytes)))
            }
            Ok(None) => Ok(None),
            Err(error) => self.failed(error).map(Some),
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if self.offset >= self.end && self.end > 0 {
            return Ok(None);
        }
        if let Some(piece) = self.next_range().await {
            return Ok(piece);
        }
        let mut response = match self.response.take() {
            Some(response) => response,
            None => self.open().await?,
        };
        let url = response.url().to_string();
        let piece = match self.leftover.take() {
            Some(rest) => Ok(Some(rest)),
            None => response.chunk().await,
        };
        match piece {
            Ok(Some(bytes)) => {
                self.offset += bytes.len() as u64;
                if self.offset > self.end {
                    return Err(RegistryError::Invalid(format!(
                        "blob {} is longer than the {} bytes its manifest promises",
                        self.digest, self.end
                    )));
                }
                self.response = Some(response);
                Ok(Some(bytes))
            }
            Ok(None) if self.offset == self.end => Ok(None),
            Ok(None) => Err(broke_off(&url)),
            Err(error) => Err(transport_error("get", &url, &error)),
        }
    }

    /// The next bytes of a large blob, as long as ranges work. `None`: go on in one piece.
    async fn next_range(&mut self) -> Option<Option<Bytes>> {
        let fresh = self.ranges.is_none() && self.response.is_none() && !self.plain;
        if fresh && self.end >= self.offset + ranges::WORTH_IT {
            self.ranges = Some(Ranges::new(
                &self.repository,
                &self.digest,
                self.offset,
                self.end,
            ));
        }
        match self.ranges.as_mut()?.next().await {
            Ok(piece) => {
                self.offset += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
                Some(piece)
            }
            Err(error) => {
                tracing::debug!(blob = %self.digest, %error, "going on in one piece");
                self.ranges = None;
                self.plain = true;
                None
            }
        }
    }

    async fn open(&mut self) -> Result<reqwest::Response, RegistryError> {
        let mut ask = Ask::get(format!("blobs/{}", self.digest));
        if self.offset > 0 {
            ask = ask.header(RANGE, format!("bytes={}-", self.offset));
        }
        let mut response = self.repository.ask_once(&ask).await?;
        if self.offset == 0 {
            return Ok(response);
        }
        if response.status() == http::StatusCode::PARTIAL_CONTENT {
            let range = header(&response, &CONTENT_RANGE);
            if range.starts_with(&format!("bytes {}-", self.offset)) || range.is_empty() {
                return Ok(response);
            }
        }
        // The registry begins at the beginning: leave out what is known.
        let mut skip = self.offset;
        let url = response.url().to_string();
        while skip > 0 {
            match response.chunk().await {
                Ok(Some(bytes)) if bytes.len() as u64 <= skip => skip -= bytes.len() as u64,
                Ok(Some(mut bytes)) => {
                    // What is left to skip is less than this piece.
                    self.leftover = Some(bytes.split_off(usize::try_from(skip).unwrap_or(0)));
                    skip = 0;
                }
                Ok(None) => return Err(broke_off(&url)),
                Err(error) => return Err(transport_error("get", &url, &error)),
            }
        }
        Ok(response)
    }

    fn failed(&mut self, error: RegistryError) -> Result<BlobEvent, RegistryError> {
        self.response = None;
        self.leftover = None;
        self.failures += 1;
        if self.failures >= self.repository.attempts() || !error.may_pass() {
            return Err(error);
        }
        let pause = FIRST_PAUSE * 2u32.pow((self.failures - 1).min(5));
        let pause = error.retry_after().unwrap_or(pause).min(LONGEST_PAUSE);
        tracing::info!(blob = %self.digest, offset = self.offset, %error, ?pause, "download goes on after a pause");
        // The first break is often all there is.
        let pause = if self.failures == 1 && error.status().is_none() {
            Duration::from_millis(100)
        } else {
            pause
        };
        self.pending = Some(pause);
        Ok(BlobEvent::Retry(pause))
    }
}

fn broke_off(url: &str) -> RegistryError {
    RegistryError::Transport {
        method: "Get".to_owned(),
        url: url.to_owned(),
        text: "unexpected EOF".to_owned(),
        spoke_tls: true,
    }
}
