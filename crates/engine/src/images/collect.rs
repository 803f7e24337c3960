//! Images that go by themselves: those nobody has used for long, and the longest unused when all together are too large. Off unless configured.
//! An image that a container has, running or not, never goes.

use std::collections::{HashMap, HashSet};
use std::sync::Weak;
use std::time::{Duration, Instant};

use wharf_spec::digest::{ChainId, Digest};

use crate::{Engine, Result, blocking};

/// Between two looks, where nothing asks for more.
const INTERVAL: Duration = Duration::from_secs(600);
/// Where there is a limit of size.
const SIZE_INTERVAL: Duration = Duration::from_secs(10);
/// Never more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// What an interrupted pull left is kept so long for the next attempt.
const PARKED_FOR: Duration = Duration::from_secs(24 * 3600);

/// When images go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectLimits {
    /// Unused for so long.
    pub age: Option<Duration>,
    /// Bytes of all images.
    pub size: Option<u64>,
}

/// An image as this sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    id: Digest,
    /// Seconds since 1970.
    used: i64,
    /// Its layers and their bytes; others may have them too.
    layers: Vec<(ChainId, u64)>,
    in_use: bool,
}

/// Looks from time to time, as long as there is an engine.
pub(crate) fn start(engine: Weak<Engine>) {
    tokio::spawn(async move {
        let mut last = Instant::now();
        loop {
            // Short naps, because a reload may ask for more.
            tokio::time::sleep(SHORTEST).await;
            let Some(engine) = engine.upgrade() else {
                return;
            };
            if last.elapsed() < interval(engine.settings().image_gc) {
                continue;
            }
            last = Instant::now();
            if let Err(error) = engine.collect_images().await {
                tracing::warn!(%error, "images were not collected");
            }
        }
    });
}

/// How often to look: images go at most a quarter of their age late.
fn interval(limits: CollectLimits) -> Duration {
    let by_age = limits.age.map_or(INTERVAL, |age| age / 4);
    let by_size = limits.size.map_or(INTERVAL, |_| SIZE_INTERVAL);
    by_age.min(by_size).clamp(SHORTEST, INTERVAL)
}

impl Engine {
    /// Notes which images are used, then removes those that are to go. Returns them.
    pub async fn collect_images(&self) -> Result<Vec<Digest>> {
        let Some(engine) = self.handle() else {
            return Ok(Vec::new());
        };
        blocking(move || engine.collect_now()).await
    }

    fn collect_now(&self) -> Result<Vec<Digest>> {
        self.store.remove_partial(PARKED_FOR);
        self.store.remove_parked(PARKED_FOR)?;
        self.store.collect_kept()?;
        let used: HashSet<String> = self
            .containers
            .all()
            .iter()
            .map(|container| container.record().image_id.clone())
            .collect();
        let now = jiff::Timestamp::now().as_second();
        let images = self.store.images();
        for image in images
            .iter()
            .filter(|image| used.contains(image.id.as_str()))
        {
            self.store.note_used(&image.id, now)?;
        }
        let limits = self.settings().image_gc;
        if limits == CollectLimits::default() {
            return Ok(Vec::new());
        }
        let times = self.store.used_times()?;
        let candidates = images.iter().map(|image| Candidate {
            used: times.get(&image.id).copied().unwrap_or(now),
            layers: self
                .store
                .layers_of(image)
                .into_iter()
                .map(|layer| (layer.chain, layer.size))
                .collect(),
            in_use: used.contains(image.id.as_str())
                || !self.store.children_of(&image.id).is_empty(),
            id: image.id.clone(),
        });
        let gone = plan(candidates.collect(), limits, now);
        for id in &gone {
            tracing::info!(image = %id, "removing an image that has not been used for long");
            self.remove_image_now(id.as_str(), true, true)?;
        }
        Ok(gone)
    }
}

/// Which images go: first those past their age, then the longest unused until the rest fits. What several have counts once, and goes with the last.
fn plan(mut images: Vec<Candidate>, limits: CollectLimits, now: i64) -> Vec<Digest> {
    images.sort_by_key(|image| image.used);
    let (mut users, mut total) = (HashMap::<ChainId, usize>::new(), 0_u64);
    for (layer, size) in images.iter().flat_map(|image| &image.layers) {
        let count = users.entry(layer.clone()).or_default();
        *count += 1;
        if *count == 1 {
            total += size;
        }
    }
    let mut gone = Vec::new();
    for image in images.into_iter().filter(|image| !image.in_use) {
        let age = Duration::from_secs(u64::try_from(now - image.used).unwrap_or(0));
        let old = limits.age.is_some_and(|limit| age > limit);
        let too_much = limits.size.is_some_and(|limit| total > limit);
        if !old && !too_much {
            continue;
        }
        for (layer, size) in &image.layers {
            let count = users.entry(layer.clone()).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                total = total.saturating_sub(*size);
            }
        }
        gone.push(image.id);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_images_go_and_then_the_longest_unused() {
        let image = |name: &str, used: i64, in_use: bool| Candidate {
            id: Digest::of(name.as_bytes()),
            used,
            // One of their own, and a large one that all have.
            layers: ["all", name]
                .iter()
                .zip([100, 10])
                .map(|(layer, size)| {
                    let diff = wharf_spec::digest::DiffId(Digest::of(layer.as_bytes()));
                    (ChainId::base(&diff), size)
                })
                .collect(),
            in_use,
        };
        let images = vec![
            image("a", 100, false),
            image("b", 10, true),
            image("c", 50, false),
            image("d", 90, false),
        ];
        for (age, size, expected) in [
            (None, None, vec![]),
            (Some(40), None, vec!["c"]),
            (None, Some(120), vec!["c", "d"]),
            (None, Some(140), vec![]),
            (Some(5), Some(0), vec!["c", "d", "a"]),
        ] {
            let limits = CollectLimits {
                age: age.map(Duration::from_secs),
                size,
            };
            let expected: Vec<Digest> = expected
                .iter()
                .map(|name: &&str| Digest::of(name.as_bytes()))
                .collect();
            assert_eq!(plan(images.clone(), limits, 100), expected, "{limits:?}");
        }
    }
}
