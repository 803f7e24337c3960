//! `manifest inspect`

use serde::Serialize;
use serde_json::{Value, json};
use wharf_distribution::manifest::{DOCKER_LIST, Descriptor, Document};
use wharf_spec::reference::Reference;

use super::local::{Entry, Lists, no_such};
use super::name;
use super::remote::Remote;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `manifest inspect`
///
/// # Errors
/// There is no such manifest here or in the registry.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let verbose = matches.on("verbose");
    let lists = Lists::open(session)?;
    if let [list, image] = matches.args.as_slice() {
        let image = name(image)?;
        let entry = lists
            .get(&name(list)?, &image)?
            .ok_or_else(|| no_such(&image))?;
        return show_one(&entry, verbose);
    }
    let wanted = name(&matches.args[0])?;
    if let Some(entries) = lists.list(&wanted)? {
        return show_list(&wanted, &entries, verbose);
    }
    let remote = Remote::new(matches.on("insecure"))?;
    let (repository, manifest) = remote.manifest(session, &wanted)?;
    let Document::Index(index) = &manifest.document else {
        if !verbose {
            return print::out(&indented(&manifest.bytes, b"\t")?);
        }
        return show_one(&remote.entry(&wanted, &repository, &manifest)?, verbose);
    };
    if !verbose {
        return print::out(&indented(&manifest.bytes, b"   ")?);
    }
    let mut entries = Vec::new();
    for descriptor in &index.manifests {
        let by_digest = wanted.with_digest(descriptor.digest.clone());
        let one = remote.wait(repository.manifest(descriptor.digest.as_str()))?;
        entries.push(Entry::new(&by_digest, descriptor.clone(), &one)?);
    }
    show_list(&wanted, &entries, verbose)
}

fn show_one(entry: &Entry, verbose: bool) -> Result<(), Failure> {
    if verbose {
        return print::out(&pretty(entry)?);
    }
    print::out(&indented(&entry.manifest()?.bytes, b"\t")?)
}

fn show_list(list: &Reference, entries: &[Entry], verbose: bool) -> Result<(), Failure> {
    if verbose {
        return print::out(&pretty(&entries)?);
    }
    let bytes = list_document(list, entries)?;
    print::out(&format!("{}\n", String::from_utf8_lossy(&bytes)))
}

/// The list as it is pushed (moby's form: three spaces).
pub(super) fn list_document(list: &Reference, entries: &[Entry]) -> Result<Vec<u8>, Failure> {
    let manifests = entries
        .iter()
        .map(|entry| descriptor(list, entry))
        .collect::<Result<Vec<Value>, Failure>>()?;
    let document = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": manifests});
    formatted(&document, b"   ")
}

fn descriptor(list: &Reference, entry: &Entry) -> Result<Value, Failure> {
    let source = entry.name()?;
    if source.domain() != list.domain() {
        return Err(Failure::new(format!(
            "cannot use source images from a different registry than the target image: {} != {}",
            source.domain(),
            list.domain()
        )));
    }
    let Descriptor {
        media_type,
        size,
        digest,
        platform,
        ..
    } = &entry.descriptor;
    Ok(json!({"mediaType": media_type, "size": size, "digest": digest, "platform": platform}))
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    let text = formatted(value, b"\t")?;
    Ok(format!("{}\n", String::from_utf8_lossy(&text)))
}

fn indented(bytes: &[u8], indent: &[u8]) -> Result<String, Failure> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| Failure::new(error.to_string()))?;
    Ok(format!(
        "{}\n",
        String::from_utf8_lossy(&formatted(&value, indent)?)
    ))
}

fn formatted(value: &impl Serialize, indent: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| Failure::new(error.to_string()))?;
    Ok(text)
}
