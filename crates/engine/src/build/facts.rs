//! What a build is known to have used: told to our own client, which makes provenance and caches of it.

use serde_json::{Value, json};
use wharf_api::progress::Progress;
use wharf_build::solve::Outcome;
use wharf_spec::digest::Digest;

use super::worker::EngineWorker;

impl EngineWorker {
    /// The line `{"aux": {"wharf.build": {…}}}`.
    pub(super) fn facts(&self, outcome: &Outcome) -> Progress {
        let bases: Vec<Value> = self
            .bases
            .lock()
            .iter()
            .map(|(name, id)| json!({"name": name, "id": id, "digests": self.digests(id)}))
            .collect();
        let facts = json!({
            "image": outcome.image,
            "stages": outcome.stages,
            "bases": bases,
            "contexts": self.options.extras.contexts.keys().collect::<Vec<_>>(),
        });
        Progress {
            aux: Some(json!({ "wharf.build": facts })),
            ..Progress::default()
        }
    }

    /// Digests by which registries know an image.
    fn digests(&self, id: &str) -> Vec<String> {
        let Ok(id) = Digest::parse(id) else {
            return Vec::new();
        };
        let known = self.engine.store.manifests_of(&id).unwrap_or_default();
        known
            .into_iter()
            .map(|manifest| manifest.digest.to_string())
            .collect()
    }
}
