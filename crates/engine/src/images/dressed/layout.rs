//! An OCI image layout as a tar. The same image and dressing give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use wharf_archive::tar;
use wharf_spec::digest::{Algorithm, Digest};
use wharf_spec::reference::Reference;
use wharf_store::push::{PushLayer, PushPlan};

use super::documents::{Blob, CONFIG, Documents, describe, descriptor, index};
use super::{Attestation, Compression, Dressing};
use crate::{Engine, Error, Result};

/// An image on its way into a layout.
pub struct Layout {
    plan: PushPlan,
    dressing: Dressing,
}

/// A layer in the form it is to have.
struct Packed {
    digest: Digest,
    size: u64,
    /// Without a name; `None` for one that is made again while it is written.
    file: Option<File>,
}

impl Engine {
    /// Finds the image; what is missing is known before the first byte is sent. Blocking.
    pub fn image_layout(&self, name: &str, mut dressing: Dressing) -> Result<Layout> {
        let image = self.store.image(name)?;
        let plan = self.store.plan_push(&image.id)?;
        self.add_sbom(&image.id, &mut dressing)?;
        Ok(Layout { plan, dressing })
    }

    /// Makes the list of packages, if it is wanted. Blocking.
    pub(super) fn add_sbom(&self, image: &Digest, dressing: &mut Dressing) -> Result<()> {
        if dressing.sbom {
            dressing.attestations.push(Attestation {
                predicate_type: crate::sbom::PREDICATE.to_owned(),
                predicate: self.image_sbom(image.as_str())?,
            });
        }
        Ok(())
    }

    /// Writes the layout. Blocking. An error after the first bytes leaves a broken archive behind.
    pub fn image_layout_write(&self, layout: &Layout, out: &mut dyn Write) -> Result<()> {
        let failed = |error: io::Error| Error::caused("write the layout", error);
        let Layout { plan, dressing } = layout;
        let media_type = match dressing.compression {
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Compression::Uncompressed => "application/vnd.oci.image.layer.v1.tar",
        };
        let mut packed = BTreeMap::new();
        let mut layers = Vec::new();
        for (at, layer) in plan.layers.iter().enumerate() {
            let one = pack(layer, dressing.compression, &self.config.data_root)?;
            layers.push(descriptor(media_type, &one.digest, one.size));
            packed.insert(one.digest.hex().to_owned(), (at, one));
        }
        let config = Blob::new(CONFIG, plan.image.raw.to_vec());
        let platform = plan.image.config.platform();
        let documents = describe(&config.descriptor(), &layers, &platform, dressing);
        let mut small: BTreeMap<String, &[u8]> = BTreeMap::new();
        small.insert(config.digest.hex().to_owned(), &config.bytes);
        for blob in documents
            .attested
            .iter()
            .chain([&documents.manifest])
            .chain(&documents.index)
        {
            small.insert(blob.digest.hex().to_owned(), &blob.bytes);
        }
        tar::write_header(out, "blobs/", 0, 0).map_err(failed)?;
        tar::write_header(out, "blobs/sha256/", 0, 0).map_err(failed)?;
        for (hex, bytes) in &small {
            write_file(out, &format!("blobs/sha256/{hex}"), bytes).map_err(failed)?;
        }
        for (hex, (at, one)) in &mut packed {
            tar::write_header(out, &format!("blobs/sha256/{hex}"), one.size, 0).map_err(failed)?;
            match &mut one.file {
                Some(file) => copy(file, out).map_err(failed)?,
                None => plan.layers[*at].plain(out)?,
            }
            tar::write_padding(out, one.size).map_err(failed)?;
        }
        let top = entries(&documents, plan, dressing);
        let names = index(&top, &BTreeMap::new());
        write_file(out, "index.json", &names.bytes).map_err(failed)?;
        write_file(out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)?;
        tar::finish(out).and_then(|()| out.flush()).map_err(failed)
    }
}

/// The entries of `index.json`: one for each name.
fn entries(documents: &Documents, plan: &PushPlan, dressing: &Dressing) -> Vec<Value> {
    let mut top = documents.top.clone();
    if let Some(created) = &plan.image.config.created {
        top["annotations"]["org.opencontainers.image.created"] = json!(created);
    }
    let named: Vec<Value> = dressing
        .names
        .iter()
        .filter_map(|name| Reference::parse(name).ok())
        .map(|name| {
            let name = name.or_latest();
            let mut entry = top.clone();
            entry["annotations"]["io.containerd.image.name"] = json!(name.to_string());
            entry["annotations"]["org.opencontainers.image.ref.name"] = json!(name.tag());
            entry
        })
        .collect();
    if named.is_empty() { vec![top] } else { named }
}

fn write_file(out: &mut dyn Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    tar::write_header(out, name, bytes.len() as u64, 0)?;
    out.write_all(bytes)?;
    tar::write_padding(out, bytes.len() as u64)
}

fn copy(file: &mut File, out: &mut dyn Write) -> io::Result<()> {
    file.rewind()?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..n])?;
    }
}

/// Gets a layer into its form. Compressed ones are kept in a file, for their size comes before them in the tar.
fn pack(layer: &PushLayer, compression: Compression, scratch: &Path) -> Result<Packed> {
    let failed = |error: io::Error| Error::caused("keep a compressed layer", error);
    let nameless = || -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(rustix::fs::open(scratch, flags, Mode::from_raw_mode(0o600))?.into())
    };
    match compression {
        Compression::Uncompressed => Ok(Packed {
            digest: layer.layer.diff.0.clone(),
            size: layer.layer.tar_size,
            file: None,
        }),
        Compression::Gzip => {
            let mut file = nameless().map_err(failed)?;
            let made = layer.compress(&mut |bytes, _| file.write_all(&bytes))?;
            Ok(Packed {
                digest: made.digest,
                size: made.size,
                file: Some(file),
            })
        }
        Compression::Zstd => {
            let mut out = Hashed {
                file: nameless().map_err(failed)?,
                hasher: Algorithm::Sha256.hasher(),
                size: 0,
            };
            layer.zstd(&mut out)?;
            Ok(Packed {
                digest: out.hasher.finish(),
                size: out.size,
                file: Some(out.file),
            })
        }
    }
}

struct Hashed {
    file: File,
    hasher: wharf_spec::digest::Hasher,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
