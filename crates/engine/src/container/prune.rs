//! `POST /containers/prune`.

use wharf_api::container::ContainerPruneReport;
use wharf_api::filters::Filters;

use super::remove::Removal;
use super::status::Status;
use crate::{Engine, Error, Result};

const FILTERS: [&str; 3] = ["label", "label!", "until"];

impl Engine {
    /// Deletes containers that do not run.
    pub async fn container_prune(&self, filters: Filters) -> Result<ContainerPruneReport> {
        filters.validate(&FILTERS)?;
        let until = until(&filters)?;
        let mut report = ContainerPruneReport::default();
        for container in self.containers.all() {
            let record = container.record();
            let chosen = matches!(
                container.status(),
                Status::Created | Status::Exited | Status::Dead
            ) && until.is_none_or(|until| record.created_ns <= until)
                && filters.matches_labels("label", record.config.labels.as_ref())
                && !crate::matches_unwanted(&filters, record.config.labels.as_ref());
            if !chosen {
                continue;
            }
            let (store, id) = (self.store.clone(), container.id.clone());
            let size = crate::blocking(move || Ok(store.rw_size(&id)?.0))
                .await
                .unwrap_or(0);
            match self.remove_by_id(&container.id, Removal::default()).await {
                Ok(()) => {
                    report.space_reclaimed += size;
                    report
                        .containers_deleted
                        .get_or_insert_default()
                        .push(container.id.clone());
                }
                Err(error) => tracing::warn!(container = container.id, %error, "not pruned"),
            }
        }
        let reclaimed = report.space_reclaimed.to_string();
        self.events.publish(
            "container",
            "prune",
            "",
            [("reclaimed".to_owned(), reclaimed)].into(),
        );
        Ok(report)
    }
}

fn until(filters: &Filters) -> Result<Option<i64>> {
    match filters.get("until") {
        [] => Ok(None),
        [text] => wharf_api::time::parse_filter_time(text, jiff::Timestamp::now())
            .map(Some)
            .map_err(|error| Error::invalid(error.to_string())),
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}
