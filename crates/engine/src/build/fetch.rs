//! What a build downloads: files for `ADD`, and contexts that are not sent along.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use wharf_build::solve::{Fetched, Output, is_git};
use wharf_distribution::download::Download;

use crate::{Engine, Error, Result, ids};

/// Largest file that is downloaded.
const LIMIT: usize = 4 << 30;

/// A context from elsewhere.
pub(super) enum Remote {
    /// Text: the Dockerfile, without anything else.
    Dockerfile(String),
    /// A tar.
    Archive(Vec<u8>),
    /// A checked-out repository.
    Directory(Checkout),
}

/// A directory that goes with this value.
pub(super) struct Checkout {
    root: PathBuf,
    /// The part of it that is wanted.
    part: PathBuf,
    /// The commit.
    pub(super) commit: String,
}

impl Checkout {
    pub(super) fn path(&self) -> &Path {
        &self.part
    }

    /// Without what git keeps for itself.
    pub(super) fn without_git(&self) -> Result<()> {
        let path = self.part.join(".git");
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => Ok(()),
        };
        removed.map_err(|error| Error::caused("remove .git", error))
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            tracing::warn!(path = %self.root.display(), %error, "left-over checkout of a build");
        }
    }
}

/// Downloads what `ADD` names.
pub(super) async fn file(
    engine: &Engine,
    url: &str,
    authorization: Option<String>,
    output: &Output,
) -> Result<Fetched> {
    output.text("\n");
    let download = get(engine, url, authorization).await?;
    let name = name_of(url, &download);
    let modified = download
        .headers
        .get("last-modified")
        .and_then(|text| jiff::fmt::rfc2822::parse(text).ok())
        .map_or(0, |time| time.timestamp().as_second());
    Ok(Fetched {
        name,
        bytes: download.bytes,
        modified,
    })
}

async fn get(engine: &Engine, url: &str, authorization: Option<String>) -> Result<Download> {
    let download = engine
        .registry
        .download(url, LIMIT, authorization.as_deref())
        .await
        .map_err(|error| Error::internal(error.to_string()))?;
    if download.status >= 400 {
        return Err(Error::internal(format!(
            "failed to GET {url} with status {}: {}",
            http_status(download.status),
            String::from_utf8_lossy(&download.bytes)
        )));
    }
    Ok(download)
}

fn http_status(code: u16) -> String {
    let reason = match code {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    };
    format!("{code} {reason}").trim_end().to_owned()
}

/// The last part of the path, or what the server says the file is called.
fn name_of(url: &str, download: &Download) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path
        .split_once('/')
        .map_or("", |(_, path)| path.rsplit('/').next().unwrap_or_default());
    if !name.is_empty() {
        return name.to_owned();
    }
    let disposition = download.headers.get("content-disposition");
    disposition
        .and_then(|text| text.split("filename=").nth(1))
        .map(|name| name.trim_matches(['"', ';', ' ']).to_owned())
        .filter(|name| !name.contains('/') && name != "..")
        .unwrap_or_default()
}

/// The context that `remote` names.
pub(super) async fn remote(engine: &Engine, remote: &str) -> Result<Remote> {
    if is_git(remote) {
        return checkout(engine, remote).await.map(Remote::Directory);
    }
    if !remote.starts_with("http://") && !remote.starts_with("https://") {
        return Err(Error::invalid(format!(
            "remoteURL ({remote}) could not be recognized as URL"
        )));
    }
    let download = get(engine, remote, None)
        .await
        .map_err(|error| error.context(format!("failed to download remote context {remote}")))?;
    let kind = download
        .headers
        .get("content-type")
        .cloned()
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
    // A server that does not know what it sends is not asked (moby `inspectResponse`).
    let unknown = kind.is_empty() || kind == "application/octet-stream";
    let text = kind.starts_with("text/plain")
        || ((unknown || !kind.starts_with("application/")) && !is_archive(&download.bytes));
    Ok(if text {
        Remote::Dockerfile(String::from_utf8_lossy(&download.bytes).into_owned())
    } else {
        Remote::Archive(download.bytes)
    })
}

