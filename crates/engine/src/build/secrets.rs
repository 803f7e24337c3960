//! Secrets that a step has as variables (`RUN --mount=type=secret,env=…`): in memory alone, for as long as its container lives.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Builds;
use crate::Engine;

/// `NAME=value` by container.
#[derive(Default)]
pub(super) struct StepSecrets(Mutex<HashMap<String, Vec<String>>>);

/// Forgets a container's secrets when it goes.
pub(super) struct Kept {
    engine: Arc<Engine>,
    container: String,
}

impl Builds {
    /// What a container gets besides what its record says.
    pub(crate) fn secret_variables(&self, container: &str) -> Vec<String> {
        let all = self.secrets.0.lock();
        all.get(container).cloned().unwrap_or_default()
    }

    pub(super) fn keep_secrets(
        &self,
        container: &str,
        variables: &[String],
        engine: &Arc<Engine>,
    ) -> Kept {
        if !variables.is_empty() {
            let mut all = self.secrets.0.lock();
            all.insert(container.to_owned(), variables.to_vec());
        }
        Kept {
            engine: engine.clone(),
            container: container.to_owned(),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.engine.builds.secrets.0.lock().remove(&self.container);
    }
}
