//! A layer's tar becomes a directory, and a [`crate::recipe`] that turns it back.
//!
//! Archives are hostile until proven otherwise: every path is resolved by the kernel inside the layer's root (`openat2`), so `..`,
//! absolute names, links and races between them end up inside. Whiteouts become overlay's (a 0:0 device, an opaque mark).

mod image;
mod node;
mod place;
mod root;

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use crate::drivers::LayerForm;
use crate::recipe::RecipeWriter;
use image::ImagePlacer;
use place::Placer;
use wharf_archive::tar::{Entry, Kind, TarReader};

/// Marks removed files in a layer (OCI image-spec, layer, "Whiteouts").
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Marks a directory that hides what is below.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Overlay's mark of such a directory.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Other bookkeeping of aufs, which no longer means anything.
const AUFS: &[u8] = b".wh..wh.";

/// What unpacking found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes as Docker counts them: file sizes and lengths of symlinks, hard links once.
    pub(crate) size: u64,
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// The archive itself.
    #[error("{0}")]
    Archive(#[source] io::Error),
    /// One entry of it.
    #[error("{step} /{}: {}", String::from_utf8_lossy(path), errno_text(source))]
    Entry {
        step: &'static str,
        path: Vec<u8>,
        source: io::Error,
    },
    /// Something an entry may not be.
    #[error("{0}")]
    Refused(String),
    /// The layer's own directory or recipe.
    #[error("{step} {}: {}", path.display(), errno_text(source))]
    Layer {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl UnpackError {
    fn layer(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
        move |source| UnpackError::Layer {
            step,
            path: path.to_owned(),
            source,
        }
    }
}

/// The C library's lower-case words, as Go prints them.
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
    match text.chars().next() {
        Some(first) if error.raw_os_error().is_some() => {
            text.replacen(first, &first.to_lowercase().to_string(), 1)
        }
        _ => text,
    }
}

/// Where entries of a layer go. Names are last parts of paths; `parents` are the parts before them, cleaned.
trait Place {
    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        reader: &mut TarReader<R>,
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError>;

    fn directory(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError>;

    fn symlink(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError>;

    fn device(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError>;

    fn hard_link(
        &mut self,
        entry: &Entry,
        parents: &[u8],
        name: &[u8],
        recipe: &mut RecipeWriter,
    ) -> Result<(), UnpackError>;

    /// Hides `hidden` of the layers below, unless this layer itself has it.
    fn whiteout(&mut self, entry: &Entry, parents: &[u8], hidden: &[u8])
    -> Result<(), UnpackError>;

    /// Hides everything the layers below have in `path`.
    fn opaque(&mut self, path: &[u8]) -> Result<(), UnpackError>;

    /// Completes the layer and counts.
    fn finish(self) -> Result<Unpacked, UnpackError>;
}

/// Unpacks `tar` into `layer_dir`, whose `diff` exists and is empty, and writes `layer_dir/recipe`. Reads to the end of the stream.
pub(crate) fn unpack(
    tar: impl BufRead,
    layer_dir: &Path,
    form: LayerForm,
) -> Result<Unpacked, UnpackError> {
    match form {
        LayerForm::Directory => unpack_into(tar, layer_dir, Placer::open(layer_dir)?),
        LayerForm::Image => unpack_into(tar, layer_dir, ImagePlacer::create(layer_dir)?),
    }
}

fn unpack_into(
    tar: impl BufRead,
    layer_dir: &Path,
    mut placer: impl Place,
) -> Result<Unpacked, UnpackError> {
    let recipe_path = layer_dir.join("recipe");
    let mut recipe =
        RecipeWriter::create(&recipe_path).map_err(UnpackError::layer("create", &recipe_path))?;
    let mut reader = TarReader::new(tar);
    while let Some(entry) = reader.next(&mut recipe).map_err(UnpackError::Archive)? {
        unpack_entry(&mut reader, &entry, &mut placer, &mut recipe)?;
    }
    reader.drain(&mut recipe).map_err(UnpackError::Archive)?;
    recipe
        .finish()
        .map_err(UnpackError::layer("write", &recipe_path))?;
    placer.finish()
}

fn unpack_entry<R: BufRead>(
    reader: &mut TarReader<R>,
    entry: &Entry,
    placer: &mut impl Place,
    recipe: &mut RecipeWriter,
) -> Result<(), UnpackError> {
    let Some((parents, name)) = split_path(&entry.path) else {
        // The root itself: Docker leaves it as it is.
        return reader.data_as_raw(recipe).map_err(UnpackError::Archive);
    };
    if name.starts_with(WHITEOUT) {
        reader.data_as_raw(recipe).map_err(UnpackError::Archive)?;
        return unpack_whiteout(entry, &parents, name, placer);
    }
    match entry.kind {
        Kind::File => placer.file(entry, &parents, name, reader, recipe)?,
        Kind::Other(flag) => {
            return Err(UnpackError::Refused(format!(
                "unhandled tar header type {flag}"
            )));
        }
        Kind::Directory => placer.directory(entry, &parents, name, recipe)?,
        Kind::HardLink => placer.hard_link(entry, &parents, name, recipe)?,
        Kind::Symlink => placer.symlink(entry, &parents, name, recipe)?,
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
            placer.device(entry, &parents, name, recipe)?
        }
    }
    reader.data_as_raw(recipe).map_err(UnpackError::Archive)
}

fn unpack_whiteout(
    entry: &Entry,
    parents: &[u8],
    name: &[u8],
    placer: &mut impl Place,
) -> Result<(), UnpackError> {
    if name == OPAQUE {
        return placer.opaque(parents);
    }
    if name.starts_with(AUFS) {
        return Ok(());
    }
    match &name[WHITEOUT.len()..] {
        b"" | b"." | b".." => Err(UnpackError::Refused(format!(
            "invalid whiteout entry {:?}",
            String::from_utf8_lossy(&entry.path)
        ))),
        hidden => placer.whiteout(entry, parents, hidden),
    }
}

/// Parent path and last name after lexical cleaning: `..` goes up at most to the root. `None` for the root itself.
fn split_path(path: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let name = parts.pop()?;
    Some((parts.join(&b'/'), name))
}

/// Where a hard link points to, as [`split_path`] gives it; the root cannot be linked.
fn hard_link_target(entry: &Entry) -> Result<(Vec<u8>, &[u8]), UnpackError> {
    split_path(&entry.link).ok_or_else(|| {
        let (path, link) = (
            String::from_utf8_lossy(&entry.path),
            String::from_utf8_lossy(&entry.link),
        );
        UnpackError::Refused(format!("invalid hardlink {path:?} -> {link:?}"))
    })
}

fn failed(step: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_vec();
    move |source| UnpackError::Entry { step, path, source }
}

fn step_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "mkdir",
        Kind::HardLink => "link",
        Kind::Symlink => "symlink",
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => "mknod",
        Kind::File | Kind::Other(_) => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let check = |path: &str, expected: Option<(&str, &str)>| {
            let found = split_path(path.as_bytes());
            let expected =
                expected.map(|(parents, name)| (parents.as_bytes().to_vec(), name.as_bytes()));
            assert_eq!(found, expected, "{path}");
        };
        check("a", Some(("", "a")));
        check("./a/b/", Some(("a", "b")));
        check("/a//b/./c", Some(("a/b", "c")));
        check("../../etc/passwd", Some(("etc", "passwd")));
        check("a/../../b", Some(("", "b")));
        check("./", None);
        check("a/..", None);
    }
}
