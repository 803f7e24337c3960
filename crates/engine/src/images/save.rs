//! `docker save`.

use std::io::Write;

use wharf_spec::digest::Digest;
use wharf_store::save::SavePlan;

use crate::{Engine, Result};

impl Engine {
    /// Finds the images to save; what is missing is known before the first byte is sent.
    pub async fn image_save_plan(&self, names: &[String]) -> Result<SavePlan> {
        self.image_save_plan_platform(names, "").await
    }

    /// As [`Engine::image_save_plan`], refusing images that are not for `platform` unless it is empty.
    pub async fn image_save_plan_platform(
        &self,
        names: &[String],
        platform: &str,
    ) -> Result<SavePlan> {
        let platform = super::import::platform(platform)?;
        Ok(self.store.plan_save(names, platform.as_ref())?)
    }

    /// Writes the archive. Blocking.
    pub fn image_save(&self, plan: SavePlan, out: &mut dyn Write) -> Result<()> {
        self.store.save(&plan, out)?;
        let ids: Vec<Digest> = plan.image_ids().cloned().collect();
        ids.iter()
            .for_each(|id| self.tell_image("save", id, id.as_str()));
        Ok(())
    }
}
