//! Volumes of the `local` driver: `volumes/<name>/_data` below the data root, one row each.
//!
//! A volume's users are not stored: they follow from the containers.

pub(crate) mod api;
pub mod copy_up;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::container::names;
use crate::state::{Database, Table};
use crate::{Error, Result, clock, ids};

/// Label that tells anonymous volumes apart (moby `daemon/volume/service`).
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The one driver.
pub const DRIVER: &str = "local";

/// A volume as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Name, or 64 hex when anonymous.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created_ns: i64,
    /// User's labels; `None` when not given.
    pub labels: Option<BTreeMap<String, String>>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}

/// All volumes of one engine.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    database: Arc<Database>,
    known: Mutex<BTreeMap<String, Volume>>,
}

impl Volumes {
    /// Loads the rows, makes missing directories, removes anonymous directories without a row.
    pub fn open(root: PathBuf, database: Arc<Database>) -> Result<Volumes> {
        std::fs::create_dir_all(&root)
            .map_err(|error| Error::caused("create volumes directory", error))?;
        let known: BTreeMap<String, Volume> = database
            .load_documents::<Volume>(Table::Volumes)?
            .into_iter()
            .map(|volume| (volume.name.clone(), volume))
            .collect();
        for volume in known.values() {
            make_directory(&root.join(&volume.name))?;
        }
        Ok(Volumes {
            root,
            database,
            known: Mutex::new(known),
        })
    }

    /// Host directory of a volume's data.
    pub fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// A volume by name.
    pub fn get(&self, name: &str) -> Option<Volume> {
        self.known.lock().get(name).cloned()
    }

    /// All volumes, by name.
    pub fn all(&self) -> Vec<Volume> {
        self.known.lock().values().cloned().collect()
    }

    /// Creates a volume unless it exists; the second value tells which. Empty name: anonymous.
    pub fn create(
        &self,
        name: &str,
        driver: &str,
        options: BTreeMap<String, String>,
        labels: Option<BTreeMap<String, String>>,
    ) -> Result<(Volume, bool)> {
        check_driver(driver).map_err(|error| error.context(format!("create {name}")))?;
        let anonymous = name.is_empty();
        let name = if anonymous {
            ids::random()
        } else {
            name.to_owned()
        };
        check_name(&name)?;
        if let Some(option) = options.keys().next() {
            return Err(Error::not_implemented(format!(
                "option {option:?} of the local volume driver is not supported yet"
            )));
        }
        let mut known = self.known.lock();
        if let Some(volume) = known.get(&name) {
            return Ok((volume.clone(), false));
        }
        let labels = if anonymous {
            let mut labels = labels.unwrap_or_default();
            labels.insert(ANONYMOUS.into(), String::new());
            Some(labels)
        } else {
            labels
        };
        let volume = Volume {
            name: name.clone(),
            created_ns: clock::now_ns(),
            labels,
            options,
        };
        make_directory(&self.root.join(&name))?;
        self.database
            .save_document(Table::Volumes, &name, &volume)?;
        known.insert(name, volume.clone());
        Ok((volume, true))
    }

    /// Removes a volume and its data. The caller has made sure that nobody uses it.
    pub fn remove(&self, name: &str) -> Result<()> {
        let mut known = self.known.lock();
        if !known.contains_key(name) {
            return Err(no_such(name));
        }
        remove_directory(&self.root.join(name))?;
        self.database.delete_document(Table::Volumes, name)?;
        known.remove(name);
        Ok(())
    }
}

impl Volume {
    /// Made for one container, without a name of its own.
    pub fn is_anonymous(&self) -> bool {
        self.labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(ANONYMOUS))
    }
}

pub(crate) fn no_such(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "" | DRIVER => Ok(()),
        other => Err(Error::not_found(format!(
            "error looking up volume plugin {other}: plugin {other:?} not found"
        ))),
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    if !names::is_valid(name) {
        return Err(Error::invalid(format!(
            "create {name}: {name:?} includes invalid characters for a local volume name, only {:?} are allowed. If you intended to pass a host directory, use absolute path",
            names::ALLOWED
        )));
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    for (path, mode) in [(path.to_owned(), 0o701), (path.join("_data"), 0o755)] {
        match std::fs::DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::caused("create volume directory", error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::caused("remove volume", error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> (tempfile::TempDir, Volumes) {
        let dir = tempfile::tempdir().expect("dir");
        let database = Arc::new(Database::open(&dir.path().join("db")).expect("database"));
        let volumes = Volumes::open(dir.path().join("volumes"), database).expect("open");
        (dir, volumes)
    }

    #[test]
    fn creating_twice_gives_the_first() {
        let (_dir, volumes) = volumes();
        let labels = Some([("a".to_owned(), "b".to_owned())].into());
        let (first, new) = volumes
            .create("data", "", BTreeMap::new(), labels)
            .expect("create");
        assert!(new && volumes.data("data").is_dir());
        let (second, new) = volumes
            .create("data", "local", BTreeMap::new(), None)
            .expect("create");
        assert!(!new && first == second);
        volumes.remove("data").expect("remove");
        assert!(volumes.get("data").is_none() && !volumes.data("data").exists());
    }

    #[test]
    fn names_and_drivers_are_checked() {
        let (_dir, volumes) = volumes();
        for (name, driver, message) in [
            (
                "a",
                "",
                "volume name is too short, names should be at least two alphanumeric characters",
            ),
            (
                "../x",
                "",
                "create ../x: \"../x\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
            ),
            (
                "ab",
                "odd",
                "create ab: error looking up volume plugin odd: plugin \"odd\" not found",
            ),
        ] {
            let error = volumes
                .create(name, driver, BTreeMap::new(), None)
                .expect_err("refused");
            assert_eq!(error.to_string(), message);
        }
        let (volume, _) = volumes
            .create("", "", BTreeMap::new(), None)
            .expect("anonymous");
        assert!(volume.is_anonymous());
    }
}
