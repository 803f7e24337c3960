//! Uploads: blobs by mount, in one request, or as a stream whose length nobody knows yet; manifests.

use std::io;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::Body;
use tokio::sync::mpsc;
use wharf_spec::digest::Digest;

use crate::error::RegistryError;
use crate::manifest::header;
use crate::repository::{Ask, Repository};

/// A body whose pieces come from elsewhere; an error among them breaks the request off.
pub fn stream_body(depth: usize) -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (send, mut pieces) = mpsc::channel(depth);
    let stream = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
    (send, Body::wrap_stream(stream))
}

/// An upload that has begun.
#[derive(Debug, Clone)]
pub struct Upload {
    repository: Repository,
    location: url::Url,
}

/// What asking for a mount came to.
#[derive(Debug)]
pub enum Begun {
    /// The blob is there now.
    Mounted,
    /// It has to be sent.
    Upload(Upload),
}

impl Repository {
    /// Begins to upload a blob; with `mount`, the registry may take it from another of its repositories instead.
    pub async fn begin_upload(
        &self,
        mount: Option<(&Digest, &str)>,
    ) -> Result<Begun, RegistryError> {
        let mut ask = Ask::new(Method::POST, "blobs/uploads/").header(CONTENT_LENGTH, "0");
        if let Some((digest, from)) = mount {
            let query: String = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("from", from)
                .append_pair("mount", digest.as_str())
                .finish();
            ask.target = crate::repository::Target::Path(format!("blobs/uploads/?{query}"));
            ask.also_pull = Some(from.to_owned());
        }
        let response = self.ask(&ask).await?;
        if response.status() == http::StatusCode::CREATED {
            return Ok(Begun::Mounted);
        }
        Ok(Begun::Upload(Upload {
            location: self.absolute(&header(&response, &LOCATION))?,
            repository: self.clone(),
        }))
    }

    /// Puts a manifest under a tag or its digest.
    pub async fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), RegistryError> {
        let mut ask = Ask::new(Method::PUT, format!("manifests/{reference}"))
            .header(CONTENT_TYPE, media_type);
        ask.body = Some(bytes);
        self.ask(&ask).await.map(drop)
    }

    /// Deletes a manifest.
    pub async fn delete_manifest(&self, digest: &Digest) -> Result<(), RegistryError> {
        let ask = Ask::new(Method::DELETE, format!("manifests/{digest}"));
        self.ask(&ask).await.map(drop)
    }

    /// Uploads a small blob that is not there yet.
    pub async fn put_blob(&self, digest: &Digest, bytes: Bytes) -> Result<(), RegistryError> {
        match self.begin_upload(None).await? {
            Begun::Mounted => Ok(()),
            Begun::Upload(upload) => {
                upload
                    .put(digest, bytes.len() as u64, Body::from(bytes))
                    .await
            }
        }
    }
}

impl Upload {
    /// Sends the whole blob in one request and completes it.
    pub async fn put(self, digest: &Digest, size: u64, body: Body) -> Result<(), RegistryError> {
        let headers = [
            (CONTENT_TYPE, "application/octet-stream".to_owned()),
            (CONTENT_LENGTH, size.to_string()),
        ];
        let url = self.with_digest(digest);
        self.repository
            .send_stream(Method::PUT, &url, &headers, body)
            .await
            .map(drop)
    }

    /// Sends a stream; [`Upload::complete`] then says what it was.
    pub async fn patch(&mut self, body: Body) -> Result<(), RegistryError> {
        let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned())];
        let response = self
            .repository
            .send_stream(Method::PATCH, self.location.as_str(), &headers, body)
            .await?;
        self.location = self.repository.absolute(&header(&response, &LOCATION))?;
        Ok(())
    }

    /// Ends a streamed upload.
    pub async fn complete(self, digest: &Digest) -> Result<(), RegistryError> {
        let ask = Ask::url(Method::PUT, self.with_digest(digest)).header(CONTENT_LENGTH, "0");
        self.repository.ask(&ask).await.map(drop)
    }

    /// Gives an upload up, so that the registry forgets it. What it answers does not matter.
    pub async fn cancel(self) {
        let ask = Ask::url(Method::DELETE, self.location.as_str());
        if let Err(error) = self.repository.ask_once(&ask).await {
            tracing::debug!(%error, "upload was not given up");
        }
    }

    fn with_digest(&self, digest: &Digest) -> String {
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        url.to_string()
    }
}
