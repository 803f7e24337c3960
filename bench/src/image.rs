//! A 579 MB image: busybox and four layers of this machine's own files, so that sizes and entropy are realistic.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wharf_e2e::archive::Image;
use wharf_e2e::images;

/// Its reference.
pub(crate) const BIG: &str = "wharf-bench/big:1";

const LAYERS: usize = 4;
const LAYER_BYTES: u64 = 144_000_000;
const LARGEST_FILE: u64 = 40_000_000;

/// Where what takes long to make is kept.
pub(crate) fn directory() -> Result<PathBuf> {
    let dir = std::env::var_os("WHARF_BENCH_DIR")
        .map_or_else(|| std::env::temp_dir().join("wharf-bench"), PathBuf::from);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A file of so many bytes that no file system can make smaller.
pub(crate) fn ensure_random(bytes: u64) -> Result<PathBuf> {
    let dir = directory()?;
    let path = dir.join(format!("random-{bytes}"));
    if !path.exists() {
        let part = dir.join("random.part");
        let mut random = fs::File::open("/dev/urandom")?.take(bytes);
        std::io::copy(&mut random, &mut fs::File::create(&part)?)?;
        fs::rename(part, &path)?;
    }
    Ok(path)
}

/// The archive, made once and kept.
pub(crate) fn ensure_big() -> Result<PathBuf> {
    ensure("big.tar", || Ok(build()?.docker_archive()))
}

/// A plain tar of files with about so many bytes, made once and kept.
pub(crate) fn ensure_tar(name: &str, bytes: u64) -> Result<PathBuf> {
    ensure(name, || {
        let mut files = Vec::new();
        list_files(Path::new("/usr"), &mut files)?;
        layer(&mut files.into_iter(), bytes)
    })
}

fn ensure(name: &str, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<PathBuf> {
    let dir = directory()?;
    let path = dir.join(name);
    if !path.exists() {
        let part = dir.join(format!("{name}.part"));
        fs::write(&part, make()?).with_context(|| format!("write {}", part.display()))?;
        fs::rename(part, &path)?;
    }
    Ok(path)
}

fn build() -> Result<Image> {
    let mut image = images::busybox().context("read /bin/busybox")?;
    image.tags = vec![BIG.to_owned()];
    let mut files = Vec::new();
    list_files(Path::new("/usr"), &mut files)?;
    let mut files = files.into_iter();
    for _ in 0..LAYERS {
        image.layers.push(layer(&mut files, LAYER_BYTES)?);
    }
    Ok(image)
}

/// Regular files in a fixed order.
fn list_files(dir: &Path, into: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let meta = entry.metadata()?;
        if meta.is_dir() {
            list_files(&entry.path(), into)?;
        } else if meta.is_file() && meta.len() <= LARGEST_FILE {
            into.push((entry.path(), meta.len()));
        }
    }
    Ok(())
}

fn layer(files: &mut impl Iterator<Item = (PathBuf, u64)>, bytes: u64) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.mode(tar::HeaderMode::Deterministic);
    let mut left = bytes;
    for (path, size) in files.by_ref() {
        let name = path.strip_prefix("/").context("an absolute path")?;
        tar.append_path_with_name(&path, name)
            .with_context(|| format!("read {}", path.display()))?;
        left = left.saturating_sub(size);
        if left == 0 {
            break;
        }
    }
    Ok(tar.into_inner()?)
}
