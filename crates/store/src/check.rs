//! Looks for damage and mends what can be mended from here: what rows say against what is on disk.
//!
//! A layer is whole if its recipe gives the tar of its diff ID again: that reads every file of it. Layers that are not cannot be made up;
//! whoever knows where they came from gets them again and gives them to [`Store::replace_layer`].

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use wharf_spec::digest::{Algorithm, ChainId, DiffId, Digest, Hasher};

use crate::drivers::{LayerDir, init_name};
use crate::error::StoreError;
use crate::layer::Layer;
use crate::recipe;
use crate::store::Store;

/// A removal under way takes no longer.
const SETTLE: Duration = Duration::from_millis(300);

/// Something that nothing refers to.
#[derive(Debug, PartialEq, Eq)]
enum Orphan {
    Dir(String),
    Link(String),
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A directory or short name that no row names.
    Orphan(String),
    /// A layer without its short name.
    Link(ChainId),
    /// A layer whose content is not, or not any more, what it should be.
    Layer(DamagedLayer),
    /// A layer kept for a pull, likewise.
    Parked(DiffId, String),
    /// A kept compressed layer that is not what it should be.
    Blob(Digest, String),
    /// An image whose config does not have its digest, or whose layers are not all there.
    Image(Digest, String),
    /// A container without its directory.
    Container(String),
}

/// A layer to get again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedLayer {
    /// Its name.
    pub chain: ChainId,
    /// Its content.
    pub diff: DiffId,
    /// What is wrong with it.
    pub why: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Layers looked at.
    pub layers: usize,
    /// Images looked at.
    pub images: usize,
    /// What is wrong; `true` if it was mended.
    pub problems: Vec<(Problem, bool)>,
}

