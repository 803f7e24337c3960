//! Caches of `RUN --mount=type=cache` as archives: taken from one machine, put on another (an extension).

use std::io::{Read, Write};
use std::sync::Arc;

use wharf_archive::pack::{Options, Packer};
use wharf_archive::pieces::Pieces;
use wharf_archive::root::Root;

use super::mounts::{begin_cache, cache_home, cache_name};
use crate::{Engine, Error, Result, blocking};

/// A cache as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// As `id=` names it, or its target.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// Last use, seconds since 1970.
    pub used: i64,
}

impl Engine {
    /// All caches, by name.
    pub async fn build_cache_mounts(&self) -> Result<Vec<CacheMount>> {
        let engine = self.build_handle()?;
        blocking(move || {
            let mut mounts: Vec<CacheMount> = engine
                .cache_mounts()
                .into_iter()
                .map(|record| CacheMount {
                    id: record
                        .description
                        .trim_start_matches("cached mount ")
                        .to_owned(),
                    size: record.size,
                    used: jiff::Timestamp::try_from(record.used)
                        .map_or(0, jiff::Timestamp::as_second),
                })
                .collect();
            mounts.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(mounts)
        })
        .await
    }

    /// Refuses a cache that is not there.
    pub fn build_cache_check(&self, id: &str) -> Result<()> {
        let path = cache_home(&self.config.data_root).join(cache_name(id));
        if path.join("data").is_dir() {
            return Ok(());
        }
        Err(Error::not_found(format!("no such build cache: {id}")))
    }

    /// Writes a cache's files as a tar. Blocking; builds that lock the cache wait.
    pub fn build_cache_export(&self, id: &str, out: &mut dyn Write) -> Result<()> {
        self.build_cache_check(id)?;
        let path = cache_home(&self.config.data_root).join(cache_name(id));
        let lock = self.builds.locks.of(&path);
        let _guard = lock.blocking_read();
        let failed = |error: std::io::Error| Error::caused("read the cache", error);
        let root = Root::at(&path.join("data")).map_err(failed)?;
        let directory = root.open_dir(b".").map_err(|errno| failed(errno.into()))?;
        let descriptors = root.descriptors.clone();
        let mut packer = Packer::new(Pieces::into_writer(out), descriptors, Options::default());
        packer.directory(directory, None).map_err(failed)?;
        packer.finish().map_err(failed)
    }

    /// Makes a cache of a tar, plain or compressed. One that is there is replaced; nothing is changed if the tar is broken.
    pub async fn build_cache_import(
        &self,
        id: &str,
        body: impl Read + Send + 'static,
    ) -> Result<()> {
        if id.is_empty() {
            return Err(Error::invalid("the cache has no name"));
        }
        let engine = self.build_handle()?;
        let id = id.to_owned();
        let path = cache_home(&self.config.data_root).join(cache_name(&id));
        // Builds that use it go on first.
        let _guard = self.builds.locks.of(&path).write_owned().await;
        blocking(move || {
            let failed = |error: std::io::Error| Error::caused("make the cache", error);
            let new = path.with_extension("new");
            engine.store.discard(&new).map_err(failed)?;
            let part = begin_cache(&new, &id).map_err(failed)?;
            let unpacked = super::mounts::unpack_into(body, &part);
            if let Err(error) = unpacked {
                engine.store.discard(&new).map_err(failed)?;
                return Err(Error::invalid(format!("unpack the cache: {error}")));
            }
            std::fs::rename(&part, new.join("data")).map_err(failed)?;
            engine.store.discard(&path).map_err(failed)?;
            std::fs::rename(&new, &path).map_err(failed)
        })
        .await
    }

    fn build_handle(&self) -> Result<Arc<Engine>> {
        self.handle()
            .ok_or_else(|| Error::internal("the daemon is shutting down"))
    }
}
