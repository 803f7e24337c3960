//! The store's tables in `wharf.db`.
//!
//! Rows decide what exists: a directory without a row is left over from an interrupted operation. WAL without a sync per commit survives the
//! death of the process; a power cut may take the last commits, never the consistency.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};
use wharf_spec::digest::{ChainId, DiffId, Digest};

use crate::blobs::{KnownBlob, KnownManifest};
use crate::layer::Layer;
use crate::parked::Parked;
use crate::rw::ContainerLayer;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY,
    config BLOB NOT NULL,
    parent TEXT,
    tagged INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS image_references (
    name TEXT PRIMARY KEY,
    image TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layers (
    chain TEXT PRIMARY KEY,
    diff TEXT NOT NULL,
    parent TEXT,
    cache TEXT NOT NULL,
    link TEXT NOT NULL,
    size INTEGER NOT NULL,
    tar_size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS container_layers (
    container TEXT PRIMARY KEY,
    image TEXT NOT NULL,
    parent TEXT,
    cache TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parked_layers (
    diff TEXT PRIMARY KEY,
    cache TEXT NOT NULL,
    link TEXT NOT NULL,
    size INTEGER NOT NULL,
    tar_size INTEGER NOT NULL,
    since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS manifest_times (
    digest TEXT PRIMARY KEY,
    seen INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS image_times (
    image TEXT PRIMARY KEY,
    used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (
    diff TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (diff, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob_sources (
    digest TEXT NOT NULL,
    repository TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS manifests (
    digest TEXT PRIMARY KEY,
    image TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes BLOB NOT NULL
) WITHOUT ROWID;
";

/// One image row.
#[derive(Debug)]
pub(crate) struct ImageRow {
    pub(crate) id: String,
    pub(crate) config: Vec<u8>,
    pub(crate) parent: Option<String>,
    /// Nanoseconds since 1970 of the last `tag`.
    pub(crate) tagged: Option<i64>,
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Db(Connection);

impl Db {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Db> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Db(connection))
    }

    /// Opens what another process writes, to look at it.
    pub(crate) fn open_to_read(path: &Path) -> rusqlite::Result<Db> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        Ok(Db(connection))
    }

    /// Runs `work` in one transaction: all of it or nothing.
    pub(crate) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Rows<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let transaction = self
            .0
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let value = work(&Rows(&transaction))?;
        transaction.commit()?;
        Ok(value)
    }

    /// Single statements, each its own transaction.
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows(&self.0)
    }
}

/// Statements on one connection.
pub(crate) struct Rows<'a>(&'a Connection);

impl Rows<'_> {
    pub(crate) fn images(&self) -> rusqlite::Result<Vec<ImageRow>> {
        let mut statement = self
            .0
            .prepare("SELECT id, config, parent, tagged FROM images")?;
        let rows = statement.query_map([], |row| {
            Ok(ImageRow {
                id: row.get(0)?,
                config: row.get(1)?,
                parent: row.get(2)?,
                tagged: row.get(3)?,
            })
        })?;
        rows.collect()
    }

    pub(crate) fn references(&self) -> rusqlite::Result<Vec<(String, String)>> {
        let mut statement = self.0.prepare("SELECT name, image FROM image_references")?;
        statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    }

    pub(crate) fn layers(&self) -> rusqlite::Result<Vec<Layer>> {
        let mut statement = self
            .0
            .prepare("SELECT chain, diff, parent, cache, link, size, tar_size FROM layers")?;
        let rows = statement.query_map([], |row| {
            Ok(Layer {
                chain: ChainId(digest(row, 0)?),
                diff: DiffId(digest(row, 1)?),
                parent: optional_digest(row, 2)?.map(ChainId),
                cache: row.get(3)?,
                link: row.get(4)?,
                size: row.get::<_, i64>(5)?.cast_unsigned(),
                tar_size: row.get::<_, i64>(6)?.cast_unsigned(),
            })
        })?;
        rows.collect()
    }

    pub(crate) fn container_layers(&self) -> rusqlite::Result<Vec<(String, ContainerLayer)>> {
        let mut statement = self
            .0
            .prepare("SELECT container, image, parent, cache FROM container_layers")?;
        let rows = statement.query_map([], |row| {
            let layer = ContainerLayer {
                image: digest(row, 1)?,
                parent: optional_digest(row, 2)?.map(ChainId),
                cache: row.get(3)?,
            };
            Ok((row.get(0)?, layer))
        })?;
        rows.collect()
    }

    pub(crate) fn insert_image(&self, id: &Digest, config: &[u8]) -> rusqlite::Result<()> {
        self.run(
            "INSERT OR IGNORE INTO images (id, config) VALUES (?1, ?2)",
            params![id.as_str(), config],
        )
    }

    pub(crate) fn set_parent(&self, id: &Digest, parent: &Digest) -> rusqlite::Result<()> {
        self.run(
            "UPDATE images SET parent = ?2 WHERE id = ?1",
            params![id.as_str(), parent.as_str()],
        )
    }

    pub(crate) fn forget_parent(&self, id: &Digest) -> rusqlite::Result<()> {
        self.run(
            "UPDATE images SET parent = NULL WHERE id = ?1",
            params![id.as_str()],
        )
    }

    pub(crate) fn set_tagged(&self, id: &Digest, nanos: i64) -> rusqlite::Result<()> {
        self.run(
            "UPDATE images SET tagged = ?2 WHERE id = ?1",
            params![id.as_str(), nanos],
        )
    }

    pub(crate) fn delete_image(&self, id: &Digest) -> rusqlite::Result<()> {
        self.run("DELETE FROM images WHERE id = ?1", params![id.as_str()])?;
        self.run(
            "DELETE FROM manifests WHERE image = ?1",
            params![id.as_str()],
        )?;
        self.run(
            "DELETE FROM manifest_times WHERE digest NOT IN (SELECT digest FROM manifests)",
            [],
        )?;
        self.run(
            "DELETE FROM image_times WHERE image = ?1",
            params![id.as_str()],
        )?;
        self.run(
            "DELETE FROM image_references WHERE image = ?1",
            params![id.as_str()],
        )
    }

    pub(crate) fn set_reference(&self, name: &str, image: &Digest) -> rusqlite::Result<()> {
        self.run(
            "INSERT OR REPLACE INTO image_references (name, image) VALUES (?1, ?2)",
            params![name, image.as_str()],
        )
    }

    pub(crate) fn delete_reference(&self, name: &str) -> rusqlite::Result<()> {
        self.run(
            "DELETE FROM image_references WHERE name = ?1",
            params![name],
        )
    }

    pub(crate) fn insert_layer(&self, layer: &Layer) -> rusqlite::Result<()> {
        let parent = layer.parent.as_ref().map(|parent| parent.0.as_str());
        self.run(
            "INSERT INTO layers (chain, diff, parent, cache, link, size, tar_size) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                layer.chain.0.as_str(),
                layer.diff.0.as_str(),
                parent,
                layer.cache,
                layer.link,
                layer.size.cast_signed(),
                layer.tar_size.cast_signed()
            ],
        )
    }

    pub(crate) fn delete_layer(&self, chain: &ChainId) -> rusqlite::Result<()> {
        self.run(
            "DELETE FROM layers WHERE chain = ?1",
            params![chain.0.as_str()],
        )
    }

    pub(crate) fn insert_container_layer(
        &self,
        container: &str,
        layer: &ContainerLayer,
    ) -> rusqlite::Result<()> {
        let parent = layer.parent.as_ref().map(|parent| parent.0.as_str());
        self.run(
            "INSERT INTO container_layers (container, image, parent, cache) VALUES (?1, ?2, ?3, ?4)",
            params![container, layer.image.as_str(), parent, layer.cache],
        )
    }

    pub(crate) fn delete_container_layer(&self, container: &str) -> rusqlite::Result<()> {
        self.run(
            "DELETE FROM container_layers WHERE container = ?1",
            params![container],
        )
    }

    pub(crate) fn parked(&self) -> rusqlite::Result<Vec<Parked>> {
        let mut statement = self
            .0
            .prepare("SELECT diff, cache, link, size, tar_size, since FROM parked_layers")?;
        let rows = statement.query_map([], |row| {
            Ok(Parked {
                diff: DiffId(digest(row, 0)?),
                cache: row.get(1)?,
                link: row.get(2)?,
                size: row.get::<_, i64>(3)?.cast_unsigned(),
                tar_size: row.get::<_, i64>(4)?.cast_unsigned(),
                since: row.get(5)?,
            })
        })?;
        rows.collect()
    }

    pub(crate) fn insert_parked(&self, parked: &Parked) -> rusqlite::Result<()> {
        self.run(
            "INSERT OR REPLACE INTO parked_layers (diff, cache, link, size, tar_size, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                parked.diff.0.as_str(),
                parked.cache,
                parked.link,
                parked.size.cast_signed(),
                parked.tar_size.cast_signed(),
                parked.since
            ],
        )
    }

    pub(crate) fn delete_parked(&self, diff: &DiffId) -> rusqlite::Result<()> {
        self.run(
            "DELETE FROM parked_layers WHERE diff = ?1",
            params![diff.0.as_str()],
        )
    }

    pub(crate) fn blobs(&self, diff: &DiffId) -> rusqlite::Result<Vec<KnownBlob>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT digest, size, media_type FROM blobs WHERE diff = ?1")?;
        let rows = statement.query_map(params![diff.0.as_str()], |row| {
            Ok(KnownBlob {
                digest: digest(row, 0)?,
                size: row.get::<_, i64>(1)?.cast_unsigned(),
                media_type: row.get(2)?,
            })
        })?;
        rows.collect()
    }

    /// Digests of the compressed forms of all layers that are here.
    pub(crate) fn blobs_of_layers(&self) -> rusqlite::Result<HashSet<Digest>> {
        let mut statement = self.0.prepare_cached(
            "SELECT digest FROM blobs WHERE diff IN (SELECT diff FROM layers) OR diff IN (SELECT diff FROM parked_layers)",
        )?;
        statement.query_map([], |row| digest(row, 0))?.collect()
    }

    pub(crate) fn sources(&self, blob: &Digest) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.0.prepare_cached(
            "SELECT repository FROM blob_sources WHERE digest = ?1 ORDER BY seen DESC",
        )?;
        statement
            .query_map(params![blob.as_str()], |row| row.get(0))?
            .collect()
    }

    pub(crate) fn manifests(&self, image: &Digest) -> rusqlite::Result<Vec<KnownManifest>> {
        let mut statement = self
            .0
            .prepare_cached(
                "SELECT m.digest, m.media_type, m.bytes FROM manifests m LEFT JOIN manifest_times t ON t.digest = m.digest
                 WHERE m.image = ?1 ORDER BY t.seen DESC",
            )?;
        let rows = statement.query_map(params![image.as_str()], |row| {
            Ok(KnownManifest {
                digest: digest(row, 0)?,
                media_type: row.get(1)?,
                bytes: row.get(2)?,
            })
        })?;
        rows.collect()
    }

    pub(crate) fn set_used(&self, image: &Digest, seconds: i64) -> rusqlite::Result<()> {
        self.run(
            "INSERT INTO image_times (image, used) VALUES (?1, ?2) ON CONFLICT (image) DO UPDATE SET used = max(used, ?2)",
            params![image.as_str(), seconds],
        )
    }

    pub(crate) fn used(&self) -> rusqlite::Result<Vec<(Digest, i64)>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT image, used FROM image_times")?;
        statement
            .query_map([], |row| Ok((digest(row, 0)?, row.get(1)?)))?
            .collect()
    }

    /// Forgets the compressed forms of layers that are gone.
    pub(crate) fn delete_unknown_blobs(&self) -> rusqlite::Result<()> {
        self.run(
            "DELETE FROM blobs WHERE diff NOT IN (SELECT diff FROM layers) AND diff NOT IN (SELECT diff FROM parked_layers)",
            [],
        )?;
        self.run(
            "DELETE FROM blob_sources WHERE digest NOT IN (SELECT digest FROM blobs)",
            [],
        )
    }

    pub(crate) fn run(&self, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.0.prepare_cached(sql)?.execute(params).map(drop)
    }
}

fn digest(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    Digest::parse(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

fn optional_digest(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => digest(row, column).map(Some),
    }
}
