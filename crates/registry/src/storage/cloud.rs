//! An object store: S3, GCS, Azure, or (for tests) memory. Calls that fail are tried again; a blob's stream goes on where it broke.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{GetOptions, GetRange, MultipartId, ObjectStore, PutMode, PutPayload};
use wharf_spec::digest::Digest;

use super::retry::retry;
use super::{Blob, BlobSource, Entry, Stat, StorageError, keys};
use crate::config::StorageConfig;

/// Parts of an object that is written while it comes. S3 wants at least 5 MiB, and no more than 10,000: objects up to 80 GB,
/// so parts grow (see [`Writer::part_size`]).
const PART: usize = 8 << 20;

/// The largest object S3 copies in one call.
const MAX_COPY: u64 = 5 << 30;

/// An object store and what we ask of it.
#[derive(Clone)]
pub struct Cloud(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    multipart: Arc<dyn MultipartStore>,
    signer: Option<Arc<dyn Signer>>,
    prefix: String,
    signed_for: Duration,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Holds keys.
        write!(f, "Cloud({})", self.0.store)
    }
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The URL names none.
    #[error(
        "storage.url {0:?}: not s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX] or az://CONTAINER[/PREFIX]"
    )]
    Url(String),
    /// An option it does not have, or that does not fit.
    #[error("storage.options: {0}")]
    Option(#[from] object_store::Error),
}

