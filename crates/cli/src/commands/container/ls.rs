//! `ps`

use jiff::Timestamp;
use wharf_api::container::{ContainerSummary, Port};
use wharf_api::filters::Filters;

use crate::client::request::Request;
use crate::commands::filter;
use crate::commands::listing::{Listing, Row, ellipsis, short_id};
use crate::failure::Failure;
use crate::flags::parse::{Matches, quote};
use crate::print;
use crate::session::Session;
use crate::text::{age, size};

const CONTAINERS: Listing = Listing {
    type_name: "*formatter.ContainerContext",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
    raw: Some([
        "container_id: {{.ID}}",
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels:{{pad .Labels 1 0}}\nports:{{pad .Ports 1 0}}\n",
    ]),
};

/// `ps`
///
/// # Errors
/// The daemon refuses, or the format does not fit.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let format = match matches.text_or_empty("format") {
        "" if !matches.on("quiet") => session.config().ps_format.clone(),
        format => format.to_owned(),
    };
    let listing = listing(matches.on("size"));
    let format = if matches.on("quiet") && !format.is_empty() {
        print::error_line(
            "WARNING: Ignoring custom format, because both --format and --quiet are set.",
        );
        String::new()
    } else {
        format
    };
    if !matches!(format.as_str(), "" | "table" | "raw" | "json") {
        listing.try_format(&format.replace("\\t", "\t").replace("\\n", "\n"))?;
    }
    let with_size = matches.on("size") || (!matches.on("quiet") && listing.uses(&format, "Size"));
    let filters = filter::filters(matches);
    let last = if matches.on("latest") {
        1
    } else {
        matches.int("last").unwrap_or(-1)
    };
    let containers = fetch(session, matches.on("all"), last, with_size, &filters)?;
    let now = Timestamp::now();
    let truncate = !matches.on("no-trunc");
    let rows: Vec<Row> = containers
        .iter()
        .map(|container| row(container, truncate, now))
        .collect();
    print::out(&listing.render(&format, matches.on("quiet"), &rows)?)
}

fn listing(with_size: bool) -> Listing {
    if with_size {
        return Listing {
            table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
            ..CONTAINERS
        };
    }
    CONTAINERS
}

/// Asks for containers; `last` above 0 asks for that many of the newest ones, whatever their state.
///
/// # Errors
/// The daemon refuses.
pub fn fetch(
    session: &Session,
    all: bool,
    last: i64,
    with_size: bool,
    filters: &Filters,
) -> Result<Vec<ContainerSummary>, Failure> {
    let request = Request::get("/containers/json")
        .query_if(all, "all", "1")
        .query_if(last > 0, "limit", last.to_string())
        .query_if(with_size, "size", "1")
        .query_if(!filters.is_empty(), "filters", filters.to_query());
    Ok(session.client.json(request)?)
}

/// A row of the listing.
pub fn row(container: &ContainerSummary, truncate: bool, now: Timestamp) -> Row {
    let command = if truncate {
        ellipsis(&container.command, 20)
    } else {
        container.command.clone()
    };
    let id = if truncate {
        short_id(&container.id)
    } else {
        container.id.clone()
    };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            }
        })
        .map(|name| {
            if truncate {
                ellipsis(name, 15)
            } else {
                name.clone()
            }
        })
        .collect();
    let local = container
        .mounts
        .iter()
        .filter(|mount| mount.driver == "local")
        .count();
    let networks: Vec<&str> = container
        .network_settings
        .networks
        .keys()
        .map(String::as_str)
        .collect();
    Row::new()
        .with("Command", quote(&command))
        .with("CreatedAt", age::go_time(container.created))
        .with("ID", id)
        .with("Image", image(container, truncate))
        .with_labels(Some(&container.labels))
        .with("LocalVolumes", local.to_string())
        .with("Mounts", mounts.join(","))
        .with("Names", names(container, truncate))
        .with("Networks", networks.join(","))
        .with("Platform", serde_json::Value::Null)
        .with("Ports", ports(&container.ports))
        .with("RunningFor", age::since_unix(container.created, now))
        .with("Size", sizes(container))
        .with("State", container.state.clone())
        .with("Status", container.status.clone())
}

/// The container's own name; `link/alias` names of other containers only when nothing is cut.
fn names(container: &ContainerSummary, truncate: bool) -> String {
    let mut names = container
        .names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name));
    if truncate {
        return names
            .find(|name| !name.contains('/'))
            .unwrap_or_default()
            .to_owned();
    }
    names.collect::<Vec<_>>().join(",")
}

