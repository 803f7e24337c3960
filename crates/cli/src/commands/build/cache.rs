//! `--cache-from` and `--cache-to`.
//!
//! A cache is images: the result's, and with `mode=max` those of all stages. `local` is a directory with them as an OCI layout, `oci` the same as
//! one tar, `registry` a name in a registry; `inline` needs nothing, for an image is its own cache.

use std::path::Path;

use serde_json::{Value, json};

use super::facts::Facts;
use super::uploads;
use crate::client::ClientError;
use crate::client::request::Request;
use crate::commands::image::progress::{self, To};
use crate::commands::image::reference;
use crate::credentials;
use crate::failure::{Failure, errno_text};
use crate::request::mount::csv;
use crate::session::Session;

/// Where steps come from: what the daemon has, and what it is to get.
#[derive(Default)]
pub(super) struct From {
    /// Images that are here.
    pub(super) here: Vec<String>,
    /// The rest, as the daemon takes it.
    pub(super) others: Vec<Value>,
}

impl From {
    /// Understands the flags, and sends what lies in files.
    pub(super) fn read(session: &Session, given: &[String]) -> Result<From, Failure> {
        let mut from = From::default();
        for text in given.iter().filter(|text| !text.is_empty()) {
            from.add(session, text)?;
        }
        Ok(from)
    }

    fn add(&mut self, session: &Session, text: &str) -> Result<(), Failure> {
        if !text.contains('=') {
            match session
                .client
                .done(Request::get(format!("/images/{text}/json")))
            {
                Ok(()) => self.here.push(text.to_owned()),
                Err(ClientError::Api { status: 404, .. }) => {
                    self.others.push(json!({"registry": text}));
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
        let spec = Spec::parse(text)?;
        match spec.kind.as_str() {
            "registry" => self
                .others
                .push(json!({"registry": spec.needs("ref", &spec.name)?})),
            "local" | "oci" => {
                let path = spec.needs("src", &spec.path)?;
                match archive(Path::new(path)) {
                    Ok(mut tar) => {
                        let id = uploads::send(session, "images", &mut tar)?;
                        self.others.push(json!({"upload": id}));
                    }
                    // As with BuildKit: the first build of all has no cache.
                    Err(failure) => crate::print::error_line(&format!(
                        "WARNING: local cache import at {path} not found: {}",
                        failure.message
                    )),
                }
            }
            "inline" => {}
            other => return Err(unsupported(other)),
        }
        Ok(())
    }
}

fn archive(path: &Path) -> Result<Box<dyn std::io::Read>, Failure> {
    if path.is_dir() {
        std::fs::metadata(path.join("index.json"))
            .map_err(|error| Failure::new(errno_text(&error)))?;
        return uploads::directory_tar(path);
    }
    let file = std::fs::File::open(path).map_err(|error| Failure::new(errno_text(&error)))?;
    Ok(Box::new(std::io::BufReader::new(file)))
}

fn unsupported(kind: &str) -> Failure {
    Failure::new(format!(
        "cache type {kind:?} is not supported: it is inline, registry, local or oci"
    ))
}

/// One flag's fields.
#[derive(Default)]
struct Spec {
    kind: String,
    name: String,
    path: String,
    max: bool,
    ignore_error: bool,
}

impl Spec {
    fn parse(text: &str) -> Result<Spec, Failure> {
        let mut spec = Spec::default();
        for field in csv(text).map_err(Failure::new)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| Failure::new(format!("invalid value {field}")))?;
            match key {
                "type" => spec.kind = value.to_owned(),
                "ref" => spec.name = value.to_owned(),
                "src" | "dest" => spec.path = value.to_owned(),
                "mode" => {
                    spec.max = match value {
                        "max" => true,
                        "min" => false,
                        other => {
                            return Err(Failure::new(format!("invalid cache mode {other:?}")));
                        }
                    }
                }
                "ignore-error" => spec.ignore_error = value == "true",
                // How blobs are stored is decided elsewhere.
                _ => {}
            }
        }
        if spec.kind.is_empty() {
            return Err(Failure::new(format!("type required form> {text:?}")));
        }
        Ok(spec)
    }

    fn needs<'a>(&self, what: &str, value: &'a str) -> Result<&'a str, Failure> {
        if value.is_empty() {
            return Err(Failure::new(format!(
                "{what} is required for cache type {}",
                self.kind
            )));
        }
        Ok(value)
    }
}

/// Where steps go.
pub(super) struct Targets(Vec<Spec>);

impl Targets {
    pub(super) fn parse(given: &[String]) -> Result<Targets, Failure> {
        let specs = given.iter().map(|text| {
            let spec = if text.contains('=') {
                Spec::parse(text)?
            } else {
                Spec {
                    kind: "registry".to_owned(),
                    name: text.clone(),
                    ..Spec::default()
                }
            };
            match spec.kind.as_str() {
                "inline" => {}
                "registry" => drop(spec.needs("ref", &spec.name)?),
                "local" | "oci" => drop(spec.needs("dest", &spec.path)?),
                other => return Err(unsupported(other)),
            }
            Ok(spec)
        });
        Ok(Targets(specs.collect::<Result<_, _>>()?))
    }

    /// Writes all of them.
    pub(super) fn write(&self, session: &Session, facts: &Facts) -> Result<(), Failure> {
        for spec in &self.0 {
            let images = facts.images(spec.max);
            let written = match spec.kind.as_str() {
                "registry" => push(session, &spec.name, &images),
                "local" => save(session, &images, Path::new(&spec.path), true),
                "oci" => save(session, &images, Path::new(&spec.path), false),
                _ => Ok(()),
            };
            match written {
                Err(failure) if spec.ignore_error => crate::print::error_line(&format!(
                    "WARNING: the cache was not written: {}",
                    failure.message
                )),
                other => other?,
            }
        }
        Ok(())
    }
}

fn push(session: &Session, name: &str, images: &[String]) -> Result<(), Failure> {
    let parsed = reference::parse(name)?.or_latest();
    let mut request = Request::post("/wharf/build/caches/push")
        .query("ref", parsed.to_string())
        .header(
            "X-Registry-Auth",
            credentials::for_image(session, &parsed).header(),
        );
    for image in images {
        request = request.query("image", image);
    }
    progress::show(&mut session.client.send(request)?.body, To::Nowhere)
}

fn save(session: &Session, images: &[String], path: &Path, unpacked: bool) -> Result<(), Failure> {
    let mut request = Request::get("/images/get");
    for image in images {
        request = request.query("names", image);
    }
    let failed = |error: std::io::Error| {
        Failure::new(format!("open {}: {}", path.display(), errno_text(&error)))
    };
    let mut body = session.client.send(request)?.body;
    // A cache that is there stays until the new one is complete.
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    if unpacked {
        if new.exists() {
            std::fs::remove_dir_all(new).map_err(failed)?;
        }
        std::fs::create_dir_all(new).map_err(failed)?;
        tar::Archive::new(&mut body).unpack(new).map_err(failed)?;
        if path.exists() {
            std::fs::remove_dir_all(path).map_err(failed)?;
        }
    } else {
        let mut file = std::fs::File::create(new).map_err(failed)?;
        std::io::copy(&mut body, &mut file).map_err(failed)?;
    }
    std::fs::rename(new, path).map_err(failed)
}