impl Cloud {
    /// The store a configuration names; nothing is asked of it yet.
    ///
    /// # Errors
    /// The URL or an option makes no sense.
    pub fn open(config: &StorageConfig) -> Result<Cloud, CloudError> {
        let url = config.url.as_deref().unwrap_or_default();
        let bad = || CloudError::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad());
        }
        let mut options = config.options.iter();
        match scheme {
            "s3" => {
                let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
                let builder = options.try_fold(builder, |builder, (key, value)| {
                    Ok::<_, CloudError>(
                        builder.with_config(AmazonS3ConfigKey::from_str(key)?, value),
                    )
                })?;
                Ok(Cloud::of(builder.build()?, prefix, config))
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                let builder = options.try_fold(builder, |builder, (key, value)| {
                    Ok::<_, CloudError>(builder.with_config(GoogleConfigKey::from_str(key)?, value))
                })?;
                Ok(Cloud::of(builder.build()?, prefix, config))
            }
            "az" | "azure" => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                let builder = options.try_fold(builder, |builder, (key, value)| {
                    Ok::<_, CloudError>(builder.with_config(AzureConfigKey::from_str(key)?, value))
                })?;
                Ok(Cloud::of(builder.build()?, prefix, config))
            }
            _ => Err(bad()),
        }
    }

    fn of<S: ObjectStore + MultipartStore + Signer>(
        store: S,
        prefix: &str,
        config: &StorageConfig,
    ) -> Cloud {
        let store = Arc::new(store);
        Cloud(Arc::new(Inner {
            store: store.clone(),
            multipart: store.clone(),
            signer: config.redirect.then_some(store as Arc<dyn Signer>),
            prefix: prefix.trim_matches('/').to_owned(),
            signed_for: config.redirect_expiry,
        }))
    }

    /// Any store that knows no signed URLs; for tests.
    pub fn unsigned<S: ObjectStore + MultipartStore>(store: Arc<S>) -> Cloud {
        Cloud(Arc::new(Inner {
            store: store.clone(),
            multipart: store,
            signer: None,
            prefix: String::new(),
            signed_for: Duration::ZERO,
        }))
    }

    fn path(&self, key: &str) -> Result<Path, StorageError> {
        let full = match self.0.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        Path::parse(full.trim_end_matches('/')).map_err(|error| failed("naming", key, error.into()))
    }

    /// See [`super::Storage::get`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StorageError> {
        let path = self.path(key)?;
        let got = retry(|| async { self.0.store.get(&path).await?.bytes().await }).await;
        optional("reading", key, got)
    }

    /// See [`super::Storage::stat`].
    pub async fn stat(&self, key: &str) -> Result<Option<Stat>, StorageError> {
        let path = self.path(key)?;
        let meta = retry(|| self.0.store.head(&path)).await;
        Ok(optional("looking at", key, meta)?.map(|meta| stat(&meta)))
    }

    /// See [`super::Storage::put`].
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        let path = self.path(key)?;
        retry(|| {
            self.0
                .store
                .put(&path, PutPayload::from_bytes(bytes.clone()))
        })
        .await
        .map(drop)
        .map_err(|error| failed("writing", key, error))
    }

    /// See [`super::Storage::put_new`].
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, StorageError> {
        let path = self.path(key)?;
        let put = retry(|| {
            let payload = PutPayload::from_bytes(bytes.clone());
            self.0
                .store
                .put_opts(&path, payload, PutMode::Create.into())
        });
        match put.await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(failed("writing", key, error)),
        }
    }

    /// See [`super::Storage::delete`].
    pub async fn delete(&self, key: &str) -> Result<bool, StorageError> {
        let path = self.path(key)?;
        let deleted = retry(|| self.0.store.delete(&path)).await;
        Ok(optional("removing", key, deleted)?.is_some())
    }

    /// See [`super::Storage::list`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StorageError> {
        let path = self.path(prefix)?;
        let listing = || self.0.store.list(Some(&path)).try_collect::<Vec<_>>();
        let found = retry(listing)
            .await
            .map_err(|error| failed("listing", prefix, error))?;
        let skip = path.as_ref().len() + 1;
        let mut entries: Vec<Entry> = found
            .iter()
            .filter_map(|meta| {
                Some(Entry {
                    name: meta.location.as_ref().get(skip..)?.to_owned(),
                    stat: stat(meta),
                })
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// See [`super::Storage::open_blob`].
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, StorageError> {
        let key = keys::blob(digest);
        Ok(self.stat(&key).await?.map(|stat| Blob {
            size: stat.size,
            source: BlobSource::Object(self.clone(), key),
        }))
    }

    /// Part of an object, as it comes. A stream that breaks goes on where it broke.
    pub fn stream(
        &self,
        key: String,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes, StorageError>> {
        struct Reading {
            cloud: Cloud,
            key: String,
            range: Range<u64>,
            from: Option<BoxStream<'static, object_store::Result<Bytes>>>,
            breaks: u32,
        }
        let reading = Reading {
            cloud: self.clone(),
            key,
            range,
            from: None,
            breaks: 0,
        };
        futures_util::stream::try_unfold(reading, |mut reading| async move {
            while !reading.range.is_empty() {
                let stream = match &mut reading.from {
                    Some(stream) => stream,
                    empty => {
                        let stream = reading
                            .cloud
                            .open_range(&reading.key, reading.range.clone())
                            .await?;
                        empty.insert(stream)
                    }
                };
                let error = match stream.next().await {
                    Some(Ok(bytes)) => {
                        reading.range.start += bytes.len() as u64;
                        return Ok(Some((bytes, reading)));
                    }
                    Some(Err(error)) => error,
                    None => object_store::Error::Generic {
                        store: "registry",
                        source: "the object ended early".into(),
                    },
                };
                reading.breaks += 1;
                if reading.breaks > 5 {
                    return Err(failed("reading", &reading.key, error));
                }
                reading.from = None;
            }
            Ok(None)
        })
        .boxed()
    }

    async fn open_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>, StorageError> {
        let path = self.path(key)?;
        let options = || GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        retry(|| self.0.store.get_opts(&path, options()))
            .await
            .map(object_store::GetResult::into_stream)
            .map_err(|error| failed("reading", key, error))
    }

    /// A URL of the store for reading an object, where it makes such.
    pub async fn signed_url(&self, key: &str) -> Option<String> {
        let signer = self.0.signer.as_ref()?;
        let path = self.path(key).ok()?;
        match signer
            .signed_url(http::Method::GET, &path, self.0.signed_for)
            .await
        {
            Ok(url) => Some(url.into()),
            Err(error) => {
                tracing::debug!(%error, "no signed URL; sending the blob ourselves");
                None
            }
        }
    }

    /// Copies an object within the store.
    pub async fn copy(&self, from: &str, to: &str, size: u64) -> Result<(), StorageError> {
        if size < MAX_COPY {
            let (source, target) = (self.path(from)?, self.path(to)?);
            return retry(|| self.0.store.copy(&source, &target))
                .await
                .map_err(|error| failed("copying", to, error));
        }
        let mut writer = self.write(to);
        let mut stream = self.stream(from.to_owned(), 0..size);
        while let Some(bytes) = stream.next().await {
            writer.write(bytes?).await?;
        }
        writer.finish().await
    }

    /// Begins an object that is written while it comes.
    pub fn write(&self, key: &str) -> Writer {
        Writer {
            cloud: self.clone(),
            key: key.to_owned(),
            buffer: BytesMut::new(),
            multipart: None,
            parts: Vec::new(),
        }
    }
}

/// An object on its way. It appears when it is finished; until then there is nothing.
#[derive(Debug)]
pub struct Writer {
    cloud: Cloud,
    key: String,
    buffer: BytesMut,
    multipart: Option<MultipartId>,
    parts: Vec<PartId>,
}

impl Writer {
    /// Adds bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= self.part_size() {
            self.send_part().await?;
        }
        Ok(())
    }

    /// Grows with the object: ten thousand parts hold 5 TB.
    fn part_size(&self) -> usize {
        PART << (self.parts.len() / 1000).min(7)
    }

    async fn send_part(&mut self) -> Result<(), StorageError> {
        let path = self.cloud.path(&self.key)?;
        let multipart = &self.cloud.0.multipart;
        let id = match &self.multipart {
            Some(id) => id.clone(),
            None => {
                let id = retry(|| multipart.create_multipart(&path))
                    .await
                    .map_err(|error| failed("writing", &self.key, error))?;
                self.multipart.insert(id).clone()
            }
        };
        let data = self.buffer.split().freeze();
        let n = self.parts.len();
        let part =
            retry(|| multipart.put_part(&path, &id, n, PutPayload::from_bytes(data.clone())))
                .await
                .map_err(|error| failed("writing", &self.key, error))?;
        self.parts.push(part);
        Ok(())
    }

    /// Makes the object appear.
    pub async fn finish(mut self) -> Result<(), StorageError> {
        if self.multipart.is_none() {
            return self
                .cloud
                .put(&self.key, self.buffer.split().freeze())
                .await;
        }
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        let Some(id) = self.multipart.take() else {
            return Ok(());
        };
        let path = self.cloud.path(&self.key)?;
        let complete = || {
            self.cloud
                .0
                .multipart
                .complete_multipart(&path, &id, self.parts.clone())
        };
        match retry(complete).await {
            Ok(_) => Ok(()),
            // The answer to an earlier try was lost: then the object is there.
            Err(error) => match self.cloud.stat(&self.key).await {
                Ok(Some(stat)) if stat.age() < Duration::from_secs(60) => Ok(()),
                _ => Err(failed("writing", &self.key, error)),
            },
        }
    }

    /// Forgets what was written.
    pub async fn abort(mut self) {
        let (Some(id), Ok(path)) = (self.multipart.take(), self.cloud.path(&self.key)) else {
            return;
        };
        // Stores have rules of their own for parts that nobody completes.
        let _ = retry(|| self.cloud.0.multipart.abort_multipart(&path, &id)).await;
    }
}

fn stat(meta: &object_store::ObjectMeta) -> Stat {
    let seconds = u64::try_from(meta.last_modified.timestamp()).unwrap_or(0);
    Stat {
        size: meta.size,
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
    }
}

fn optional<T>(
    what: &'static str,
    key: &str,
    result: object_store::Result<T>,
) -> Result<Option<T>, StorageError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(what, key, error)),
    }
}

fn failed(what: &'static str, key: &str, source: object_store::Error) -> StorageError {
    StorageError::Object {
        what,
        key: key.to_owned(),
        source,
    }
}
