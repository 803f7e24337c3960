//! Clears away what interrupted operations left.

use std::collections::HashSet;
use std::io;

use wharf_spec::digest::{ChainId, DiffId};

use crate::drivers::{Driver, LayerDir, init_name};
use crate::state::State;

/// What is on disk and no row names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leftovers {
    dirs: Vec<String>,
    links: Vec<String>,
}

/// Removes rows of layers that neither an image nor a container reaches.
pub(crate) fn release_unreachable(state: &mut State) -> rusqlite::Result<()> {
    let images = state.images.values().filter_map(|image| image.top.as_ref());
    let containers = state
        .containers
        .values()
        .filter_map(|container| container.parent.as_ref());
    let mut reached: HashSet<ChainId> = HashSet::new();
    for top in images.chain(containers) {
        let mut next = Some(top);
        while let Some(layer) = next.and_then(|chain| state.layers.get(chain)) {
            if !reached.insert(layer.chain.clone()) {
                break;
            }
            next = layer.parent.as_ref();
        }
    }
    let lost: Vec<ChainId> = state
        .layers
        .keys()
        .filter(|chain| !reached.contains(chain))
        .cloned()
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    state
        .db
        .transaction(|rows| lost.iter().try_for_each(|chain| rows.delete_layer(chain)))?;
    state.layers.retain(|chain, _| reached.contains(chain));
    Ok(())
}

/// Removes rows of parked layers that a kill caught on the way to their places: what there is of them is neither the one nor the other.
pub(crate) fn drop_torn(state: &mut State, driver: &dyn Driver) -> rusqlite::Result<()> {
    let parked = state.parked.values();
    let torn: Vec<DiffId> = parked
        .filter(|parked| driver.is_placed(&parked.cache))
        .map(|parked| parked.diff.clone())
        .collect();
    if torn.is_empty() {
        return Ok(());
    }
    state
        .db
        .transaction(|rows| torn.iter().try_for_each(|diff| rows.delete_parked(diff)))?;
    state.parked.retain(|diff, _| !torn.contains(diff));
    Ok(())
}

/// Removes directories and links without a row.
pub(crate) fn clear_leftovers(state: &State, driver: &dyn Driver) -> io::Result<()> {
    let (dirs, links) = driver.list()?;
    let leftovers = plan(state, dirs, links);
    let mut waiting = leftovers.dirs.clone();
    // A snapshot goes only after those that were made from it: go on as long as some go. What stays is in nobody's way, and the
    // next start tries again.
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut refused = None;
        waiting.retain(|dir| {
            tracing::info!(dir, "removing a layer nothing refers to");
            let removed = driver.remove(LayerDir {
                cache: dir,
                link: "",
            });
            let stays = removed.is_err();
            refused = removed.err().or(refused.take());
            stays
        });
        if waiting.len() == before {
            tracing::warn!(left = waiting.len(), error = ?refused, "layers nothing refers to could not be removed");
            break;
        }
    }
    for link in &leftovers.links {
        driver.remove(LayerDir { cache: "", link })?;
    }
    Ok(())
}

fn plan(state: &State, dirs: Vec<String>, links: Vec<String>) -> Leftovers {
    let mut known_dirs: HashSet<String> = state
        .layers
        .values()
        .map(|layer| layer.cache.clone())
        .collect();
    let links_of_layers = state.layers.values().map(|layer| layer.link.as_str());
    let links_of_parked = state.parked.values().map(|parked| parked.link.as_str());
    let known_links: HashSet<&str> = links_of_layers.chain(links_of_parked).collect();
    known_dirs.extend(state.parked.values().map(|parked| parked.cache.clone()));
    for container in state.containers.values() {
        known_dirs.extend([container.cache.clone(), init_name(&container.cache)]);
    }
    Leftovers {
        dirs: dirs
            .into_iter()
            .filter(|dir| !known_dirs.contains(dir))
            .collect(),
        links: links
            .into_iter()
            .filter(|link| !known_links.contains(link.as_str()))
            .collect(),
    }
}
