//! `images`

use jiff::Timestamp;
use wharf_api::image::ImageSummary;

use super::{reference, tree};
use crate::client::request::Request;
use crate::commands::filter;
use crate::commands::listing::{Listing, Row, short_id};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::{age, size};

const IMAGES: Listing = Listing {
    type_name: "*formatter.imageContext",
    headers: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.ID}}",
    raw: Some([
        "image_id: {{.ID}}",
        "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
    ]),
};

/// `images`
///
/// # Errors
/// The daemon refuses, or the format does not fit.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    if matches.on("tree") {
        return tree::run(session, matches);
    }
    let format = match matches.text_or_empty("format") {
        "" if !matches.on("quiet") => session.config().images_format.clone(),
        format => format.to_owned(),
    };
    let listing = if matches.on("digests") {
        Listing {
            table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
            ..IMAGES
        }
    } else {
        IMAGES
    };
    let mut filters = filter::filters(matches);
    if let Some(name) = matches.args.first() {
        filters.add("reference", name.clone());
    }
    let request = Request::get("/images/json")
        .query_if(matches.on("all"), "all", "1")
        .query_if(!filters.is_empty(), "filters", filters.to_query());
    let images: Vec<ImageSummary> = session.client.json(request)?;
    let with_digests = matches.on("digests") || listing.uses(&format, "Digest");
    let (truncate, now) = (!matches.on("no-trunc"), Timestamp::now());
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| {
            names(image, with_digests)
                .into_iter()
                .map(move |name| (image, name))
        })
        .map(|(image, name)| row(image, &name, truncate, now))
        .collect();
    print::out(&listing.render(&format, matches.on("quiet"), &rows)?)
}

const NONE: &str = "<none>";

/// Repository, tag and digest of one row.
pub type Name = [String; 3];

/// The rows of an image: one for every tag, and one for a digest that no tag stands beside.
fn names(image: &ImageSummary, with_digests: bool) -> Vec<Name> {
    let tags: Vec<(&str, &str)> = image
        .repo_tags
        .iter()
        .filter(|tag| *tag != "<none>:<none>")
        .map(|tag| reference::split(tag))
        .collect();
    let digests: Vec<(&str, &str)> = image
        .repo_digests
        .iter()
        .filter(|digest| *digest != "<none>@<none>")
        .filter_map(|digest| digest.split_once('@'))
        .collect();
    let name = |repository: &str, tag: &str, digest: &str| {
        [repository.to_owned(), tag.to_owned(), digest.to_owned()]
    };
    let mut names = Vec::new();
    for (repository, tag) in &tags {
        let own: Vec<&str> = digests
            .iter()
            .filter(|(other, _)| other == repository)
            .map(|(_, digest)| *digest)
            .collect();
        if !with_digests || own.is_empty() {
            names.push(name(repository, tag, NONE));
        } else {
            names.extend(own.into_iter().map(|digest| name(repository, tag, digest)));
        }
    }
    for (repository, digest) in &digests {
        if tags.iter().any(|(other, _)| other == repository) {
            continue;
        }
        if with_digests {
            names.push(name(repository, NONE, digest));
        } else if !names.iter().any(|known| known[0] == *repository) {
            names.push(name(repository, NONE, NONE));
        }
    }
    if names.is_empty() {
        names.push(name(NONE, NONE, NONE));
    }
    names
}

/// A row of the listing.
pub fn row(
    image: &ImageSummary,
    [repository, tag, digest]: &Name,
    truncate: bool,
    now: Timestamp,
) -> Row {
    let unknown = |value: i64, shown: String| if value == -1 { "N/A".to_owned() } else { shown };
    Row::new()
        .with(
            "Containers",
            // Docker's client does not say how many here.
            "N/A",
        )
        .with("CreatedAt", age::go_time(image.created))
        .with("CreatedSince", created_since(image.created, now))
        .with("Digest", digest.clone())
        .with(
            "ID",
            if truncate {
                short_id(&image.id)
            } else {
                image.id.clone()
            },
        )
        .with("Repository", repository.clone())
        .with(
            "SharedSize",
            unknown(
                image.shared_size,
                size::decimal(size::as_float(image.shared_size)),
            ),
        )
        .with("Size", size::decimal_short(image.size))
        .with("Tag", tag.clone())
        .with(
            "UniqueSize",
            if image.shared_size == -1 {
                "N/A".into()
            } else {
                size::decimal(size::as_float(image.size - image.shared_size))
            },
        )
        .with("VirtualSize", size::decimal(size::as_float(image.size)))
}

fn created_since(created: i64, now: Timestamp) -> String {
    if created <= 0 {
        "N/A".into()
    } else {
        age::since_unix(created, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> ImageSummary {
        ImageSummary {
            id: "sha256:0123456789abcdef".into(),
            repo_tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            repo_digests: digests.iter().map(|d| (*d).to_owned()).collect(),
            created: 1_000_000,
            size: 4_261_550,
            shared_size: -1,
            containers: -1,
            ..ImageSummary::default()
        }
    }

    #[test]
    fn a_row_for_every_tag() {
        let now = Timestamp::from_second(1_000_000 + 14 * 24 * 3600).expect("a time");
        let rows: Vec<Row> = [
            image(&["busybox:latest", "host:5000/b:1"], &["busybox@sha256:aa"]),
            image(&[], &[]),
        ]
        .iter()
        .flat_map(|image| {
            names(image, false)
                .into_iter()
                .map(|name| row(image, &name, true, now))
                .collect::<Vec<_>>()
        })
        .collect();
        assert_eq!(
            IMAGES.render("", false, &rows).expect("renders"),
            "REPOSITORY    TAG       IMAGE ID       CREATED       SIZE\n\
             busybox       latest    0123456789ab   2 weeks ago   4.26MB\n\
             host:5000/b   1         0123456789ab   2 weeks ago   4.26MB\n\
             <none>        <none>    0123456789ab   2 weeks ago   4.26MB\n"
        );
    }

    #[test]
    fn digests_beside_tags_and_alone() {
        let names = names(&image(&["a:1"], &["a@sha256:aa", "b@sha256:bb"]), true);
        assert_eq!(
            names,
            [["a", "1", "sha256:aa"], ["b", NONE, "sha256:bb"]].map(|n| n.map(str::to_owned))
        );
    }
}
