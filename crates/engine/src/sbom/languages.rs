//! Packages of languages: Python's `*.dist-info/METADATA` and Node's `node_modules/*/package.json`.

use std::io;

use serde_json::Value;
use wharf_archive::tar::Kind;
use wharf_build::files::{Files, join};

use super::{Package, bytes, field, paragraphs};

/// Directories that are looked into; what an image has elsewhere is its own.
const ROOTS: [&str; 6] = ["usr", "opt", "app", "srv", "home", "root"];
/// Deeper than any package is.
const MAX_DEPTH: usize = 24;

pub(super) fn packages(files: &dyn Files) -> io::Result<Vec<Package>> {
    let mut found = Vec::new();
    for root in ROOTS {
        look(files, root.as_bytes(), 0, &mut found)?;
    }
    Ok(found)
}

fn look(
    files: &dyn Files,
    directory: &[u8],
    depth: usize,
    found: &mut Vec<Package>,
) -> io::Result<()> {
    let is_directory = files
        .entry(directory)?
        .is_some_and(|node| node.entry.kind == Kind::Directory);
    if !is_directory || depth > MAX_DEPTH {
        return Ok(());
    }
    if directory.ends_with(b".dist-info") {
        found.extend(bytes(files, &join(directory, b"METADATA")).and_then(|text| python(&text)));
        return Ok(());
    }
    let in_modules = parent_name(directory).is_some_and(|parent| {
        parent == b"node_modules"
            || (parent.starts_with(b"@")
                && directory.windows(13).any(|part| part == b"node_modules/"))
    });
    if in_modules {
        found.extend(bytes(files, &join(directory, b"package.json")).and_then(|text| node(&text)));
    }
    for name in files.names(directory)? {
        // Only directories can hold any; most names of files have a dot in them.
        let skipped = [&b".so"[..], b".py", b".js", b".html", b".h"]
            .iter()
            .any(|end| name.ends_with(end));
        if !skipped {
            look(files, &join(directory, &name), depth + 1, found)?;
        }
    }
    Ok(())
}

fn parent_name(path: &[u8]) -> Option<&[u8]> {
    let end = path.iter().rposition(|byte| *byte == b'/')?;
    path[..end].rsplit(|byte| *byte == b'/').next()
}

fn python(metadata: &[u8]) -> Option<Package> {
    let text = String::from_utf8_lossy(metadata);
    let fields = paragraphs(&text).next()?;
    let name = field(&fields, "Name");
    (!name.is_empty()).then(|| Package {
        kind: "pypi",
        name: name.to_lowercase().replace('_', "-"),
        version: field(&fields, "Version").to_owned(),
        license: field(&fields, "License").to_owned(),
        ..Package::default()
    })
}

fn node(package: &[u8]) -> Option<Package> {
    let value: Value = serde_json::from_slice(package).ok()?;
    Some(Package {
        kind: "npm",
        name: value["name"].as_str()?.to_owned(),
        version: value["version"].as_str()?.to_owned(),
        license: value["license"].as_str().unwrap_or_default().to_owned(),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read() {
        let found = python(b"Metadata-Version: 2.1\nName: Flask_Login\nVersion: 0.6\n\nText: x\n");
        assert_eq!(
            found.map(|p| (p.name, p.version)),
            Some(("flask-login".into(), "0.6".into()))
        );
        let found = node(br#"{"name": "@a/b", "version": "1.0.0", "license": "MIT"}"#);
        assert_eq!(found.map(|p| p.name), Some("@a/b".to_owned()));
        assert_eq!(node(b"{}"), None);
        assert_eq!(
            parent_name(b"usr/lib/node_modules/x"),
            Some(&b"node_modules"[..])
        );
    }
}
