//! `docker load`.

use std::io::Read;

use wharf_api::progress::Progress;
use wharf_store::load::{LoadEvent, LoadOptions, LoadedReference};

use super::signed;
use crate::{Engine, Error, Result, blocking};

/// Bytes between two lines of progress, as Docker has it.
const STEP: u64 = 512 * 1024;

impl Engine {
    /// Takes in an archive and reports as `docker load` prints. `quiet` leaves the progress of layers out.
    pub async fn image_load(
        &self,
        archive: impl Read + Send + 'static,
        quiet: bool,
        sink: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<()> {
        self.image_load_platform(archive, quiet, "", sink).await
    }

    /// As [`Engine::image_load`], but only images for `platform` unless it is empty.
    pub async fn image_load_platform(
        &self,
        archive: impl Read + Send + 'static,
        quiet: bool,
        platform: &str,
        sink: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<()> {
        let platform = super::import::platform(platform)?;
        self.finish(move |engine| async move {
            blocking(move || engine.load_now(archive, &LoadOptions { platform }, quiet, &sink))
                .await
        })
        .await
    }

    fn load_now(
        &self,
        archive: impl Read + Send,
        options: &LoadOptions,
        quiet: bool,
        sink: &(impl Fn(Progress) + Sync),
    ) -> Result<()> {
        let mut report = Report {
            engine: self,
            quiet,
            sink,
            last: (String::new(), 0),
            ids: Vec::new(),
            named: false,
        };
        self.store
            .load(archive, options, &mut |event| report.event(event))
            .map_err(Error::from)?;
        report.finish();
        Ok(())
    }
}

/// Turns events of the store into lines.
struct Report<'a, S> {
    engine: &'a Engine,
    quiet: bool,
    sink: &'a S,
    /// Layer and position of the last line of progress.
    last: (String, u64),
    ids: Vec<String>,
    /// The last image had names.
    named: bool,
}

impl<S: Fn(Progress)> Report<'_, S> {
    fn event(&mut self, event: LoadEvent) {
        match event {
            LoadEvent::Layer { id, current, total } => self.layer(id, current, total),
            LoadEvent::Image { id, references } => {
                self.named = !references.is_empty();
                references
                    .iter()
                    .for_each(|reference| self.reference(reference));
                self.ids.push(format!("Loaded image ID: {id}\n"));
                self.engine.tell_image("load", &id, id.as_str());
            }
        }
    }

    fn layer(&mut self, id: String, current: u64, total: u64) {
        let due = self.last.0 != id || current == total || current >= self.last.1 + STEP;
        if self.quiet || !due {
            return;
        }
        (self.sink)(Progress::position(
            id.clone(),
            "Loading layer",
            signed(current),
            signed(total),
        ));
        self.last = (id, current);
    }

    fn reference(&self, loaded: &LoadedReference) {
        let name = loaded.reference.familiar();
        if let Some(previous) = &loaded.previous {
            (self.sink)(Progress::stream(format!(
                "The image {name} already exists, renaming the old one with ID {previous} to empty string\n"
            )));
        }
        (self.sink)(Progress::stream(format!("Loaded image: {name}\n")));
    }

    /// Docker shows IDs where there was no name to show.
    fn finish(self) {
        if !self.named && !self.ids.is_empty() {
            (self.sink)(Progress::stream(self.ids.concat()));
        }
    }
}
