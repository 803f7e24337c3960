//! Another registry, spoken to with the engine's own client (`wharf-distribution`).

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures_util::Stream;
use url::Url;
use wharf_distribution::blob::BlobEvent;
use wharf_distribution::{Config, Credentials, Registry, Repository};
use wharf_spec::digest::Digest;
use wharf_spec::reference::Reference;

use super::UpstreamError;

/// Name and password, and whom to trust.
#[derive(Debug)]
pub(super) struct Login<'a> {
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    pub password_file: Option<&'a Path>,
    pub ca: Option<&'a Path>,
}

/// Another registry.
#[derive(Debug)]
pub(super) struct Remote {
    registry: Registry,
    credentials: Credentials,
    domain: String,
    path: String,
}

impl Remote {
    /// From `https://host[:port][/path]`.
    pub fn open(url: &str, login: &Login<'_>, root: &Path) -> Result<Remote, UpstreamError> {
        let bad = || UpstreamError::Url(url.to_owned());
        let parsed = Url::parse(url).map_err(|_| bad())?;
        let host = parsed.host_str().ok_or_else(bad)?;
        let authority = match parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None if parsed.scheme() == "http" => format!("{host}:80"),
            None => host.to_owned(),
        };
        let mut config = Config {
            attempts: 2,
            http_proxy: env("HTTP_PROXY"),
            https_proxy: env("HTTPS_PROXY"),
            no_proxy: env("NO_PROXY"),
            ..Config::default()
        };
        match parsed.scheme() {
            "https" => {}
            "http" => config.insecure.push(authority.clone()),
            _ => return Err(bad()),
        }
        if let Some(ca) = login.ca {
            config.certs_dir = trust(root, &authority, ca)?;
        }
        let password = match login.password_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| UpstreamError::File {
                    path: path.to_owned(),
                    source,
                })?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            None => login.password.unwrap_or_default().to_owned(),
        };
        // The API's own name is no name of a reference.
        let domain = if authority == "registry-1.docker.io" {
            "docker.io".to_owned()
        } else {
            authority
        };
        Ok(Remote {
            registry: Registry::new(config),
            credentials: Credentials {
                username: login.username.unwrap_or_default().to_owned(),
                password,
                server_address: domain.clone(),
                ..Credentials::default()
            },
            domain,
            path: parsed.path().trim_matches('/').to_owned(),
        })
    }

    /// A repository there; `None` if the name cannot be one.
    pub async fn repository(&self, name: &str) -> Option<Repository> {
        let path = match (self.path.as_str(), name) {
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}/{name}"),
        };
        let reference = Reference::parse(&format!("{}/{path}", self.domain)).ok()?;
        Some(self.registry.pull(&reference, &self.credentials).await)
    }
}

/// A directory as the client wants it: `<host[:port]>/ca.crt`.
fn trust(root: &Path, authority: &str, ca: &Path) -> Result<std::path::PathBuf, UpstreamError> {
    let fail = |source: io::Error| UpstreamError::File {
        path: ca.to_owned(),
        source,
    };
    let text = std::fs::read(ca).map_err(fail)?;
    let certs = root.join("certs.d");
    std::fs::create_dir_all(certs.join(authority)).map_err(fail)?;
    std::fs::write(certs.join(authority).join("ca.crt"), text).map_err(fail)?;
    Ok(certs)
}

fn env(name: &str) -> String {
    std::env::var(name)
        .or_else(|_| std::env::var(name.to_lowercase()))
        .unwrap_or_default()
}

/// The bytes of a blob there, `size` of them.
pub(super) fn blob_bytes(
    repository: &Repository,
    digest: &Digest,
    size: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let stream = repository.blob_stream(digest, size, 0);
    futures_util::stream::try_unfold(stream, |mut stream| async move {
        loop {
            match stream.next().await.map_err(io::Error::other)? {
                Some(BlobEvent::Data(bytes)) => return Ok(Some((bytes, stream))),
                Some(BlobEvent::Retry(_)) => {}
                None => return Ok(None),
            }
        }
    })
}
