//! What is sent ahead of a build: `--build-context`, `--secret`, and caches that lie in files.

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::context;
use crate::client::request::Request;
use crate::failure::{Failure, errno_text};
use crate::session::Session;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Uploaded {
    id: String,
}

/// Sends something; gives the ID by which the build takes it.
pub(super) fn send(session: &Session, kind: &str, body: &mut dyn Read) -> Result<String, Failure> {
    let request = Request::post("/wharf/build/uploads")
        .query("kind", kind)
        .stream(body, "application/x-tar");
    Ok(session.client.json::<Uploaded>(request)?.id)
}

/// `--build-context name=value` as the daemon takes it.
pub(super) fn named_context(session: &Session, text: &str) -> Result<(String, String), Failure> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| {
            Failure::new(format!("invalid context value: {text}, expected key=value"))
        })?;
    if value.starts_with("docker-image://") || context::is_remote(value) {
        return Ok((name.to_owned(), value.to_owned()));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        let mut tar = layout_tar(layout)?;
        let id = send(session, "images", &mut tar)?;
        return Ok((name.to_owned(), format!("upload:{id}")));
    }
    if !Path::new(value).is_dir() {
        return Err(Failure::new(format!(
            "failed to get build context path {{{value}}}: no such directory"
        )));
    }
    let mut tar = context::tar_of(Path::new(value))?;
    let id = send(session, "context", &mut tar)?;
    Ok((name.to_owned(), format!("upload:{id}")))
}

/// The one image of a layout that `path[:tag][@digest]` names, as an archive without names.
fn layout_tar(text: &str) -> Result<Box<dyn Read>, Failure> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let directory = Path::new(path);
    let read = |name: &str| {
        let file = directory.join(name);
        std::fs::read(&file).map_err(|error| {
            Failure::new(format!("open {}: {}", file.display(), errno_text(&error)))
        })
    };
    let invalid = |error: serde_json::Error| Failure::new(format!("{path}/index.json: {error}"));
    let mut index: Value = serde_json::from_slice(&read("index.json")?).map_err(invalid)?;
    let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    let wanted = |entry: &&Value| {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str();
        digest.is_none_or(|digest| entry["digest"] == digest)
            && tag.is_none_or(|tag| {
                name.is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
            })
    };
    let mut found = manifests.iter().find(wanted).cloned().or_else(|| {
        // A digest that the index does not list names a manifest of the layout.
        digest.map(|digest| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 0})
        })
    });
    let Some(entry) = found.as_mut() else {
        return Err(Failure::new(format!("no image {text} in the layout")));
    };
    if let Some(entry) = entry.as_object_mut() {
        entry.remove("annotations");
    }
    index["manifests"] = json!([entry]);
    let mut archive = tar::Builder::new(tempfile()?);
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all("blobs", directory.join("blobs"))?;
    for (name, bytes) in [
        ("index.json", index.to_string().into_bytes()),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    rewound(archive.into_inner()?)
}

/// A directory that `--cache-to type=local` wrote, as an archive.
pub(super) fn directory_tar(directory: &Path) -> Result<Box<dyn Read>, Failure> {
    let mut archive = tar::Builder::new(tempfile()?);
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all("", directory)?;
    rewound(archive.into_inner()?)
}

fn rewound(mut file: File) -> Result<Box<dyn Read>, Failure> {
    use std::io::Seek as _;
    file.flush()?;
    file.rewind()?;
    Ok(Box::new(io::BufReader::with_capacity(1 << 18, file)))
}

/// A file without a name.
pub(super) fn tempfile() -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(std::env::temp_dir(), flags, Mode::from_raw_mode(0o600))?.into())
}

/// All secrets.
pub(super) fn secrets(session: &Session, given: &[String]) -> Result<String, Failure> {
    let secrets = super::secret::read(given)?;
    if secrets.is_empty() {
        return Ok(String::new());
    }
    send(
        session,
        "secrets",
        &mut Cursor::new(json!(secrets).to_string().into_bytes()),
    )
}
