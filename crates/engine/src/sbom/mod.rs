//! Which packages an image has: read from the databases that package managers leave in it, written as SPDX 2.3.
//!
//! Nothing of the image is executed, and none of its files is believed to be well-formed: a database that cannot be read has no packages.

mod apk;
mod dpkg;
mod languages;
mod rpm;
mod spdx;

use serde_json::Value;
use wharf_build::files::Files;
use wharf_spec::digest::Digest;

use crate::{Engine, Error, Result};

/// Type of the statement (in-toto attestation framework, SPDX predicate).
pub(crate) const PREDICATE: &str = "https://spdx.dev/Document";
/// Longest file that is read.
const MAX_FILE: u64 = 64 << 20;

/// One package.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    /// Type of its package URL: `deb`, `apk`, `rpm`, `pypi`, `npm`.
    kind: &'static str,
    name: String,
    version: String,
    architecture: String,
    /// What it was made from, if that has another name.
    source: String,
    license: String,
    supplier: String,
}

/// The distribution, by `os-release`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Distribution {
    id: String,
    version: String,
}

impl Engine {
    /// The list of packages of an image. Blocking.
    pub fn image_sbom(&self, name: &str) -> Result<Value> {
        let image = self.store.image(name)?;
        let names: Vec<String> = self
            .store
            .references_of(&image.id)
            .iter()
            .map(wharf_spec::reference::Reference::familiar)
            .collect();
        let tree = self.tree_of(&image.id)?;
        let packages =
            packages(&*tree).map_err(|error| Error::caused("read the image's files", error))?;
        let title = names
            .first()
            .cloned()
            .unwrap_or_else(|| image.id.to_string());
        let created = image.config.created.clone().unwrap_or_default();
        Ok(spdx::document(
            &title,
            &Digest::clone(&image.id),
            &created,
            &distribution(&*tree),
            &packages,
        ))
    }
}

/// All packages, sorted.
fn packages(files: &dyn Files) -> std::io::Result<Vec<Package>> {
    let mut found = dpkg::packages(files);
    found.extend(apk::packages(files));
    found.extend(rpm::packages(files));
    found.extend(languages::packages(files)?);
    found.sort();
    found.dedup();
    Ok(found)
}

/// A file's text; `None` if there is no such file, or it is too long.
fn text(files: &dyn Files, path: &str) -> Option<String> {
    let bytes = bytes(files, path.as_bytes())?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn bytes(files: &dyn Files, path: &[u8]) -> Option<Vec<u8>> {
    let path = files.resolve(path).ok()?;
    files.content(&path).ok()?.to_vec(MAX_FILE).ok()
}

fn distribution(files: &dyn Files) -> Distribution {
    let text = text(files, "etc/os-release").or_else(|| text(files, "usr/lib/os-release"));
    let text = text.unwrap_or_default();
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
            .unwrap_or_default()
    };
    Distribution {
        id: value("ID"),
        version: value("VERSION_ID"),
    }
}

/// Paragraphs of `Key: value`, as Debian's control files and Python's metadata have them; continued lines are left out.
fn paragraphs(text: &str) -> impl Iterator<Item = Vec<(&str, &str)>> {
    text.split("\n\n").map(|paragraph| {
        paragraph
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key, value.trim()))
            .collect()
    })
}

fn field<'a>(fields: &[(&'a str, &'a str)], name: &str) -> &'a str {
    let found = fields.iter().find(|(key, _)| *key == name);
    found.map_or("", |(_, value)| value)
}
