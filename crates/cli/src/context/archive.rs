//! A context as a file: a tar with `meta.json` and `tls/<endpoint>/<file>`. Docker also reads zip files with the same in them.

use std::io::{self, Read};

use super::store::{Metadata, TlsMaterial};

/// More than this is no context.
const LARGEST: u64 = 10 << 20;

/// Writes a context as a tar.
///
/// # Errors
/// Memory alone is written: only what cannot be put into a tar.
pub fn write(context: &Metadata, tls: &TlsMaterial) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let text = serde_json::to_vec(context)?;
    add(&mut tar, "meta.json", Some(&text))?;
    add(&mut tar, "tls", None)?;
    for (endpoint, files) in tls {
        add(&mut tar, &format!("tls/{endpoint}"), None)?;
        for (file, bytes) in files {
            let name = format!("tls/{endpoint}/{file}");
            let mut header = head(bytes.len() as u64, 0o600, tar::EntryType::Regular);
            tar.append_data(&mut header, name, &**bytes)?;
        }
    }
    tar.into_inner()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: Option<&[u8]>) -> io::Result<()> {
    let mut header = match bytes {
        Some(bytes) => head(bytes.len() as u64, 0o644, tar::EntryType::Regular),
        None => head(0, 0o700, tar::EntryType::Directory),
    };
    tar.append_data(&mut header, name, bytes.unwrap_or_default())
}

fn head(size: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(kind);
    header
}

/// Reads a context.
///
/// # Errors
/// Docker's text for what is none.
pub fn read(from: impl Read) -> Result<(Metadata, TlsMaterial), String> {
    let mut bytes = Vec::new();
    let mut limited = from.take(LARGEST + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err("read exceeds the defined limit".to_owned());
    }
    if bytes.starts_with(b"PK") {
        return Err(
            "contexts in zip files are not read: unpack it and make a tar of meta.json and tls/"
                .to_owned(),
        );
    }
    let mut context = None;
    let mut material = TlsMaterial::new();
    let mut archive = tar::Archive::new(&*bytes);
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut text = Vec::new();
        entry
            .read_to_end(&mut text)
            .map_err(|error| error.to_string())?;
        match place(&name)? {
            None => {
                let found: Metadata =
                    serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))?;
                context = Some(found);
            }
            Some((endpoint, file)) => {
                let files = material.entry(endpoint.to_owned()).or_default();
                files.insert(file.to_owned(), text);
            }
        }
    }
    let context = context.ok_or("invalid context: no metadata found")?;
    Ok((context, material))
}

/// What a file of the archive is: the description, or a file of an endpoint. Names that lead elsewhere are refused.
fn place(name: &str) -> Result<Option<(&str, &str)>, String> {
    if name == "meta.json" {
        return Ok(None);
    }
    let Some(rest) = name.strip_prefix("tls/") else {
        return Err(format!("{name}: unexpected context file"));
    };
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    if !rest.split('/').all(is_plain) {
        return Err(format!("{name}: unexpected path format"));
    }
    if name.contains('\\') {
        return Err(format!("{name}: unexpected '\\' in path"));
    }
    match rest.split_once('/') {
        Some((endpoint, file)) if !file.contains('/') => Ok(Some((endpoint, file))),
        _ => Err("archive format is invalid".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_context_survives_the_way_there_and_back() {
        let context = Metadata::new("here", "ssh://there", false);
        let files = BTreeMap::from([("key.pem".to_owned(), b"secret".to_vec())]);
        let material = TlsMaterial::from([("docker".to_owned(), files)]);
        let tar = write(&context, &material).expect("a tar");
        assert_eq!(read(&*tar), Ok((context, material)));
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (name, why) in [
            ("tls/../../x", "tls/../../x: unexpected path format"),
            ("x", "x: unexpected context file"),
            ("tls/x", "archive format is invalid"),
            ("tls/a/b/c", "archive format is invalid"),
        ] {
            assert_eq!(place(name), Err(why.to_owned()));
        }
        assert_eq!(
            read(&b""[..]),
            Err("invalid context: no metadata found".to_owned())
        );
    }
}
