//! What a build downloads: files for `ADD`, and contexts that are not sent along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use wharf_build::files::{Content, nameless};
use wharf_build::solve::{Fetched, Output, is_git};
use wharf_distribution::download::Download;

use crate::{Engine, Error, Result, ids};

/// Largest file that is downloaded.
const LIMIT: u64 = 64 << 30;

/// A context from elsewhere.
pub(super) enum Remote {
    /// Text: the Dockerfile, without anything else.
    Dockerfile(Content),
    /// A tar.
    Archive(Content),
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
        content: content(download),
        modified,
    })
}

/// The bytes of a download.
fn content(download: Download) -> Content {
    Content::Part {
        file: std::sync::Arc::new(download.file),
        offset: 0,
        length: download.length,
    }
}

/// The first bytes of a content.
fn text(content: &Content, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    content
        .reader()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::caused("read a download", error))?;
    Ok(bytes)
}

async fn get(engine: &Engine, url: &str, authorization: Option<String>) -> Result<Download> {
    let file = nameless(&engine.config.data_root)
        .map_err(|error| Error::caused("keep a download", error))?;
    let download = engine
        .registry
        .download(url, LIMIT, authorization.as_deref(), file)
        .await
        .map_err(|error| Error::internal(error.to_string()))?;
    if download.status >= 400 {
        let status = http_status(download.status);
        let said = text(&content(download), 4 << 10)?;
        return Err(Error::internal(format!(
            "failed to GET {url} with status {status}: {}",
            String::from_utf8_lossy(&said)
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
pub(super) async fn remote(engine: &Engine, remote: &str, secrets: &Secrets) -> Result<Remote> {
    if is_git(remote) {
        let checkout = checkout(engine, remote, secrets).await;
        return checkout.map(Remote::Directory);
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
    let content = content(download);
    let start = text(&content, wharf_archive::tar::BLOCK as u64)?;
    let is_text = kind.starts_with("text/plain")
        || ((unknown || !kind.starts_with("application/")) && !is_archive(&start));
    Ok(if is_text {
        Remote::Dockerfile(content)
    } else {
        Remote::Archive(content)
    })
}

/// Whether bytes are a tar, plain or compressed.
fn is_archive(bytes: &[u8]) -> bool {
    use wharf_archive::compression::{Compression, MAGIC_LEN};
    let start = &bytes[..bytes.len().min(MAGIC_LEN)];
    Compression::detect(start) != Compression::None || wharf_archive::tar::is_header(bytes)
}

/// Checks a repository out with `git`, as dockerd does: `url#ref:directory`.
/// `secrets` may have what the server wants to see.
pub(super) async fn checkout(engine: &Engine, remote: &str, secrets: &Secrets) -> Result<Checkout> {
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
    let pass = Pass::of(&address, secrets);
    let root = checkout.root.clone();
    git(&root, pass.as_ref(), &["init", "-q"]).await?;
    git(&root, pass.as_ref(), &["remote", "add", "origin", &address]).await?;
    let shallow = ["fetch", "-q", "--depth", "1", "origin", "--", reference];
    // Servers that know files only cannot cut history off.
    let whole = ["fetch", "-q", "origin", "--", reference];
    if git(&root, pass.as_ref(), &shallow).await.is_ok()
        || git(&root, pass.as_ref(), &whole).await.is_ok()
    {
        git(
            &root,
            pass.as_ref(),
            &["checkout", "-q", "-f", "FETCH_HEAD"],
        )
        .await?;
    } else {
        // A commit that is no branch's or tag's: all of it.
        git(&root, pass.as_ref(), &["fetch", "-q", "--tags", "origin"]).await?;
        git(&root, pass.as_ref(), &["checkout", "-q", "-f", reference]).await?;
    }
    let submodules = [
        "submodule",
        "update",
        "-q",
        "--init",
        "--recursive",
        "--depth=1",
    ];
    git(&root, pass.as_ref(), &submodules).await?;
    let commit = git(&root, pass.as_ref(), &["rev-parse", "HEAD"]).await?;
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

/// Secrets of a build by ID.
pub(super) type Secrets = BTreeMap<String, Vec<u8>>;

/// What a server of repositories wants to see: a setting of git and its value, which go to it as variables, so that nobody sees
/// them on a command line.
#[derive(Clone)]
struct Pass {
    key: String,
    value: String,
}

impl Pass {
    /// From the secrets that BuildKit takes (`source/git`, `authSecretNames`), with the host's name first.
    fn of(address: &str, secrets: &Secrets) -> Option<Pass> {
        let (scheme, rest) = address.split_once("://")?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let host = rest.split('/').next()?.rsplit('@').next()?;
        let text = |name: &str| {
            let known = secrets.get(&format!("{name}.{host}"));
            let value = known.or_else(|| secrets.get(name))?;
            Some(String::from_utf8_lossy(value).trim().to_owned())
        };
        let header = text("GIT_AUTH_HEADER").or_else(|| {
            let token = format!("x-access-token:{}", text("GIT_AUTH_TOKEN")?);
            let engine = base64::engine::general_purpose::STANDARD;
            Some(format!("basic {}", engine.encode(token)))
        })?;
        Some(Pass {
            key: format!("http.{scheme}://{host}/.extraHeader"),
            value: format!("Authorization: {header}"),
        })
    }
}

/// Runs `git`; gives what it prints.
async fn git(directory: &Path, pass: Option<&Pass>, words: &[&str]) -> Result<String> {
    let pass = pass.cloned();
    let (directory, words): (PathBuf, Vec<String>) = (
        directory.to_owned(),
        words.iter().map(|word| (*word).to_owned()).collect(),
    );
    crate::blocking(move || {
        let mut command = std::process::Command::new("git");
        if let Some(pass) = &pass {
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", &pass.key)
                .env("GIT_CONFIG_VALUE_0", &pass.value);
        }
        let output = command
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_for_one_server() {
        let secret = |name: &str| Secrets::from([(name.to_owned(), b"t\n".to_vec())]);
        let pass = |address: &str, name: &str| {
            Pass::of(address, &secret(name)).map(|pass| format!("{}={}", pass.key, pass.value))
        };
        let expected =
            "http.https://h:1/.extraHeader=Authorization: basic eC1hY2Nlc3MtdG9rZW46dA==";
        let rows = [
            ("https://h:1/r.git", "GIT_AUTH_TOKEN", Some(expected)),
            ("https://u@h:1/r.git", "GIT_AUTH_TOKEN.h:1", Some(expected)),
            ("https://h:1/r.git", "GIT_AUTH_TOKEN.other", None),
            (
                "http://h/r.git",
                "GIT_AUTH_HEADER.h",
                Some("http.http://h/.extraHeader=Authorization: t"),
            ),
            ("git@h:r.git", "GIT_AUTH_TOKEN", None),
            ("ssh://h/r.git", "GIT_AUTH_TOKEN", None),
        ];
        for (address, name, expected) in rows {
            assert_eq!(pass(address, name).as_deref(), expected, "{address} {name}");
        }
    }
}
