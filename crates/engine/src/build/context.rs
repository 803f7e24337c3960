//! The context and the Dockerfile of a build.

use std::io::Read;
use std::path::Path;

use wharf_build::files::{Context, Files, nameless};
use wharf_build::ignore::Patterns;
use wharf_build::path::clean;

use super::fetch::Remote;
use crate::{Error, Result};

/// Longest Dockerfile and `.dockerignore`.
const MAX_TEXT: u64 = 16 << 20;

/// What a build begins with.
pub(super) struct Source {
    pub(super) context: Context,
    pub(super) dockerfile: String,
    /// Name of the Dockerfile, for errors.
    pub(super) name: String,
}

/// The request's body is a tar.
pub(super) fn from_upload(body: impl Read + Send, name: &str, scratch: &Path) -> Result<Source> {
    let context = Context::receive(body, scratch)
        .map_err(|error| Error::internal(format!("Error processing tar file({error})")))?;
    with_dockerfile(context, name)
}

/// What was downloaded is a Dockerfile or a tar.
pub(super) fn from_remote(remote: Remote, name: &str, scratch: &Path) -> Result<Source> {
    let internal = |error: wharf_build::files::ContextError| Error::internal(error.to_string());
    match remote {
        Remote::Dockerfile(content) => {
            let text = content
                .to_vec(MAX_TEXT)
                .map_err(|error| Error::caused("read the Dockerfile", error))?;
            Ok(Source {
                context: Context::empty(scratch).map_err(internal)?,
                dockerfile: String::from_utf8_lossy(&text).into_owned(),
                name: "Dockerfile".to_owned(),
            })
        }
        Remote::Archive(content) => {
            let context = Context::receive(content.reader(), scratch).map_err(internal)?;
            with_dockerfile(context, name)
        }
        Remote::Directory(directory) => {
            let mut archive = std::io::BufWriter::new(
                nameless(scratch).map_err(|error| Error::caused("keep the context", error))?,
            );
            pack(directory.path(), &mut archive)
                .map_err(|error| Error::caused("read the repository", error))?;
            let mut file = archive
                .into_inner()
                .map_err(|error| Error::caused("keep the context", error.into_error()))?;
            use std::io::Seek as _;
            file.rewind()
                .map_err(|error| Error::caused("keep the context", error))?;
            let context = Context::receive(file, scratch).map_err(internal)?;
            with_dockerfile(context, name)
        }
    }
}

fn pack(directory: &Path, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    use wharf_archive::pack::{Options, Packer};
    use wharf_archive::pieces::Pieces;
    use wharf_archive::root::Root;
    let root = Root::at(directory)?;
    let mut packer = Packer::new(
        Pieces::into_writer(out),
        root.descriptors.clone(),
        Options::default(),
    );
    packer.directory(root.open_dir(b".")?, None)?;
    packer.finish()?;
    out.flush()
}

fn with_dockerfile(mut context: Context, name: &str) -> Result<Source> {
    let wanted = if name.is_empty() { "Dockerfile" } else { name };
    let mut found = read(&context, wanted)?;
    let mut name = wanted.to_owned();
    if found.is_none() && wanted == "Dockerfile" {
        // As the classic builder does.
        name = "dockerfile".to_owned();
        found = read(&context, &name)?;
    }
    let Some(bytes) = found else {
        return Err(Error::internal(format!(
            "Cannot locate specified Dockerfile: {wanted}"
        )));
    };
    if bytes.is_empty() {
        return Err(Error::invalid(format!(
            "the Dockerfile ({name}) cannot be empty"
        )));
    }
    hide_ignored(&mut context, &name)?;
    Ok(Source {
        context,
        dockerfile: String::from_utf8_lossy(&bytes).into_owned(),
        name,
    })
}

fn read(context: &Context, name: &str) -> Result<Option<Vec<u8>>> {
    let cleaned = clean(name);
    if cleaned == ".." || cleaned.starts_with("../") {
        return Err(Error::internal(format!(
            "forbidden path outside the build context: {name} ()"
        )));
    }
    let failed = |error: std::io::Error| Error::caused("read the Dockerfile", error);
    let path = context.resolve(cleaned.as_bytes()).map_err(failed)?;
    let is_file = context
        .entry(&path)
        .map_err(failed)?
        .is_some_and(|node| node.entry.kind == wharf_archive::tar::Kind::File);
    if !is_file {
        return Ok(None);
    }
    let content = context.content(&path).map_err(failed)?;
    content.to_vec(MAX_TEXT).map(Some).map_err(failed)
}

/// Clients send the Dockerfile and `.dockerignore` even if that leaves them out; then no step sees them.
fn hide_ignored(context: &mut Context, dockerfile: &str) -> Result<()> {
    let Some(bytes) = read(context, ".dockerignore")? else {
        return Ok(());
    };
    let patterns = Patterns::parse_file(&String::from_utf8_lossy(&bytes))
        .map_err(|error| Error::invalid(format!("error reading .dockerignore: {error}")))?;
    for path in [".dockerignore", dockerfile] {
        let path = clean(path);
        if patterns.excludes(&path) {
            context.remove(path.as_bytes());
        }
    }
    Ok(())
}
