//! Makes image archives: docker-archive and OCI layout, from layers that are plain tar bytes.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `sha256` of bytes in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A tar in the making. Entries have owner root and time zero, so equal calls give equal bytes.
pub struct TarFile {
    builder: tar::Builder<Vec<u8>>,
}

impl Default for TarFile {
    fn default() -> TarFile {
        TarFile {
            builder: tar::Builder::new(Vec::new()),
        }
    }
}

impl TarFile {
    /// An empty one.
    #[must_use]
    pub fn new() -> TarFile {
        TarFile::default()
    }

    /// A directory with mode 755.
    #[must_use]
    pub fn dir(self, path: &str) -> TarFile {
        self.entry(path, tar::EntryType::Directory, 0o755, None, b"")
    }

    /// A regular file with mode 644.
    #[must_use]
    pub fn file(self, path: &str, data: &[u8]) -> TarFile {
        self.entry(path, tar::EntryType::Regular, 0o644, None, data)
    }

    /// A regular file with a mode.
    #[must_use]
    pub fn file_mode(self, path: &str, mode: u32, data: &[u8]) -> TarFile {
        self.entry(path, tar::EntryType::Regular, mode, None, data)
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> TarFile {
        self.entry(path, tar::EntryType::Symlink, 0o777, Some(target), b"")
    }

    /// A hard link to an earlier entry.
    #[must_use]
    pub fn hardlink(self, path: &str, target: &str) -> TarFile {
        self.entry(path, tar::EntryType::Link, 0o644, Some(target), b"")
    }

    /// A character device.
    #[must_use]
    pub fn char_device(mut self, path: &str, major: u32, minor: u32) -> TarFile {
        let mut header = header(tar::EntryType::Char, 0o666, 0);
        header.set_device_major(major).expect("a small number");
        header.set_device_minor(minor).expect("a small number");
        set_raw_path(&mut header, path);
        header.set_cksum();
        self.builder
            .append(&header, &b""[..])
            .expect("write to memory");
        self
    }

    /// Any entry, its path and link name taken as they are, however wrong.
    #[must_use]
    pub fn entry(
        mut self,
        path: &str,
        kind: tar::EntryType,
        mode: u32,
        link: Option<&str>,
        data: &[u8],
    ) -> TarFile {
        let mut header = header(kind, mode, data.len() as u64);
        set_raw_path(&mut header, path);
        if let Some(target) = link {
            header
                .set_link_name_literal(target)
                .expect("a short link name");
        }
        header.set_cksum();
        self.builder.append(&header, data).expect("write to memory");
        self
    }

    /// The bytes, with the closing blocks.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.builder.into_inner().expect("write to memory")
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// Past the checks of the tar crate, which would refuse what hostile archives need.
fn set_raw_path(header: &mut tar::Header, path: &str) {
    let name = &mut header.as_old_mut().name;
    assert!(
        path.len() < name.len(),
        "{path} is too long for a test archive"
    );
    name.fill(0);
    name[..path.len()].copy_from_slice(path.as_bytes());
}

/// One image: layers from the bottom up and what its config says.
#[derive(Debug, Clone)]
pub struct Image {
    /// `name:tag`s.
    pub tags: Vec<String>,
    /// Uncompressed tars.
    pub layers: Vec<Vec<u8>>,
    /// The `config` object of the image config.
    pub config: Value,
}

impl Image {
    /// An image with these layers, a `PATH` and a shell as its command.
    #[must_use]
    pub fn new(tag: &str, layers: Vec<Vec<u8>>) -> Image {
        let config = json!({"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]});
        Image {
            tags: vec![tag.to_owned()],
            layers,
            config,
        }
    }

    /// Sets one field of the `config` object.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Image {
        self.config[field] = value;
        self
    }

    /// `sha256:…` of each uncompressed layer.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<String> {
        self.layers
            .iter()
            .map(|l| format!("sha256:{}", sha256(l)))
            .collect()
    }

    /// The image config's bytes; their digest is the image ID.
    #[must_use]
    pub fn config_bytes(&self) -> Vec<u8> {
        let history: Vec<Value> = (0..self.layers.len())
            .map(|i| json!({"created": "2024-01-01T00:00:00Z", "created_by": format!("layer {i}")}))
            .collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids()},
            "history": history,
        });
        config.to_string().into_bytes()
    }

    /// `sha256:…` of the config.
    #[must_use]
    pub fn id(&self) -> String {
        format!("sha256:{}", sha256(&self.config_bytes()))
    }

    /// The archive `docker save` wrote before version 25.
    #[must_use]
    pub fn docker_archive(&self) -> Vec<u8> {
        let mut archive = TarFile::new();
        let mut names = Vec::new();
        for layer in &self.layers {
            let dir = sha256(layer);
            let name = format!("{dir}/layer.tar");
            if !names.contains(&name) {
                archive = archive.dir(&dir).file(&name, layer);
            }
            names.push(name);
        }
        let config = self.config_bytes();
        let config_name = format!("{}.json", sha256(&config));
        let manifest = json!([{"Config": config_name, "RepoTags": self.tags, "Layers": names}]);
        archive
            .file(&config_name, &config)
            .file("manifest.json", manifest.to_string().as_bytes())
            .finish()
    }

    /// An OCI image layout in a tar, layers gzipped.
    #[must_use]
    pub fn oci_archive(&self) -> Vec<u8> {
        let mut blobs = BTreeMap::new();
        let mut put = |bytes: Vec<u8>, media_type: &str| {
            let digest = sha256(&bytes);
            let descriptor = json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()});
            blobs.insert(digest, bytes);
            descriptor
        };
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|l| put(gzip(l), "application/vnd.oci.image.layer.v1.tar+gzip"))
            .collect();
        let config = put(
            self.config_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers});
        let mut descriptor = put(
            manifest.to_string().into_bytes(),
            "application/vnd.oci.image.manifest.v1+json",
        );
        if let Some(tag) = self.tags.first() {
            let short = tag.rsplit(':').next().unwrap_or(tag);
            descriptor["annotations"] = json!({"io.containerd.image.name": format!("docker.io/library/{tag}"), "org.opencontainers.image.ref.name": short});
        }
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]});
        let mut archive = TarFile::new().dir("blobs").dir("blobs/sha256");
        for (digest, bytes) in &blobs {
            archive = archive.file(&format!("blobs/sha256/{digest}"), bytes);
        }
        archive
            .file("index.json", index.to_string().as_bytes())
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .finish()
    }
}

/// Gzip, fast.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("write to memory");
    encoder.finish().expect("write to memory")
}
