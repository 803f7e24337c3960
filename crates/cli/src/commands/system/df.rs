//! `system df`

use jiff::Timestamp;
use wharf_api::container::ContainerSummary;
use wharf_api::system::DiskUsage;

use super::df_format;
use crate::client::request::Request;
use crate::commands::image::reference;
use crate::commands::listing::{Listing, Row, ellipsis, short_id};
use crate::failure::Failure;
use crate::flags::parse::{Matches, quote};
use crate::print;
use crate::session::Session;
use crate::text::age;
use crate::text::size::{as_float, decimal, decimal_short};

const SUMMARY: Listing = Listing {
    // The first row's: no other is reached when a field is not there.
    type_name: "*formatter.diskUsageImagesContext",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
    raw: Some([
        "",
        "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
    ]),
};

/// `system df`
///
/// # Errors
/// The daemon refuses, or the format does not fit.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let usage: DiskUsage = session.client.json(Request::get("/system/df"))?;
    let format = matches.text_or_empty("format");
    if matches.on("verbose") && !matches!(format, "" | "table") {
        let format = if format == "json" {
            "{{json .}}"
        } else {
            format
        };
        return df_format::print(&usage, format);
    }
    if matches.on("verbose") {
        return print::out(&verbose(&usage)?);
    }
    let rows = [
        images(&usage),
        containers(&usage),
        volumes(&usage),
        build_cache(&usage),
    ];
    print::out(&SUMMARY.render(matches.text_or_empty("format"), false, &rows)?)
}

fn row(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> Row {
    let share = if size > 0 && kind != "Build Cache" {
        format!(
            "{} ({}%)",
            decimal(as_float(reclaimable)),
            reclaimable.saturating_mul(100) / size
        )
    } else {
        decimal(as_float(reclaimable))
    };
    Row::new()
        .with("Active", active.to_string())
        .with("Reclaimable", share)
        .with("Size", decimal(as_float(size)))
        .with("TotalCount", total.to_string())
        .with("Type", kind)
}

fn images(usage: &DiskUsage) -> Row {
    let images = usage.images.as_deref().unwrap_or_default();
    let active: Vec<_> = images.iter().filter(|image| image.containers > 0).collect();
    let used: i64 = active
        .iter()
        .filter(|image| image.size != -1 && image.shared_size != -1)
        .map(|image| image.size - image.shared_size)
        .sum();
    row(
        "Images",
        images.len(),
        active.len(),
        usage.layers_size,
        usage.layers_size - used,
    )
}

fn is_active(container: &ContainerSummary) -> bool {
    matches!(
        container.state.as_str(),
        "running" | "paused" | "restarting"
    )
}

fn containers(usage: &DiskUsage) -> Row {
    let containers = usage.containers.as_deref().unwrap_or_default();
    let active = containers
        .iter()
        .filter(|container| is_active(container))
        .count();
    let total = containers.iter().map(|container| container.size_rw).sum();
    let idle = containers
        .iter()
        .filter(|container| !is_active(container))
        .map(|container| container.size_rw)
        .sum();
    row("Containers", containers.len(), active, total, idle)
}

fn volumes(usage: &DiskUsage) -> Row {
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let known: Vec<_> = volumes
        .iter()
        .filter_map(|volume| volume.usage_data.as_ref())
        .filter(|usage| usage.size != -1)
        .collect();
    let active = volumes
        .iter()
        .filter(|volume| {
            volume
                .usage_data
                .as_ref()
                .is_some_and(|usage| usage.ref_count > 0)
        })
        .count();
    let total = known.iter().map(|usage| usage.size).sum();
    let idle = known
        .iter()
        .filter(|usage| usage.ref_count == 0)
        .map(|usage| usage.size)
        .sum();
    row("Local Volumes", volumes.len(), active, total, idle)
}

fn build_cache(usage: &DiskUsage) -> Row {
    let records = usage.build_cache.as_deref().unwrap_or_default();
    let active = records.iter().filter(|record| record.in_use).count();
    let own = || records.iter().filter(|record| !record.shared);
    row(
        "Build Cache",
        records.len(),
        active,
        own().map(|record| record.size).sum(),
        own()
            .filter(|record| !record.in_use)
            .map(|record| record.size)
            .sum(),
    )
}

fn verbose(usage: &DiskUsage) -> Result<String, Failure> {
    let now = Timestamp::now();
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        image_table(usage, now)?,
        container_table(usage, now)?,
        volume_table(usage)?,
        decimal(as_float(
            usage
                .build_cache
                .iter()
                .flatten()
                .filter(|record| !record.shared)
                .map(|record| record.size)
                .sum()
        )),
        cache_table(usage, now)?,
    ))
}

