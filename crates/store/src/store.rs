//! The store itself: opening, names.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use wharf_spec::digest::{ChainId, DiffId, Digest};

use crate::chunk::ChunkWriter;
use crate::db::Db;
use crate::drivers::{Choice, Driver, LayerDir, choose};
use crate::error::StoreError;
use crate::fsck;
use crate::image::{ImageRecord, parse_config};
use crate::kept::StoreSettings;
use crate::parked::Parked;
use crate::pipeline::{Pipeline, Staged};
use crate::state::State;
use crate::trash::Trash;
use crate::{recipe, reserve};
use wharf_archive::compression::Compression;

/// Where and how to store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Directory of all state.
    pub data_root: PathBuf,
    /// Which driver.
    pub driver: Choice,
}

/// All image data of one data root. Cheap to clone; one per data root and machine.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) trash: Arc<Trash>,
    /// Held while an image is put together from parked layers.
    pub(crate) assembling: Arc<Mutex<()>>,
    /// Directories and short names of layers being unpacked.
    pub(crate) staging: Arc<Mutex<HashMap<String, String>>>,
    pub(crate) partial_dir: Arc<PathBuf>,
    pub(crate) kept_dir: Arc<PathBuf>,
    pub(crate) reserve: Arc<PathBuf>,
    pub(crate) settings: Arc<RwLock<StoreSettings>>,
}

impl Store {
    /// Opens or creates; removes what no row refers to.
    pub fn open(config: StoreConfig) -> Result<Store, StoreError> {
        let root = &config.data_root;
        std::fs::create_dir_all(root).map_err(StoreError::io("create", root))?;
        let driver = choose(root, &config.driver)?;
        let home = root.join(driver.name());
        let mut state = State::load(Db::open(&root.join(database_name(driver.name())))?)?;
        fsck::release_unreachable(&mut state)?;
        fsck::drop_torn(&mut state, &*driver)?;
        state.db.rows().delete_unknown_blobs()?;
        fsck::clear_leftovers(&state, &*driver).map_err(StoreError::io("clear", &home))?;
        let trash = root.join("trash");
        let trash = Trash::open(trash.clone()).map_err(StoreError::io("create", &trash))?;
        let kept_dir = Arc::new(root.join("blobs").join(driver.name()));
        let store = Store {
            state: Arc::new(Mutex::new(state)),
            driver,
            trash: Arc::new(trash),
            assembling: Arc::default(),
            staging: Arc::default(),
            partial_dir: Arc::new(root.join("partial")),
            kept_dir,
            reserve: Arc::new(root.join("reserve")),
            settings: Arc::default(),
        };
        store.collect_kept()?;
        reserve::ensure(&store.reserve);
        Ok(store)
    }

    /// Removes a directory below the data root: it is gone when this returns, its space a moment later.
    pub fn discard(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.trash.discard(path)
    }

    /// Takes back what is mounted on the host for the store alone. Whatever needs it again mounts it again.
    pub fn close(&self) {
        self.driver.close();
    }

    /// The storage driver, for `info`.
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }
}

/// Each driver has its own images, as in Docker: layers of one are worth nothing to another.
fn database_name(driver: &str) -> String {
    match driver {
        "overlay2" => "wharf.db".to_owned(),
        other => format!("images-{other}.db"),
    }
}

/// Layers an operation relies on. Dropping it lets go, and removes those that nothing else wants.
#[derive(Debug)]
pub(crate) struct Pins {
    store: Store,
    chains: Vec<ChainId>,
}

impl Pins {
    pub(crate) fn new(store: &Store) -> Pins {
        Pins {
            store: store.clone(),
            chains: Vec::new(),
        }
    }

    /// Keeps a layer; `false` if it is not there.
    pub(crate) fn pin(&mut self, chain: &ChainId) -> bool {
        let store = self.store.clone();
        let mut state = store.state.lock();
        let there = state.layers.contains_key(chain);
        if there {
            self.keep(&mut state, chain.clone());
        }
        there
    }

    /// Keeps some layer of this content; `false` if there is none.
    pub(crate) fn pin_by_diff(&mut self, diff: &DiffId) -> bool {
        let store = self.store.clone();
        let mut state = store.state.lock();
        let chain = state.layer_by_diff(diff).map(|layer| layer.chain.clone());
        let there = chain.is_some();
        if let Some(chain) = chain {
            self.keep(&mut state, chain);
        }
        there
    }

    /// Under the caller's lock.
    pub(crate) fn keep(&mut self, state: &mut State, chain: ChainId) {
        *state.pins.entry(chain.clone()).or_default() += 1;
        self.chains.push(chain);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.store.state.lock();
        for chain in &self.chains {
            if let Some(count) = state.pins.get_mut(chain) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(chain);
                }
            }
        }
        // The last pinned is the topmost.
        let mut removed = Vec::new();
        for chain in self.chains.iter().rev() {
            match state.release(chain) {
                Ok(layers) => removed.extend(layers),
                Err(error) => {
                    tracing::warn!(layer = %chain, %error, "unwanted layer is left for the next start")
                }
            }
        }
        drop(state);
        self.store.remove_layer_dirs(&removed);
    }
}