/// Whether bytes are a tar, plain or compressed.
fn is_archive(bytes: &[u8]) -> bool {
    use wharf_archive::compression::{Compression, MAGIC_LEN};
    let start = &bytes[..bytes.len().min(MAGIC_LEN)];
    Compression::detect(start) != Compression::None || wharf_archive::tar::is_header(bytes)
}

/// Checks a repository out with `git`, as dockerd does: `url#ref:directory`.
pub(super) async fn checkout(engine: &Engine, remote: &str) -> Result<Checkout> {
    let (address, fragment) = remote.split_once('#').unwrap_or((remote, ""));
    let (reference, part) = fragment.split_once(':').unwrap_or((fragment, ""));
    if reference.starts_with('-') {
        return Err(Error::invalid(format!("invalid refspec: {reference}")));
    }
    let address = match address.strip_prefix("github.com/") {
        Some(rest) => format!("https://github.com/{rest}"),
        None => address.to_owned(),
    };
    let root = engine
        .config
        .data_root
        .join("trash")
        .join(format!("checkout-{}", &ids::random()[..16]));
    std::fs::create_dir_all(&root).map_err(|error| Error::caused("make a directory", error))?;
    let mut checkout = Checkout {
        part: root.clone(),
        root,
        commit: String::new(),
    };
    let reference = if reference.is_empty() {
        "HEAD"
    } else {
        reference
    };
    git(&checkout.root, &["init", "-q"]).await?;
    git(&checkout.root, &["remote", "add", "origin", &address]).await?;
    let shallow = ["fetch", "-q", "--depth", "1", "origin", "--", reference];
    // Servers that know files only cannot cut history off.
    let whole = ["fetch", "-q", "origin", "--", reference];
    if git(&checkout.root, &shallow).await.is_ok() || git(&checkout.root, &whole).await.is_ok() {
        git(&checkout.root, &["checkout", "-q", "-f", "FETCH_HEAD"]).await?;
    } else {
        // A commit that is no branch's or tag's: all of it.
        git(&checkout.root, &["fetch", "-q", "--tags", "origin"]).await?;
        git(&checkout.root, &["checkout", "-q", "-f", reference]).await?;
    }
    let submodules = [
        "submodule",
        "update",
        "-q",
        "--init",
        "--recursive",
        "--depth=1",
    ];
    git(&checkout.root, &submodules).await?;
    let commit = git(&checkout.root, &["rev-parse", "HEAD"]).await?;
    commit.trim().clone_into(&mut checkout.commit);
    if !part.is_empty() {
        checkout.part = inside(&checkout.root, part)?;
    }
    Ok(checkout)
}

/// A directory of the checkout, links followed inside it only.
fn inside(root: &Path, part: &str) -> Result<PathBuf> {
    let failed = |error: std::io::Error| {
        Error::internal(format!("error setting git checkout directory: {error}"))
    };
    let path = root
        .join(part.trim_start_matches('/'))
        .canonicalize()
        .map_err(failed)?;
    let root = root.canonicalize().map_err(failed)?;
    if !path.starts_with(&root) || !path.is_dir() {
        return Err(Error::internal(format!(
            "error setting git checkout directory: {part} is no directory of the repository"
        )));
    }
    Ok(path)
}

/// Runs `git`; gives what it prints.
async fn git(directory: &Path, words: &[&str]) -> Result<String> {
    let (directory, words): (PathBuf, Vec<String>) = (
        directory.to_owned(),
        words.iter().map(|word| (*word).to_owned()).collect(),
    );
    crate::blocking(move || {
        let output = std::process::Command::new("git")
            .arg("-C")
            .arg(&directory)
            .args(["-c", "protocol.file.allow=never"])
            .args(&words)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Error::internal(format!("unable to run git: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::internal(format!(
            "error fetching: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        )))
    })
    .await
}
