//! All containers, by id and by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Container, names};
use crate::{Error, Result, ids};

/// The containers of one engine.
#[derive(Debug, Default)]
pub struct Registry {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    containers: BTreeMap<String, Arc<Container>>,
    /// Name without slash to id. A name may be reserved before its container exists.
    names: HashMap<String, String>,
}

impl Registry {
    /// Finds by full id, name (with or without slash), or unique id prefix, in this order.
    pub fn get(&self, key: &str) -> Result<Arc<Container>> {
        if key.is_empty() {
            return Err(Error::invalid(format!(
                "invalid name or ID supplied: {key:?}"
            )));
        }
        let tables = self.tables.read();
        if let Some(container) = tables.containers.get(key) {
            return Ok(container.clone());
        }
        let name = key.strip_prefix('/').unwrap_or(key);
        if let Some(container) = tables
            .names
            .get(name)
            .and_then(|id| tables.containers.get(id))
        {
            return Ok(container.clone());
        }
        tables.by_prefix(key)
    }

    /// Finds by full id only.
    pub fn by_id(&self, id: &str) -> Option<Arc<Container>> {
        self.tables.read().containers.get(id).cloned()
    }

    /// All containers.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.tables.read().containers.values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tables.read().containers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a container whose name is reserved or free.
    pub fn add(&self, container: Arc<Container>) {
        let mut tables = self.tables.write();
        tables.names.insert(container.name(), container.id.clone());
        tables.containers.insert(container.id.clone(), container);
    }

    /// Forgets a container and its name.
    pub fn remove(&self, id: &str) {
        let mut tables = self.tables.write();
        tables.containers.remove(id);
        tables.names.retain(|_, owner| owner != id);
    }

    /// Gives a name to an id, or refuses with Docker's words. Empty makes one up. Returns the name without slash.
    pub fn reserve(&self, wanted: &str, id: &str) -> Result<String> {
        if wanted.is_empty() {
            return Ok(self.reserve_generated(id));
        }
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        if !names::is_valid(name) {
            return Err(Error::invalid(format!(
                "Invalid container name ({wanted}), only {} are allowed",
                names::ALLOWED
            )));
        }
        let mut tables = self.tables.write();
        match tables.names.get(name) {
            Some(owner) if owner != id => Err(Error::name_taken(name, owner)),
            _ => {
                tables.names.insert(name.to_owned(), id.to_owned());
                Ok(name.to_owned())
            }
        }
    }

    fn reserve_generated(&self, id: &str) -> String {
        let mut tables = self.tables.write();
        let name = (0..6)
            .map(names::generate)
            .find(|name| !tables.names.contains_key(name))
            .unwrap_or_else(|| ids::short(id).to_owned());
        tables.names.insert(name.clone(), id.to_owned());
        name
    }

    /// Gives a name back.
    pub fn release(&self, name: &str) {
        self.tables.write().names.remove(name);
    }
}

impl Tables {
    fn by_prefix(&self, prefix: &str) -> Result<Arc<Container>> {
        let mut found = self
            .containers
            .range(prefix.to_owned()..)
            .take_while(|(id, _)| id.starts_with(prefix))
            .map(|(_, container)| container);
        match (found.next(), found.next()) {
            (Some(container), None) => Ok(container.clone()),
            (None, _) => Err(Error::no_such_container(prefix)),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {prefix}"
            ))),
        }
    }
}