impl Store {
    /// Checks everything. Blocking, and as slow as reading all layers. With `repair`, orphans go, short names come back, and damaged parked
    /// layers and kept blobs are dropped.
    pub fn check(&self, repair: bool) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        self.check_orphans(repair, &mut report)?;
        self.check_layers(repair, &mut report);
        self.check_parked(repair, &mut report)?;
        self.check_kept(repair, &mut report)?;
        self.check_images(&mut report);
        self.check_containers(&mut report);
        Ok(report)
    }

    fn check_orphans(&self, repair: bool, report: &mut CheckReport) -> Result<(), StoreError> {
        let mut orphans = self.find_orphans()?;
        if !orphans.is_empty() {
            // What is on its way out has no row any more and is gone in a moment.
            std::thread::sleep(SETTLE);
            let still = self.find_orphans()?;
            orphans.retain(|orphan| still.contains(orphan));
        }
        for orphan in orphans {
            let (name, dir) = match &orphan {
                Orphan::Dir(cache) => (cache, LayerDir { cache, link: "" }),
                Orphan::Link(link) => (link, LayerDir { cache: "", link }),
            };
            let mended = repair && self.driver.remove(dir).is_ok();
            report
                .problems
                .push((Problem::Orphan(name.clone()), mended));
        }
        Ok(())
    }

    /// Directories and short names that no row has, and that nothing under way is making.
    fn find_orphans(&self) -> Result<Vec<Orphan>, StoreError> {
        let home = self.driver.layer_dir("");
        let (dirs, links) = self.driver.list().map_err(StoreError::io("list", &home))?;
        // After the list: what is made meanwhile is not in it.
        let (known_dirs, known_links) = self.known_names();
        let dirs = dirs.into_iter().filter(|dir| !known_dirs.contains(dir));
        let links = links.into_iter().filter(|link| !known_links.contains(link));
        Ok(dirs
            .map(Orphan::Dir)
            .chain(links.map(Orphan::Link))
            .collect())
    }

    /// Names that rows have, and those of layers being unpacked.
    fn known_names(&self) -> (HashSet<String>, HashSet<String>) {
        let staging = self.staging.lock().clone();
        let state = self.state.lock();
        let (mut dirs, mut links): (HashSet<String>, HashSet<String>) = staging.into_iter().unzip();
        for layer in state.layers.values() {
            dirs.insert(layer.cache.clone());
            links.insert(layer.link.clone());
        }
        for parked in state.parked.values() {
            dirs.insert(parked.cache.clone());
            links.insert(parked.link.clone());
        }
        for container in state.containers.values() {
            dirs.extend([container.cache.clone(), init_name(&container.cache)]);
        }
        (dirs, links)
    }

    fn check_layers(&self, repair: bool, report: &mut CheckReport) {
        let layers: Vec<Layer> = self.state.lock().layers.values().cloned().collect();
        for layer in layers {
            report.layers += 1;
            let damage = self.content_damage(&layer.cache, &layer.diff);
            // Removed while it was looked at.
            if !self.state.lock().layers.contains_key(&layer.chain) {
                continue;
            }
            if let Some(why) = damage {
                let damaged = DamagedLayer {
                    chain: layer.chain.clone(),
                    diff: layer.diff.clone(),
                    why,
                };
                report.problems.push((Problem::Layer(damaged), false));
                continue;
            }
            let dir = LayerDir {
                cache: &layer.cache,
                link: &layer.link,
            };
            if !self.driver.is_linked(dir) {
                let mended = repair && self.driver.relink(dir).is_ok();
                report
                    .problems
                    .push((Problem::Link(layer.chain.clone()), mended));
            }
        }
    }

    /// Why the directory does not give the tar with this diff ID, if it does not.
    fn content_damage(&self, cache: &str, diff: &DiffId) -> Option<String> {
        let mut hash = HashWriter(Algorithm::Sha256.hasher());
        match recipe::write_tar(&self.driver.layer_dir(cache), &mut hash) {
            Err(error) => Some(error.to_string()),
            Ok(()) => {
                let found = hash.0.finish();
                (found != diff.0).then(|| format!("its files were changed: they make {found}"))
            }
        }
    }

    fn check_parked(&self, repair: bool, report: &mut CheckReport) -> Result<(), StoreError> {
        let parked: Vec<_> = self.state.lock().parked.values().cloned().collect();
        for parked in parked {
            let Some(why) = self.content_damage(&parked.cache, &parked.diff) else {
                continue;
            };
            if !self.state.lock().parked.contains_key(&parked.diff) {
                continue;
            }
            if repair {
                self.drop_parked(&parked.diff)?;
            }
            report
                .problems
                .push((Problem::Parked(parked.diff, why), repair));
        }
        Ok(())
    }

    /// Blobs can be done without: a damaged one is dropped, a missing one is no damage.
    fn check_kept(&self, repair: bool, report: &mut CheckReport) -> Result<(), StoreError> {
        let known = self.state.lock().db.rows().blobs_of_layers()?;
        for blob in self.kept() {
            let problem = if !known.contains(&blob) {
                Problem::Orphan(blob.hex().to_owned())
            } else {
                match hash_file(&self.kept_path(&blob)) {
                    Ok(found) if found == blob => continue,
                    Ok(found) => Problem::Blob(
                        blob.clone(),
                        format!("its bytes were changed: they make {found}"),
                    ),
                    // Removed with its layer meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => Problem::Blob(blob.clone(), error.to_string()),
                }
            };
            if repair {
                self.drop_kept(&blob);
            }
            report.problems.push((problem, repair));
        }
        Ok(())
    }

    fn check_images(&self, report: &mut CheckReport) {
        let state = self.state.lock();
        report.images = state.images.len();
        for image in state.images.values() {
            let wrong = if !image.id.verify(&image.raw) {
                Some("its config does not have its digest".to_owned())
            } else {
                let chains = ChainId::chain(image.config.diff_ids());
                let missing = chains
                    .into_iter()
                    .find(|chain| !state.layers.contains_key(chain));
                missing.map(|chain| format!("layer {chain} is not stored"))
            };
            if let Some(why) = wrong {
                report
                    .problems
                    .push((Problem::Image(image.id.clone(), why), false));
            }
        }
    }

    fn check_containers(&self, report: &mut CheckReport) {
        let state = self.state.lock();
        for (id, container) in &state.containers {
            if !self.driver.layer_dir(&container.cache).is_dir() {
                report
                    .problems
                    .push((Problem::Container(id.clone()), false));
            }
        }
    }

    /// Puts the parked copy of a layer's content in the place of a damaged one. Containers that have it mounted keep what they have; those that
    /// start later get the new one.
    pub fn replace_layer(&self, chain: &ChainId) -> Result<(), StoreError> {
        if !self.driver.is_union() {
            return Err(StoreError::Invalid(format!(
                "layers above it hold copies of it with the storage driver {}",
                self.driver.name()
            )));
        }
        let _one = self.assembling.lock();
        let mut state = self.state.lock();
        let gone = || StoreError::NotFound(format!("layer {chain} is not stored"));
        let old = state.layers.get(chain).cloned().ok_or_else(gone)?;
        let parked = state.parked.get(&old.diff).cloned().ok_or_else(gone)?;
        let lower: Vec<(String, String)> = state
            .dirs(old.parent.as_ref())
            .iter()
            .map(|dir| (dir.cache.to_owned(), dir.link.to_owned()))
            .collect();
        let lower: Vec<LayerDir<'_>> = lower
            .iter()
            .map(|(cache, link)| LayerDir { cache, link })
            .collect();
        // Layers above name this one by its short name, so the new directory takes it over.
        let dir = LayerDir {
            cache: &parked.cache,
            link: &old.link,
        };
        let path = self.driver.layer_dir(&parked.cache);
        let written = self
            .driver
            .relink(dir)
            .and_then(|()| self.driver.commit_layer(dir, &lower));
        written.map_err(StoreError::io("write", &path))?;
        let layer = Layer {
            cache: parked.cache.clone(),
            ..old.clone()
        };
        state.db.transaction(|rows| {
            rows.delete_parked(&parked.diff)?;
            rows.delete_layer(chain)?;
            rows.insert_layer(&layer)
        })?;
        state.parked.remove(&parked.diff);
        state.layers.insert(chain.clone(), layer);
        drop(state);
        for (cache, link) in [(old.cache.as_str(), ""), ("", parked.link.as_str())] {
            if let Err(error) = self.driver.remove(LayerDir { cache, link }) {
                tracing::warn!(layer = %chain, %error, "damaged directory is left for the next start");
            }
        }
        Ok(())
    }
}

fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut hash = HashWriter(Algorithm::Sha256.hasher());
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.0.finish())
}

struct HashWriter(Hasher);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
