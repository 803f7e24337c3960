//! What Docker's volumes cannot do: rename, clone, snapshot, export and import.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::os::fd::AsFd;
use std::path::Path;

use wharf_archive::compression::{Compression, MAGIC_LEN};
use wharf_archive::copy::copy_tree;
use wharf_archive::extract::{Destination, Options, extract};
use wharf_archive::pack::{self, Packer};
use wharf_archive::pieces::Pieces;
use wharf_archive::root::{Descriptors, Root};

use super::{DRIVER, NewVolume, Volume, Volumes, check_name, no_such};
use crate::state::Table;
use crate::{Engine, Error, Result, clock};

/// Label of a snapshot: the volume it was taken of.
pub const SNAPSHOT_OF: &str = "wharf.snapshot.of";

/// A volume about to be written as a tar.
#[derive(Debug)]
pub struct VolumeArchive {
    data: std::fs::File,
    _use: Use,
}

/// Access to a volume for the time of a request.
#[derive(Debug)]
struct Use {
    engine: std::sync::Arc<Engine>,
    name: String,
    id: String,
    path: std::path::PathBuf,
}

impl Drop for Use {
    fn drop(&mut self) {
        self.engine.release_volume(&self.name, &self.id);
    }
}

impl Engine {
    /// Gives a volume that nobody uses another name.
    pub async fn volume_rename(&self, name: &str, new: &str) -> Result<()> {
        let users = self.volume_users(name);
        if !users.is_empty() {
            return Err(Error::conflict(format!(
                "rename {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let (volumes, old, new_name) = (self.volumes.clone(), name.to_owned(), new.to_owned());
        crate::blocking(move || volumes.rename(&old, &new_name)).await?;
        let attributes = BTreeMap::from([("oldName".to_owned(), name.to_owned())]);
        self.tell_volume("rename", new, attributes);
        Ok(())
    }

    /// Copies a volume into a new one, sharing file content where the file system can.
    pub async fn volume_clone(&self, name: &str, new: &str) -> Result<Volume> {
        self.copy_volume(name, new, BTreeMap::new()).await
    }

    /// Clones a volume under a name made of the time, or the one given, with a label that says of what.
    pub async fn volume_snapshot(&self, name: &str, new: &str) -> Result<Volume> {
        let new = if new.is_empty() {
            let now = clock::text(Some(clock::now_ns()));
            let digits: String = now.chars().filter(char::is_ascii_digit).take(17).collect();
            format!("{name}-{digits}")
        } else {
            new.to_owned()
        };
        let label = BTreeMap::from([(SNAPSHOT_OF.to_owned(), name.to_owned())]);
        self.copy_volume(name, &new, label).await
    }

    async fn copy_volume(
        &self,
        name: &str,
        new: &str,
        more: BTreeMap<String, String>,
    ) -> Result<Volume> {
        let source = self.volumes.get(name).ok_or_else(|| no_such(name))?;
        let used = self.use_volume(name).await?;
        let mut labels = source.labels.clone().unwrap_or_default();
        labels.remove(super::ANONYMOUS);
        labels.extend(more);
        let size = source.options.get_key_value("size");
        let wanted = NewVolume {
            name: new.to_owned(),
            labels: (!labels.is_empty()).then_some(labels),
            options: size
                .map(|(k, v)| (k.clone(), v.clone()))
                .into_iter()
                .collect(),
            ..NewVolume::default()
        };
        let (volumes, store) = (self.volumes.clone(), self.store.clone());
        let volume = crate::blocking(move || {
            let (volume, is_new) = volumes.create(wanted)?;
            if !is_new {
                return Err(Error::conflict(format!(
                    "volume {} exists already",
                    volume.name
                )));
            }
            let copied = copy_directory(&used.path, &volumes.data(&volume.name));
            if let Err(error) = copied {
                volumes.remove(&volume.name, false, |path| store.discard(path))?;
                return Err(Error::caused("clone volume", error));
            }
            Ok(volume)
        })
        .await?;
        self.tell_volume("create", &volume.name, BTreeMap::new());
        Ok(volume)
    }

    /// Opens a volume for [`VolumeArchive::write`].
    pub async fn volume_export(&self, name: &str) -> Result<VolumeArchive> {
        let used = self.use_volume(name).await?;
        crate::blocking(move || {
            let data = std::fs::File::open(&used.path)
                .map_err(|error| Error::caused("export volume", error))?;
            Ok(VolumeArchive { data, _use: used })
        })
        .await
    }

    /// Unpacks a tar, plain or compressed, into a volume; it is made when it does not exist.
    pub async fn volume_import(
        &self,
        name: &str,
        archive: impl BufRead + Send + 'static,
    ) -> Result<Volume> {
        let name = name.to_owned();
        self.finish(move |engine| async move {
            let wanted = NewVolume {
                name: name.clone(),
                ..NewVolume::default()
            };
            let volumes = engine.volumes.clone();
            let (volume, new) = match volumes.get(&name) {
                Some(volume) => (volume, false),
                None => crate::blocking(move || volumes.create(wanted)).await?,
            };
            if new {
                engine.tell_volume("create", &volume.name, BTreeMap::new());
            }
            let used = engine.use_volume(&volume.name).await?;
            crate::blocking(move || unpack(&used.path, archive)).await?;
            Ok(volume)
        })
        .await
    }

    async fn use_volume(&self, name: &str) -> Result<Use> {
        let engine = self
            .handle()
            .ok_or_else(|| Error::internal("the daemon is shutting down"))?;
        let name = name.to_owned();
        crate::blocking(move || {
            let id = crate::ids::random();
            let path = engine.volumes.access(&name, &id)?;
            Ok(Use {
                engine,
                name,
                id,
                path,
            })
        })
        .await
    }
}

impl VolumeArchive {
    /// Writes the tar in pieces; names start with `./`, as `tar -C` makes them. Blocking.
    pub fn write(self, send: impl FnMut(Vec<u8>) -> io::Result<()>) -> Result<()> {
        let failed = |error| Error::caused("export volume", error);
        let descriptors = Descriptors::open().map_err(failed)?;
        let options = pack::Options::default();
        let mut packer = Packer::new(Pieces::new(send), descriptors, options);
        let data = self.data.as_fd().try_clone_to_owned().map_err(failed)?;
        packer
            .directory(data, Some(b"."))
            .and_then(|()| packer.finish())
            .map_err(failed)
    }
}

impl Volumes {
    /// The new row says what is under way, so that the next start finishes what a kill has cut off.
    fn rename(&self, old: &str, new: &str) -> Result<()> {
        check_name(new)?;
        let mut known = self.known.lock();
        if known.contains_key(new) {
            return Err(Error::conflict(format!("volume {new} exists already")));
        }
        let mut volume = known.get(old).cloned().ok_or_else(|| no_such(old))?;
        if volume.driver != DRIVER {
            return Err(Error::invalid(format!(
                "rename {old}: only volumes of the local driver can be renamed"
            )));
        }
        new.clone_into(&mut volume.name);
        old.clone_into(&mut volume.renamed_from);
        self.database.save_document(Table::Volumes, new, &volume)?;
        let moved = std::fs::rename(self.root.join(old), self.root.join(new));
        if let Err(error) = moved {
            self.database.delete_document(Table::Volumes, new)?;
            return Err(Error::caused("rename volume", error));
        }
        let volume = self.renamed(volume)?;
        known.remove(old);
        known.insert(new.to_owned(), volume);
        Ok(())
    }

    /// The directory has its new name: nothing is left of the old one.
    fn renamed(&self, mut volume: Volume) -> Result<Volume> {
        let old = std::mem::take(&mut volume.renamed_from);
        self.database.delete_document(Table::Volumes, &old)?;
        self.database
            .save_document(Table::Volumes, &volume.name, &volume)?;
        Ok(volume)
    }

    pub(super) fn finish_renames(&self) -> Result<()> {
        for volume in self.all() {
            if volume.renamed_from.is_empty() {
                continue;
            }
            let (old, new) = (volume.renamed_from.clone(), volume.name.clone());
            let (from, to) = (self.root.join(&old), self.root.join(&new));
            if !to.exists() {
                std::fs::rename(from, to).map_err(|error| Error::caused("rename volume", error))?;
            }
            let volume = self.renamed(volume)?;
            let mut known = self.known.lock();
            known.remove(&old);
            known.insert(new, volume);
        }
        Ok(())
    }
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (std::fs::File::open(from)?, std::fs::File::open(to)?);
    copy_tree(from.as_fd(), to.as_fd())
}

fn unpack(data: &Path, mut archive: impl BufRead + Send) -> Result<()> {
    let failed = |error| Error::caused("import volume", error);
    let mut start = Vec::with_capacity(MAGIC_LEN);
    (&mut archive)
        .take(MAGIC_LEN as u64)
        .read_to_end(&mut start)
        .map_err(failed)?;
    let compression = Compression::detect(&start);
    let whole = io::Cursor::new(start).chain(archive);
    let plain = compression.reader(whole).map_err(failed)?;
    let root = Root::at(data).map_err(failed)?;
    let destination = Destination {
        root: &root,
        path: b"/",
        shown: b"/",
    };
    extract(
        io::BufReader::with_capacity(256 << 10, plain),
        &destination,
        Options::default(),
        |_| {},
    )
    .map_err(|error| Error::invalid(format!("import volume: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Database;

    #[test]
    fn a_rename_that_was_cut_off_is_finished() {
        for moved in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let database = Database::open(&dir.path().join("db")).expect("a database");
            let database = std::sync::Arc::new(database);
            let root = dir.path().join("volumes");
            let volumes = Volumes::open(root.clone(), database.clone()).expect("open");
            let wanted = NewVolume {
                name: "old".into(),
                ..NewVolume::default()
            };
            let (mut volume, _) = volumes.create(wanted).expect("created");
            std::fs::write(volumes.data("old").join("f"), "data").expect("written");
            // As a kill leaves it before and after the directory has moved.
            volume.name = "new".into();
            volume.renamed_from = "old".into();
            database
                .save_document(Table::Volumes, "new", &volume)
                .expect("saved");
            if moved {
                std::fs::rename(root.join("old"), root.join("new")).expect("renamed");
            }
            drop(volumes);
            let again = Volumes::open(root, database).expect("open");
            let names: Vec<String> = again.all().into_iter().map(|v| v.name).collect();
            assert_eq!(names, ["new"], "moved: {moved}");
            let kept = std::fs::read_to_string(again.data("new").join("f")).expect("kept");
            assert_eq!(kept, "data");
        }
    }
}
