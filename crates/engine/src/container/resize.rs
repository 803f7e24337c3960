//! `POST /containers/{id}/resize`.

use wharf_runtime::client::Target;

use crate::{Engine, Error, Result};

impl Engine {
    /// Sets the size of a container's terminal.
    pub async fn container_resize(&self, name: &str, rows: u16, cols: u16) -> Result<()> {
        let container = self.containers.get(name)?;
        let live = container.running()?;
        live.monitor
            .resize(Target::Init, rows, cols)
            .await
            .map_err(|error| Error::caused("resize", error))?;
        let (height, width) = (rows.to_string(), cols.to_string());
        self.tell(
            &container,
            "resize",
            &[("height", &height), ("width", &width)],
        );
        Ok(())
    }
}
