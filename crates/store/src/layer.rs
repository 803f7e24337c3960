//! Read-only layers: records, chains, and which of them nothing needs any more.

use std::collections::HashMap;

use wharf_spec::digest::{ChainId, DiffId};

/// One read-only layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name: itself and all below.
    pub chain: ChainId,
    /// Digest of its tar.
    pub diff: DiffId,
    /// The layer below.
    pub parent: Option<ChainId>,
    /// Name of its directory in `overlay2/`.
    pub cache: String,
    /// Name of its short link in `overlay2/l/`.
    pub link: String,
    /// Bytes in it, as Docker counts.
    pub size: u64,
    /// Bytes of its tar.
    pub tar_size: u64,
}

/// The layers from `top` to the bottom; shorter if one is missing.
pub(crate) fn chain_of<'a>(
    layers: &'a HashMap<ChainId, Layer>,
    top: Option<&ChainId>,
) -> Vec<&'a Layer> {
    let mut chain = Vec::new();
    let mut next = top;
    while let Some(layer) = next.and_then(|id| layers.get(id)) {
        chain.push(layer);
        next = layer.parent.as_ref();
    }
    chain
}

/// Layers from `top` downwards that fall once `top` itself is no longer wanted, in this order. `wanted` says what still holds a layer
/// other than a layer above it.
pub(crate) fn plan_release(
    layers: &HashMap<ChainId, Layer>,
    top: Option<&ChainId>,
    wanted: impl Fn(&ChainId) -> bool,
) -> Vec<ChainId> {
    // The usual case, on the path of every removed container: the image is still there.
    if top.is_none_or(&wanted) {
        return Vec::new();
    }
    let mut children: HashMap<&ChainId, usize> = HashMap::new();
    for parent in layers.values().filter_map(|layer| layer.parent.as_ref()) {
        *children.entry(parent).or_default() += 1;
    }
    let mut released = Vec::new();
    for layer in chain_of(layers, top) {
        let expected = usize::from(!released.is_empty());
        if wanted(&layer.chain) || children.get(&layer.chain).copied().unwrap_or(0) > expected {
            break;
        }
        released.push(layer.chain.clone());
    }
    released
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::digest::Digest;

    fn layer(diff: &str, parent: Option<&ChainId>) -> Layer {
        let diff = DiffId(Digest::of(diff.as_bytes()));
        Layer {
            chain: ChainId::above(parent, &diff),
            diff,
            parent: parent.cloned(),
            cache: String::new(),
            link: String::new(),
            size: 0,
            tar_size: 0,
        }
    }

    #[test]
    fn releases_down_to_what_is_shared() {
        let base = layer("base", None);
        let left = layer("left", Some(&base.chain));
        let right = layer("right", Some(&base.chain));
        let top = layer("top", Some(&left.chain));
        let layers: HashMap<_, _> = [&base, &left, &right, &top]
            .into_iter()
            .map(|l| (l.chain.clone(), l.clone()))
            .collect();
        let nothing = |_: &ChainId| false;
        assert_eq!(
            plan_release(&layers, Some(&top.chain), nothing),
            [top.chain.clone(), left.chain.clone()]
        );
        assert_eq!(
            plan_release(&layers, Some(&left.chain), nothing),
            [],
            "top needs it"
        );
        assert_eq!(
            plan_release(&layers, Some(&top.chain), |id| *id == left.chain),
            std::slice::from_ref(&top.chain)
        );
        assert_eq!(plan_release(&layers, None, nothing), []);
    }
}
