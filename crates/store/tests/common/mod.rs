//! Archives and stores for the tests.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod random;

use std::io::Write as _;
use std::path::Path;

use wharf_spec::digest::Digest;
use wharf_store::{Store, StoreConfig, StoreError};

/// A store in a temporary directory.
pub struct Workshop {
    dir: tempfile::TempDir,
    pub store: Store,
}

impl Workshop {
    pub fn new() -> Workshop {
        Workshop::with_driver("")
    }

    pub fn with_driver(name: &str) -> Workshop {
        let dir = tempfile::tempdir().unwrap();
        let driver = wharf_store::drivers::Choice {
            name: name.to_owned(),
            options: vec![],
        };
        let store = Store::open(StoreConfig {
            data_root: dir.path().to_owned(),
            driver,
        })
        .unwrap();
        Workshop { dir, store }
    }

    pub fn reopen(self) -> Workshop {
        drop(self.store);
        let store = Store::open(StoreConfig {
            data_root: self.dir.path().to_owned(),
            driver: Default::default(),
        })
        .unwrap();
        Workshop {
            dir: self.dir,
            store,
        }
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn load(&self, archive: &[u8]) -> Result<(), StoreError> {
        self.store.load(archive, &Default::default(), &mut |_| {})
    }

    /// Directory and link names of the driver, sorted.
    pub fn dirs(&self) -> Vec<String> {
        let names = |dir: &Path| -> Vec<String> {
            std::fs::read_dir(dir)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        let home = self.root().join("overlay2");
        let mut all = names(&home);
        all.extend(names(&home.join("l")));
        all.sort();
        all
    }

    pub fn assert_empty(&self) {
        let dirs = self.dirs();
        assert_eq!(&dirs[1..], ["init", "l", "new"], "no layer is left");
        assert!(self.store.images().is_empty());
        assert!(self.store.layers().is_empty());
    }
}

/// A layer under construction.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Layer {
        Layer(tar::Builder::new(Vec::new()))
    }

    pub fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header
    }

    pub fn file(mut self, path: &str, content: &[u8]) -> Layer {
        let mut header = Layer::header(tar::EntryType::Regular, content.len() as u64, 0o644);
        self.0.append_data(&mut header, path, content).unwrap();
        self
    }

    pub fn dir(mut self, path: &str) -> Layer {
        let mut header = Layer::header(tar::EntryType::Directory, 0, 0o755);
        self.0.append_data(&mut header, path, &[][..]).unwrap();
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Layer {
        let mut header = Layer::header(tar::EntryType::Symlink, 0, 0o777);
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    pub fn hardlink(mut self, path: &str, target: &str) -> Layer {
        let mut header = Layer::header(tar::EntryType::Link, 0, 0o644);
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    /// An entry whose name is written as it is, `..` and all.
    pub fn raw(
        mut self,
        mut header: tar::Header,
        name: &[u8],
        link: &[u8],
        content: &[u8],
    ) -> Layer {
        let bytes = header.as_mut_bytes();
        bytes[..100].fill(0);
        bytes[..name.len()].copy_from_slice(name);
        bytes[157..157 + link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    /// A PAX header for the entry that follows.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Layer {
        let records = records.iter().map(|(key, value)| (*key, *value));
        self.0.append_pax_extensions(records).unwrap();
        self
    }

    pub fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An archive with its image ID.
pub struct Archive {
    pub archive: Vec<u8>,
    pub id: Digest,
}

pub fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| Digest::of(layer).to_string())
        .collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05.5Z",
        "config": {"Cmd": ["/app"], "Labels": {"k": "v"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|id| serde_json::json!({"created_by": id})).collect::<Vec<_>>(),
    }))
    .unwrap()
}

/// As engines before 25 wrote it: layers first, the manifest last.
pub fn docker_archive(layers: &[Vec<u8>], tag: &str) -> Archive {
    let config = config(layers);
    let id = Digest::of(&config);
    let mut archive = Layer::new();
    let mut names = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        archive = archive.file(&format!("{i}/layer.tar"), layer);
        names.push(format!("{i}/layer.tar"));
    }
    let manifest = serde_json::json!([{"Config": format!("{}.json", id.hex()), "RepoTags": [tag], "Layers": names}]);
    archive = archive.file(&format!("{}.json", id.hex()), &config);
    archive = archive.file("manifest.json", &serde_json::to_vec(&manifest).unwrap());
    Archive {
        archive: archive.tar(),
        id,
    }
}

/// An OCI layout without Docker's manifest, layers compressed.
pub fn oci_archive(layers: &[Vec<u8>], name: &str, compress: fn(&[u8]) -> Vec<u8>) -> Archive {
    let config = config(layers);
    let id = Digest::of(&config);
    let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| compress(layer)).collect();
    let descriptor = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "config": descriptor("config.v1+json", &config),
        "layers": blobs.iter().map(|blob| descriptor("layer.v1.tar+gzip", blob)).collect::<Vec<_>>(),
    }))
    .unwrap();
    let mut entry = descriptor("manifest.v1+json", &manifest);
    entry["annotations"] = serde_json::json!({"io.containerd.image.name": name});
    let index =
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [entry]})).unwrap();
    let mut archive = Layer::new();
    for bytes in blobs.iter().chain([&config, &manifest]) {
        archive = archive.file(&format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes);
    }
    let archive = archive
        .file("index.json", &index)
        .file("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#);
    Archive {
        archive: archive.tar(),
        id,
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}
