//! Volumes: `volumes/<name>/_data` below the data root for the `local` driver, elsewhere for others; one row each.
//!
//! A volume's users are not stored: they follow from the containers. The row comes before the directory and goes before it, so a kill
//! in between leaves an empty volume or one that is whole: directories without a row are taken for volumes, as Docker does.

pub(crate) mod api;
pub mod copy_up;
pub mod elsewhere;
pub mod extras;
pub mod local_options;
pub mod mounting;
pub mod plugin;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use wharf_store::quota::ProjectQuotas;

use crate::container::names;
use crate::state::{Database, Table};
use crate::{Error, Result, clock, ids};

/// Label that tells anonymous volumes apart (moby `daemon/volume/service`).
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The driver that is built in.
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
    /// Who keeps the data.
    #[serde(default = "local")]
    pub driver: String,
    /// Drivers say whether their volumes are the same everywhere.
    #[serde(default = "local")]
    pub scope: String,
    /// Its name until just now: the directory may still have it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub renamed_from: String,
}

fn local() -> String {
    DRIVER.to_owned()
}

/// What a new volume shall be.
#[derive(Debug, Clone, Default)]
pub struct NewVolume {
    /// Empty: anonymous.
    pub name: String,
    /// Empty: `local`.
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// User's labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// All volumes of one engine.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    database: Arc<Database>,
    known: Mutex<BTreeMap<String, Volume>>,
    /// Who has asked for a volume's data to be accessible, where that takes more than a directory.
    mounted: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Of the file system that the volumes are on, where it can limit directories.
    quotas: Option<ProjectQuotas>,
}

impl Volumes {
    /// Loads the rows, makes missing directories, takes in directories without a row.
    pub fn open(root: PathBuf, database: Arc<Database>) -> Result<Volumes> {
        std::fs::create_dir_all(&root)
            .map_err(|error| Error::caused("create volumes directory", error))?;
        let known: BTreeMap<String, Volume> = database
            .load_documents::<Volume>(Table::Volumes)?
            .into_iter()
            .map(|volume| (volume.name.clone(), volume))
            .collect();
        let quotas = ProjectQuotas::open(&root).unwrap_or_else(|error| {
            tracing::warn!(%error, "whether volumes can be limited is not known");
            None
        });
        let volumes = Volumes {
            quotas,
            root,
            database,
            known: Mutex::new(known),
            mounted: Mutex::default(),
        };
        volumes.finish_renames()?;
        let known = volumes.all();
        for volume in known.iter().filter(|volume| volume.driver == DRIVER) {
            volumes.make_place(volume)?;
        }
        volumes.adopt()?;
        Ok(volumes)
    }

