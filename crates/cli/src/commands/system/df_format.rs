//! `system df -v --format`: one template over all that uses disk, each object with the fields that its own listing has.

use jiff::Timestamp;
use serde_json::{Value, json};
use wharf_api::system::DiskUsage;

use crate::commands::container::ls as containers;
use crate::commands::image::ls as images;
use crate::commands::image::reference;
use crate::commands::listing::Row;
use crate::commands::volume;
use crate::failure::Failure;
use crate::print;
use crate::text::age;
use crate::text::size::{as_float, decimal};
use wharf_template::{Data, Template};

/// Prints it, as Docker without a newline of its own.
///
/// # Errors
/// The template is none or does not fit.
pub(super) fn print(usage: &DiskUsage, format: &str) -> Result<(), Failure> {
    let template = Template::parse(format)
        .map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
    let value = value(usage, Timestamp::now());
    let data = Data::row(&value, "*formatter.diskUsageContext").with_escaped_json();
    let text = template
        .render(&data)
        .map_err(|error| Failure::new(error.to_string()))?;
    print::out(&text)
}

fn value(usage: &DiskUsage, now: Timestamp) -> Value {
    let images = usage.images.iter().flatten().map(|image| {
        let name = image
            .repo_tags
            .first()
            .map_or("<none>:<none>", String::as_str);
        let (repository, tag) = reference::split(name);
        let name = [repository.to_owned(), tag.to_owned(), String::new()];
        images::row(image, &name, false, now)
            .with("Containers", image.containers.max(0).to_string())
            .value()
    });
    let containers = usage.containers.iter().flatten();
    let containers = containers.map(|container| containers::row(container, false, now).value());
    let volumes = usage.volumes.iter().flatten();
    let volumes = volumes.map(|volume| volume::row(volume).value());
    let moment = |text: &str| {
        let at: Option<Timestamp> = text.parse().ok();
        at.map_or(String::new(), |at| age::since(at, now))
    };
    let cache = usage.build_cache.iter().flatten().map(|record| {
        let used = record.last_used_at.as_deref().unwrap_or_default();
        Row::new()
            .with("CacheType", record.kind.clone())
            .with("CreatedAt", record.created_at.clone())
            .with("CreatedSince", moment(&record.created_at))
            .with("Description", record.description.clone())
            .with("ID", record.id.clone())
            .with("InUse", record.in_use.to_string())
            .with("LastUsedAt", used)
            .with("LastUsedSince", moment(used))
            .with("Parent", record.parent.clone())
            .with("Shared", record.shared.to_string())
            .with("Size", decimal(as_float(record.size)))
            .with("UsageCount", record.usage_count.to_string())
            .value()
    });
    json!({
        "Images": images.collect::<Vec<_>>(),
        "Containers": containers.collect::<Vec<_>>(),
        "Volumes": volumes.collect::<Vec<_>>(),
        "BuildCache": cache.collect::<Vec<_>>(),
    })
}