impl Store {
    /// Puts an unpacked layer above `parent`, which the caller has pinned.
    pub(crate) fn register_layer(
        &self,
        staged: Staged,
        parent: Option<&ChainId>,
        pins: &mut Pins,
    ) -> Result<ChainId, StoreError> {
        let lower = self.lower_dirs(parent);
        let lower: Vec<LayerDir<'_>> = lower
            .iter()
            .map(|(cache, link)| LayerDir { cache, link })
            .collect();
        let path = self.driver.layer_dir(staged.dir().cache);
        self.driver
            .commit_layer(staged.dir(), &lower)
            .map_err(StoreError::io("write", &path))?;
        let chain = ChainId::above(parent, &staged.diff);
        let mut state = self.state.lock();
        // Somebody else may have loaded the same layer meanwhile; then this copy is dropped.
        if !state.layers.contains_key(&chain) {
            let layer = staged.into_layer(parent);
            if let Err(error) = state.db.rows().insert_layer(&layer) {
                drop(state);
                self.remove_layer_dirs(&[layer]);
                return Err(error.into());
            }
            state.layers.insert(chain.clone(), layer);
        }
        pins.keep(&mut state, chain.clone());
        Ok(chain)
    }

    /// Puts a parked layer above `parent`, which the caller has pinned. In one transaction it gets its place and is parked no more.
    pub(crate) fn register_parked(
        &self,
        parked: Parked,
        parent: Option<&ChainId>,
        pins: &mut Pins,
    ) -> Result<(), StoreError> {
        let lower = self.lower_dirs(parent);
        let lower: Vec<LayerDir<'_>> = lower
            .iter()
            .map(|(cache, link)| LayerDir { cache, link })
            .collect();
        let path = self.driver.layer_dir(&parked.cache);
        let dir = LayerDir {
            cache: &parked.cache,
            link: &parked.link,
        };
        if let Err(error) = self.driver.commit_layer(dir, &lower) {
            // Half in its place, it is of no use: the next attempt fetches it again.
            self.drop_parked(&parked.diff)?;
            return Err(StoreError::io("write", &path)(error));
        }
        let mut state = self.state.lock();
        let layer = parked.into_layer(parent);
        let chain = layer.chain.clone();
        if !state.layers.contains_key(&chain) {
            state.db.transaction(|rows| {
                rows.delete_parked(&layer.diff)?;
                rows.insert_layer(&layer)
            })?;
            state.parked.remove(&layer.diff);
            state.layers.insert(chain.clone(), layer);
        }
        pins.keep(&mut state, chain);
        Ok(())
    }

    pub(crate) fn lower_dirs(&self, parent: Option<&ChainId>) -> Vec<(String, String)> {
        let state = self.state.lock();
        state
            .dirs(parent)
            .iter()
            .map(|dir| (dir.cache.to_owned(), dir.link.to_owned()))
            .collect()
    }

    /// Adds an image whose layers are there; returns its ID. An image that exists stays as it is.
    pub(crate) fn add_image(&self, raw: &[u8]) -> Result<Digest, StoreError> {
        let id = Digest::of(raw);
        let config = parse_config(raw)?;
        self.check_depth(&config)?;
        let record = ImageRecord::new(id.clone(), config, raw);
        let mut state = self.state.lock();
        if !state.images.contains_key(&id) {
            let now = jiff::Timestamp::now().as_second();
            state.db.transaction(|rows| {
                rows.insert_image(&id, raw)?;
                rows.set_used(&id, now)
            })?;
            state.images.insert(id.clone(), record);
        }
        Ok(id)
    }

    /// A second copy of a stored layer's content, to stand above other layers.
    pub(crate) fn copy_layer(&self, diff: &DiffId) -> Result<Staged, StoreError> {
        let cache = self
            .state
            .lock()
            .layer_by_diff(diff)
            .map(|layer| layer.cache.clone());
        let cache = cache
            .ok_or_else(|| StoreError::Conflict(format!("layer {diff} was removed meanwhile")))?;
        let dir = self.driver.layer_dir(&cache);
        let pipeline = Pipeline::start(self, Compression::None)?;
        let written = recipe::write_tar(&dir, &mut ChunkWriter::new(pipeline.input()));
        let staged = pipeline.finish()?;
        written.map_err(StoreError::io("read", &dir))?;
        if staged.diff != *diff {
            return Err(StoreError::Damaged(format!(
                "layer {diff} was changed on disk; its tar now has {}",
                staged.diff
            )));
        }
        Ok(staged)
    }
}

/// A new directory name: 64 hexadecimal digits, as Docker's.
pub(crate) fn new_cache_id() -> Result<String, StoreError> {
    let mut bytes = [0; 32];
    random(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// A new short name: 26 characters of base32, as Docker's.
pub(crate) fn new_link() -> Result<String, StoreError> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = [0; 26];
    random(&mut bytes)?;
    Ok(bytes
        .iter()
        .map(|b| char::from(ALPHABET[usize::from(b & 31)]))
        .collect())
}

fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
    getrandom::fill(bytes)
        .map_err(|error| StoreError::Damaged(format!("no random numbers: {error}")))
}