    fn adopt(&self) -> Result<()> {
        let entries = std::fs::read_dir(&self.root)
            .map_err(|error| Error::caused("read volumes directory", error))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let data = entry.path().join("_data");
            let Ok(found) = data.metadata() else { continue };
            if check_name(&name).is_err() || self.get(&name).is_some() {
                continue;
            }
            let volume = Volume {
                name: name.clone(),
                created_ns: found.ctime() * 1_000_000_000,
                labels: None,
                options: BTreeMap::new(),
                driver: local(),
                scope: local(),
                renamed_from: String::new(),
            };
            self.database
                .save_document(Table::Volumes, &name, &volume)?;
            self.known.lock().insert(name, volume);
        }
        Ok(())
    }

    /// Host directory of a `local` volume's data.
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

    /// Creates a volume unless it exists; the second value tells which. Without a driver any driver's volume of that name will do.
    pub fn create(&self, new: NewVolume) -> Result<(Volume, bool)> {
        let anonymous = new.name.is_empty();
        let name = if anonymous { ids::random() } else { new.name };
        let context = |error: Error| error.context(format!("create {name}"));
        let known = if anonymous {
            None
        } else {
            self.existing(&name, &new.driver).map_err(context)?
        };
        if let Some(known) = known {
            return Ok((known, false));
        }
        let driver = if new.driver.is_empty() {
            local()
        } else {
            new.driver
        };
        let mut volume = Volume {
            name: name.clone(),
            created_ns: clock::now_ns(),
            labels: new.labels,
            options: new.options,
            driver,
            scope: local(),
            renamed_from: String::new(),
        };
        if anonymous {
            let labels = volume.labels.get_or_insert_default();
            labels.insert(ANONYMOUS.into(), String::new());
        }
        if volume.driver == DRIVER {
            check_name(&name)?;
            local_options::check(&volume.options, self.quotas.is_some()).map_err(context)?;
        } else {
            let plugin = plugin::find(&volume.driver).map_err(context)?;
            // Somebody else may have made it.
            if plugin.get(&name).map_err(context)?.is_none() {
                plugin.create(&name, &volume.options).map_err(context)?;
            }
            volume.scope = plugin.scope();
        }
        self.add(volume)
    }

    /// A volume that is there already, refused if it is another driver's than the one asked for.
    fn existing(&self, name: &str, driver: &str) -> Result<Option<Volume>> {
        let found = match self.get(name) {
            None if !driver.is_empty() => None,
            _ => self.find(name)?,
        };
        let Some(found) = found else { return Ok(None) };
        if !driver.is_empty() && driver != found.driver {
            if driver != DRIVER {
                plugin::find(driver)?;
            }
            return Err(Error::conflict(format!(
                "driver '{}' already has volume '{name}': volume name must be unique",
                found.driver
            )));
        }
        Ok(Some(found))
    }

    fn forget(&self, name: &str) -> Result<()> {
        self.database.delete_document(Table::Volumes, name)?;
        self.known.lock().remove(name);
        Ok(())
    }

    fn add(&self, volume: Volume) -> Result<(Volume, bool)> {
        let name = volume.name.clone();
        let mut known = self.known.lock();
        if let Some(other) = known.get(&name) {
            return Ok((other.clone(), false));
        }
        self.database
            .save_document(Table::Volumes, &name, &volume)?;
        if volume.driver == DRIVER
            && let Err(error) = self.make_place(&volume)
        {
            self.database.delete_document(Table::Volumes, &name)?;
            return Err(error);
        }
        known.insert(name, volume.clone());
        Ok((volume, true))
    }

    /// A volume's directory, limited if that was asked for.
    fn make_place(&self, volume: &Volume) -> Result<()> {
        make_directory(&self.root.join(&volume.name))?;
        let size = local_options::size(&volume.options)?;
        if let (Some(bytes), Some(quotas)) = (size, &self.quotas) {
            quotas
                .limit(&self.data(&volume.name), bytes)
                .map_err(|error| Error::caused("limit the volume's size", error))?;
        }
        Ok(())
    }

    /// Removes a volume and its data. The caller has made sure that nobody uses it. `discard` takes a directory away at once.
    /// `purge`: it is forgotten even when its driver refuses or cannot be asked.
    pub fn remove(
        &self,
        name: &str,
        purge: bool,
        discard: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<()> {
        let volume = self.get(name).ok_or_else(|| no_such(name))?;
        if volume.driver != DRIVER {
            let removed = plugin::find(&volume.driver).and_then(|plugin| plugin.remove(name));
            if let Err(error) = removed {
                let error = error.context(format!("remove {name}"));
                if !purge {
                    return Err(error);
                }
                tracing::warn!(%error, "the volume is forgotten as it was to be removed by force");
            }
            return self.forget(name);
        }
        if mounting::needs_mount(&volume) {
            local_options::take_down(&self.data(name))?;
        }
        if let Some(quotas) = &self.quotas
            && let Err(error) = quotas.release(&self.data(name))
        {
            tracing::warn!(volume = name, %error, "the limit of a removed volume stays");
        }
        let mut known = self.known.lock();
        self.database.delete_document(Table::Volumes, name)?;
        if let Err(error) = discard(&self.root.join(name)) {
            self.database.save_document(Table::Volumes, name, &volume)?;
            return Err(Error::caused("remove volume", error));
        }
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

fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> (tempfile::TempDir, Volumes) {
        let dir = tempfile::tempdir().expect("dir");
        let database = Arc::new(Database::open(&dir.path().join("db")).expect("database"));
        let volumes = Volumes::open(dir.path().join("volumes"), database).expect("open");
        (dir, volumes)
    }

    fn named(name: &str, driver: &str) -> NewVolume {
        NewVolume {
            name: name.into(),
            driver: driver.into(),
            ..NewVolume::default()
        }
    }

    #[test]
    fn creating_twice_gives_the_first() {
        let (_dir, volumes) = volumes();
        let labels = Some([("a".to_owned(), "b".to_owned())].into());
        let (first, new) = volumes
            .create(NewVolume {
                labels,
                ..named("data", "")
            })
            .expect("create");
        assert!(new && volumes.data("data").is_dir());
        let (second, new) = volumes.create(named("data", "local")).expect("create");
        assert!(!new && first == second);
        let error = volumes.create(named("data", "other")).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "create data: error looking up volume plugin other: plugin \"other\" not found"
        );
        volumes
            .remove("data", false, |path| std::fs::remove_dir_all(path))
            .expect("remove");
        assert!(volumes.get("data").is_none() && !volumes.data("data").exists());
    }

    #[test]
    fn names_and_drivers_are_checked() {
        let (_dir, volumes) = volumes();
        for (name, driver, message) in [
            (
                "a",
                "",
                "create a: volume name is too short, names should be at least two alphanumeric characters",
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
            let error = volumes.create(named(name, driver)).expect_err("refused");
            assert_eq!(error.to_string(), message);
        }
        let (volume, _) = volumes.create(NewVolume::default()).expect("anonymous");
        assert!(volume.is_anonymous());
    }

    #[test]
    fn directories_without_a_row_are_volumes() {
        let (dir, volumes) = volumes();
        let (root, database) = (dir.path().join("volumes"), volumes.database.clone());
        std::fs::create_dir_all(root.join("found/_data")).expect("created");
        std::fs::create_dir_all(root.join("not-one")).expect("created");
        let again = Volumes::open(root, database).expect("open");
        let names: Vec<String> = again.all().into_iter().map(|volume| volume.name).collect();
        assert_eq!(names, ["found"]);
    }
}