/// The image as it was named; a digest behind the name is cut.
fn image(container: &ContainerSummary, truncate: bool) -> String {
    let image = &container.image;
    if image.is_empty() {
        return "<no image>".into();
    }
    if !truncate {
        return image.clone();
    }
    if short_id(image) == short_id(&container.image_id) {
        return short_id(image);
    }
    let image = image.split('@').next().unwrap_or(image);
    image
        .strip_prefix("docker.io/library/")
        .or_else(|| image.strip_prefix("docker.io/"))
        .unwrap_or(image)
        .to_owned()
}

fn sizes(container: &ContainerSummary) -> String {
    let own = size::decimal_short(container.size_rw);
    if container.size_root_fs > 0 {
        return format!(
            "{own} (virtual {})",
            size::decimal_short(container.size_root_fs)
        );
    }
    own
}

/// Ports as `0.0.0.0:8080->80/tcp, 9000-9002/tcp`: consecutive ones of a kind are one range when each is published
/// under its own number or not at all; the others come last.
pub fn ports(ports: &[Port]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.kind).cmp(&(
            b.private_port,
            &b.ip,
            b.public_port,
            &b.kind,
        ))
    });
    let mut groups: Vec<(String, u16, u16)> = Vec::new();
    let (mut result, mut mapped) = (Vec::new(), Vec::new());
    for port in &ports {
        let mut key = port.kind.clone();
        if !port.ip.is_empty() {
            if port.public_port != port.private_port {
                mapped.push(format!(
                    "{}->{}/{}",
                    host_port(&port.ip, &port.public_port.to_string()),
                    port.private_port,
                    port.kind
                ));
                continue;
            }
            key = format!("{}/{}", port.ip, port.kind);
        }
        match groups.iter_mut().find(|(known, ..)| *known == key) {
            None => groups.push((key, port.private_port, port.private_port)),
            Some((_, _, last)) if port.private_port == *last + 1 => *last = port.private_port,
            Some((_, first, last)) => {
                result.push(group(&key, *first, *last));
                (*first, *last) = (port.private_port, port.private_port);
            }
        }
    }
    result.extend(
        groups
            .iter()
            .map(|(key, first, last)| group(key, *first, *last)),
    );
    result.extend(mapped);
    result.join(", ")
}

fn group(key: &str, first: u16, last: u16) -> String {
    let range = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    match key.rsplit_once('/') {
        Some((ip, kind)) => format!("{}->{range}/{kind}", host_port(ip, &range)),
        None => format!("{range}/{key}"),
    }
}

fn host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16, kind: &str) -> Port {
        Port {
            ip: ip.into(),
            private_port: private,
            public_port: public,
            kind: kind.into(),
        }
    }

    #[test]
    fn ports_as_docker_groups_them() {
        for (given, expected) in [
            (vec![], ""),
            (vec![port("", 0, 80, "tcp")], "80/tcp"),
            (
                vec![
                    port("0.0.0.0", 8080, 80, "tcp"),
                    port("::", 8080, 80, "tcp"),
                ],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                vec![
                    port("", 0, 81, "tcp"),
                    port("", 0, 80, "tcp"),
                    port("", 0, 90, "udp"),
                ],
                "80-81/tcp, 90/udp",
            ),
            (
                vec![
                    port("1.2.3.4", 80, 80, "tcp"),
                    port("1.2.3.4", 81, 81, "tcp"),
                ],
                "1.2.3.4:80-81->80-81/tcp",
            ),
            (
                vec![port("", 0, 80, "tcp"), port("", 0, 82, "tcp")],
                "80/tcp, 82/tcp",
            ),
        ] {
            assert_eq!(ports(&given), expected);
        }
    }

    #[test]
    fn golden_row() {
        let container = ContainerSummary {
            id: "0123456789abcdef".into(),
            names: vec!["/other/alias".into(), "/web".into()],
            image: "docker.io/library/busybox:latest@sha256:00".into(),
            image_id: "sha256:ffff".into(),
            command: "sleep 1000000000000000000".into(),
            created: 1_000_000,
            state: "running".into(),
            status: "Up 2 minutes".into(),
            ..ContainerSummary::default()
        };
        let now = Timestamp::from_second(1_000_000 + 3 * 3600).expect("a time");
        let text = CONTAINERS
            .render("", false, &[row(&container, true, now)])
            .expect("renders");
        assert_eq!(
            text,
            "CONTAINER ID   IMAGE            COMMAND                  CREATED       STATUS         PORTS     NAMES\n\
             0123456789ab   busybox:latest   \"sleep 1000000000000…\"   3 hours ago   Up 2 minutes             web\n"
        );
    }
}
