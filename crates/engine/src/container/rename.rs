//! `POST /containers/{id}/rename`.

use crate::{Engine, Error, Result};

impl Engine {
    /// Gives a container another name.
    pub async fn container_rename(&self, old: &str, new: &str) -> Result<()> {
        let (old, new) = (old.trim(), new.trim());
        if old.trim_start_matches('/').is_empty() || new.trim_start_matches('/').is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let container = self.containers.get(old)?;
        let old_name = container.name();
        if new.strip_prefix('/').unwrap_or(new) == old_name {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        let new_name = self
            .containers
            .reserve(
                &format!("/{}", new.strip_prefix('/').unwrap_or(new)),
                &container.id,
            )
            .map_err(|error| error.context("Error when allocating new name"))?;
        if let Err(error) =
            container.edit_record(&self.database, |record| record.name.clone_from(&new_name))
        {
            self.containers.release(&new_name);
            return Err(error);
        }
        self.containers.release(&old_name);
        self.refresh_names_of(&container).await;
        self.tell(
            &container,
            "rename",
            &[("oldName", &format!("/{old_name}"))],
        );
        Ok(())
    }
}
