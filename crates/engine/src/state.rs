//! The engine's tables in `wharf.db`: one row per container, network record and volume.
//!
//! A container is two JSON documents: what it is (written at create, rename and update) and how it fares (written at each
//! transition), so that a transition writes few bytes. WAL without fsync per commit: a killed process loses nothing, a
//! power cut may lose the last transitions but never consistency.

use std::path::Path;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The database.
#[derive(Debug)]
pub struct Database {
    connection: Mutex<Connection>,
}

/// Why the database refused.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite's answer.
    #[error("database: {what}")]
    Sql {
        /// Attempted step.
        what: &'static str,
        /// Cause.
        #[source]
        source: rusqlite::Error,
    },
    /// The disk is full; the text is everybody's.
    #[error("database: {what}: no space left on device")]
    Full {
        /// Attempted step.
        what: &'static str,
    },
    /// A stored document does not parse.
    #[error("database: document of {id} is unreadable")]
    Document {
        /// Row.
        id: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

/// A container's row as stored.
#[derive(Debug)]
pub struct ContainerRow<C, S> {
    /// 64 hex.
    pub id: String,
    /// What it is.
    pub config: C,
    /// How it fares.
    pub state: S,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS containers (id TEXT PRIMARY KEY, config TEXT NOT NULL, state TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS networks (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS volumes (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

impl Database {
    /// Opens or creates `<data-root>/wharf.db`.
    pub fn open(path: &Path) -> Result<Database, DatabaseError> {
        let connection = Connection::open(path).map_err(sql("open"))?;
        connection
            .busy_handler(Some(wait_for_other_writer))
            .map_err(sql("set busy handler"))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
            )
            .map_err(sql("set journal mode"))?;
        connection
            .execute_batch(SCHEMA)
            .map_err(sql("create tables"))?;
        Ok(Database {
            connection: Mutex::new(connection),
        })
    }

    /// All containers, in no particular order.
    pub fn load_containers<C, S>(&self) -> Result<Vec<ContainerRow<C, S>>, DatabaseError>
    where
        C: DeserializeOwned,
        S: DeserializeOwned,
    {
        let rows: Vec<(String, String, String)> = {
            let connection = self.connection.lock();
            let mut statement = connection
                .prepare("SELECT id, config, state FROM containers")
                .map_err(sql("read containers"))?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .map_err(sql("read containers"))?;
            rows.collect::<Result<_, _>>()
                .map_err(sql("read containers"))?
        };
        rows.into_iter()
            .map(|(id, config, state)| {
                Ok(ContainerRow {
                    config: parse(&id, &config)?,
                    state: parse(&id, &state)?,
                    id,
                })
            })
            .collect()
    }

    /// Adds or replaces a container.
    pub fn save_container<C: Serialize, S: Serialize>(
        &self,
        id: &str,
        config: &C,
        state: &S,
    ) -> Result<(), DatabaseError> {
        let (config, state) = (encode(id, config)?, encode(id, state)?);
        self.run(
            "save container",
            "INSERT OR REPLACE INTO containers (id, config, state) VALUES (?1, ?2, ?3)",
            params![id, config, state],
        )
    }

    /// Replaces how a container fares. A container without a row stays without one.
    pub fn save_state<S: Serialize>(&self, id: &str, state: &S) -> Result<(), DatabaseError> {
        let state = encode(id, state)?;
        self.run(
            "save state",
            "UPDATE containers SET state = ?2 WHERE id = ?1",
            params![id, state],
        )
    }

    /// Replaces what a container is.
    pub fn save_config<C: Serialize>(&self, id: &str, config: &C) -> Result<(), DatabaseError> {
        let config = encode(id, config)?;
        self.run(
            "save config",
            "UPDATE containers SET config = ?2 WHERE id = ?1",
            params![id, config],
        )
    }

    /// Forgets a container. Safe to repeat.
    pub fn delete_container(&self, id: &str) -> Result<(), DatabaseError> {
        self.run(
            "delete container",
            "DELETE FROM containers WHERE id = ?1",
            params![id],
        )
    }

    /// All documents of a keyed table.
    pub fn load_documents<T: DeserializeOwned>(
        &self,
        table: Table,
    ) -> Result<Vec<T>, DatabaseError> {
        let rows: Vec<(String, String)> = {
            let connection = self.connection.lock();
            let mut statement = connection
                .prepare(table.select())
                .map_err(sql("read documents"))?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(sql("read documents"))?;
            rows.collect::<Result<_, _>>()
                .map_err(sql("read documents"))?
        };
        rows.iter().map(|(id, text)| parse(id, text)).collect()
    }

    /// Adds or replaces a document of a keyed table.
    pub fn save_document<T: Serialize>(
        &self,
        table: Table,
        key: &str,
        document: &T,
    ) -> Result<(), DatabaseError> {
        let text = encode(key, document)?;
        self.run("save document", table.replace(), params![key, text])
    }

    /// Removes a document. Safe to repeat.
    pub fn delete_document(&self, table: Table, key: &str) -> Result<(), DatabaseError> {
        self.run("delete document", table.delete(), params![key])
    }

    /// A single value kept across restarts, such as the engine's id.
    pub fn fact(&self, key: &str) -> Result<Option<String>, DatabaseError> {
        self.connection
            .lock()
            .query_row(
                "SELECT value FROM facts WHERE key = ?1",
                params![key],
                |row| row.get(0),
            )
            .optional()
            .map_err(sql("read fact"))
    }

    /// Stores such a value.
    pub fn save_fact(&self, key: &str, value: &str) -> Result<(), DatabaseError> {
        self.run(
            "save fact",
            "INSERT OR REPLACE INTO facts (key, value) VALUES (?1, ?2)",
            params![key, value],
        )
    }

    fn run(
        &self,
        what: &'static str,
        statement: &str,
        params: impl rusqlite::Params,
    ) -> Result<(), DatabaseError> {
        let connection = self.connection.lock();
        let mut statement = connection.prepare_cached(statement).map_err(sql(what))?;
        statement.execute(params).map_err(sql(what))?;
        Ok(())
    }
}

/// Tables of one document per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// `wharf_network::NetworkRecord` by id.
    Networks,
    /// Volumes by name.
    Volumes,
}

impl Table {
    fn select(self) -> &'static str {
        match self {
            Table::Networks => "SELECT id, record FROM networks",
            Table::Volumes => "SELECT name, record FROM volumes",
        }
    }

    fn replace(self) -> &'static str {
        match self {
            Table::Networks => "INSERT OR REPLACE INTO networks (id, record) VALUES (?1, ?2)",
            Table::Volumes => "INSERT OR REPLACE INTO volumes (name, record) VALUES (?1, ?2)",
        }
    }

    fn delete(self) -> &'static str {
        match self {
            Table::Networks => "DELETE FROM networks WHERE id = ?1",
            Table::Volumes => "DELETE FROM volumes WHERE name = ?1",
        }
    }
}