fn table(
    headers: &'static [(&'static str, &'static str)],
    template: &'static str,
    rows: &[Row],
) -> Result<String, Failure> {
    Listing {
        type_name: "*formatter.diskUsageContext",
        headers,
        table: template,
        quiet: "",
        raw: None,
    }
    .render("", false, rows)
}

fn image_table(usage: &DiskUsage, now: Timestamp) -> Result<String, Failure> {
    let rows: Vec<Row> = usage
        .images
        .iter()
        .flatten()
        .map(|image| {
            let name = image
                .repo_tags
                .first()
                .map_or("<none>:<none>", String::as_str);
            let (repository, tag) = reference::split(name);
            Row::new()
                .with("Repository", repository)
                .with("Tag", tag)
                .with("ID", short_id(&image.id))
                .with("Created", age::since_unix(image.created, now))
                .with("Size", decimal_short(image.size))
                .with("Shared", decimal(as_float(image.shared_size.max(0))))
                .with(
                    "Unique",
                    decimal(as_float(image.size - image.shared_size.max(0))),
                )
                .with("Containers", image.containers.max(0).to_string())
        })
        .collect();
    table(
        &[
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("ID", "IMAGE ID"),
            ("Created", "CREATED"),
            ("Size", "SIZE"),
            ("Shared", "SHARED SIZE"),
            ("Unique", "UNIQUE SIZE"),
            ("Containers", "CONTAINERS"),
        ],
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Created}}\t{{.Size}}\t{{.Shared}}\t{{.Unique}}\t{{.Containers}}",
        &rows,
    )
}

fn container_table(usage: &DiskUsage, now: Timestamp) -> Result<String, Failure> {
    let rows: Vec<Row> = usage
        .containers
        .iter()
        .flatten()
        .map(|container| {
            let local = container
                .mounts
                .iter()
                .filter(|mount| mount.driver == "local")
                .count();
            let names: Vec<&str> = container
                .names
                .iter()
                .map(|name| name.trim_start_matches('/'))
                .collect();
            Row::new()
                .with("ID", short_id(&container.id))
                .with("Image", container.image.clone())
                .with("Command", quote(&ellipsis(&container.command, 20)))
                .with("Volumes", local.to_string())
                .with("Size", decimal_short(container.size_rw))
                .with("Created", age::since_unix(container.created, now))
                .with("Status", container.status.clone())
                .with("Names", names.join(","))
        })
        .collect();
    table(
        &[
            ("ID", "CONTAINER ID"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("Volumes", "LOCAL VOLUMES"),
            ("Size", "SIZE"),
            ("Created", "CREATED"),
            ("Status", "STATUS"),
            ("Names", "NAMES"),
        ],
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Volumes}}\t{{.Size}}\t{{.Created}}\t{{.Status}}\t{{.Names}}",
        &rows,
    )
}

fn volume_table(usage: &DiskUsage) -> Result<String, Failure> {
    let rows: Vec<Row> = usage
        .volumes
        .iter()
        .flatten()
        .map(|volume| {
            let (links, size) = volume
                .usage_data
                .as_ref()
                .map_or((0, 0), |usage| (usage.ref_count, usage.size));
            Row::new()
                .with("Name", volume.name.clone())
                .with("Links", links.to_string())
                .with("Size", decimal(as_float(size)))
        })
        .collect();
    table(
        &[
            ("Name", "VOLUME NAME"),
            ("Links", "LINKS"),
            ("Size", "SIZE"),
        ],
        "{{.Name}}\t{{.Links}}\t{{.Size}}",
        &rows,
    )
}

fn cache_table(usage: &DiskUsage, now: Timestamp) -> Result<String, Failure> {
    let rows: Vec<Row> = usage
        .build_cache
        .iter()
        .flatten()
        .map(|record| {
            Row::new()
                .with("ID", record.id.chars().take(12).collect::<String>())
                .with("Type", record.kind.clone())
                .with("Size", decimal(as_float(record.size)))
                .with("Created", moment(&record.created_at, now))
                .with(
                    "Used",
                    record
                        .last_used_at
                        .as_deref()
                        .map_or(String::new(), |at| moment(at, now)),
                )
                .with("Usage", record.usage_count.to_string())
                .with("Shared", record.shared.to_string())
        })
        .collect();
    table(
        &[
            ("ID", "CACHE ID"),
            ("Type", "CACHE TYPE"),
            ("Size", "SIZE"),
            ("Created", "CREATED"),
            ("Used", "LAST USED"),
            ("Usage", "USAGE"),
            ("Shared", "SHARED"),
        ],
        "{{.ID}}\t{{.Type}}\t{{.Size}}\t{{.Created}}\t{{.Used}}\t{{.Usage}}\t{{.Shared}}",
        &rows,
    )
}

/// How long ago an RFC 3339 time was.
fn moment(text: &str, now: Timestamp) -> String {
    text.parse().map_or(String::new(), |at| age::since(at, now))
}