/// The store writes to the same file, for some ten microseconds at a time: ask again soon, for ten seconds at most.
/// (SQLite's own handler would sleep a millisecond first.)
fn wait_for_other_writer(attempts: i32) -> bool {
    std::thread::sleep(std::time::Duration::from_micros(50));
    attempts < 100_000
}

fn sql(what: &'static str) -> impl Fn(rusqlite::Error) -> DatabaseError {
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => DatabaseError::Full { what },
        _ => DatabaseError::Sql { what, source },
    }
}

fn parse<T: DeserializeOwned>(id: &str, text: &str) -> Result<T, DatabaseError> {
    serde_json::from_str(text).map_err(|source| DatabaseError::Document {
        id: id.to_owned(),
        source,
    })
}

fn encode<T: Serialize>(id: &str, value: &T) -> Result<String, DatabaseError> {
    serde_json::to_string(value).map_err(|source| DatabaseError::Document {
        id: id.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let database = Database::open(&dir.path().join("wharf.db")).expect("open");
        (dir, database)
    }

    #[test]
    fn containers_come_back_after_reopening() {
        let (dir, database) = database();
        database.save_container("aa", &"config", &1).expect("save");
        database.save_state("aa", &2).expect("state");
        database
            .save_state("absent", &3)
            .expect("no row is no error");
        drop(database);
        let database = Database::open(&dir.path().join("wharf.db")).expect("reopen");
        let rows = database.load_containers::<String, i32>().expect("load");
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].id.as_str(), rows[0].config.as_str(), rows[0].state),
            ("aa", "config", 2)
        );
        database.delete_container("aa").expect("delete");
        assert!(
            database
                .load_containers::<String, i32>()
                .expect("load")
                .is_empty()
        );
    }

    #[test]
    fn documents_are_replaced_by_key() {
        let (_dir, database) = database();
        database
            .save_document(Table::Volumes, "v", &"one")
            .expect("save");
        database
            .save_document(Table::Volumes, "v", &"two")
            .expect("save");
        assert_eq!(
            database
                .load_documents::<String>(Table::Volumes)
                .expect("load"),
            ["two"]
        );
        assert!(
            database
                .load_documents::<String>(Table::Networks)
                .expect("load")
                .is_empty()
        );
    }
}
