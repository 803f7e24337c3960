//! `--output`: where else the result goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};
use wharf_spec::reference::Reference;

use super::annotation::Annotations;
use super::attest::{Invocation, Wanted};
use super::facts::Facts;
use crate::client::request::Request;
use crate::commands::image::progress::{self, To};
use crate::commands::image::reference;
use crate::credentials;
use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::request::mount::csv;
use crate::session::Session;

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    kind: Kind,
    /// Path on this side; empty for none, `-` for standard output.
    dest: String,
    /// Names besides those of `--tag`.
    pub(super) names: Vec<String>,
    annotations: Annotations,
    compression: String,
    /// One file, not a directory.
    one_file: bool,
}

/// What a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The engine, which has it anyway.
    Engine,
    /// A registry.
    Registry,
    /// Files in a directory.
    Local,
    /// Files in a tar.
    Tar,
    /// An OCI layout.
    Oci,
    /// An archive that `load` takes.
    Docker,
}

/// What is known about the build that is to be written out.
pub(super) struct Built<'a> {
    pub(super) session: &'a Session,
    pub(super) facts: &'a Facts,
    pub(super) names: &'a [String],
    pub(super) annotations: &'a Annotations,
    pub(super) wanted: &'a Wanted,
    pub(super) invocation: &'a Invocation<'a>,
}

/// All destinations that the flags name.
pub(super) fn parse(matches: &Matches) -> Result<Vec<Output>, Failure> {
    let mut outputs: Vec<Output> = matches
        .list("output")
        .iter()
        .map(|text| one(text))
        .collect::<Result<_, _>>()?;
    if matches.on("push") && !outputs.iter().any(|output| output.kind == Kind::Registry) {
        outputs.push(Output::new(Kind::Registry, ""));
    }
    Ok(outputs)
}

impl Output {
    fn new(kind: Kind, dest: &str) -> Output {
        Output {
            kind,
            dest: dest.to_owned(),
            names: Vec::new(),
            annotations: Annotations::default(),
            compression: String::new(),
            one_file: true,
        }
    }
}

fn one(text: &str) -> Result<Output, Failure> {
    if !text.contains('=') {
        return Ok(match text {
            "-" => Output::new(Kind::Tar, "-"),
            path => Output::new(Kind::Local, path),
        });
    }
    let (mut kind, mut push) = (String::new(), false);
    let mut output = Output::new(Kind::Engine, "");
    for field in csv(text).map_err(Failure::new)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("invalid value {field}")))?;
        match key {
            "type" => kind = value.to_owned(),
            "dest" => value.clone_into(&mut output.dest),
            "push" => push = value == "true",
            "name" => output.names.extend(value.split(',').map(str::to_owned)),
            "tar" => output.one_file = value != "false",
            "compression" => value.clone_into(&mut output.compression),
            // An index, and OCI's types where they are needed, are made in any case.
            "oci-mediatypes"
            | "oci-artifact"
            | "unpack"
            | "store"
            | "load"
            | "rewrite-timestamp"
            | "compression-level"
            | "force-compression"
            | "platform-split"
            | "registry.insecure"
            | "name-canonical"
            | "dangling-name-prefix"
            | "context"
            | "mode" => {}
            other if output.annotations.attribute(other, value) => {}
            other => {
                return Err(Failure::new(format!(
                    "unknown attribute {other:?} of an output"
                )));
            }
        }
    }
    output.kind = match kind.as_str() {
        "" => return Err(Failure::new("type is required for output")),
        "local" => Kind::Local,
        "tar" => Kind::Tar,
        "oci" => Kind::Oci,
        "docker" if output.dest.is_empty() => Kind::Engine,
        "docker" => Kind::Docker,
        "registry" => Kind::Registry,
        "image" if push => Kind::Registry,
        "image" | "moby" | "cacheonly" => Kind::Engine,
        other => {
            return Err(Failure::new(format!(
                "exporter {other:?} could not be found"
            )));
        }
    };
    output.check()?;
    Ok(output)
}

impl Output {
    fn check(&mut self) -> Result<(), Failure> {
        match self.kind {
            Kind::Local if self.dest.is_empty() => {
                return Err(Failure::new("dest is required for local exporter"));
            }
            Kind::Tar | Kind::Oci if self.dest.is_empty() => self.dest = "-".to_owned(),
            _ => {}
        }
        if self.dest == "-" && crate::stream::terminal::stdout_is_terminal() {
            return Err(Failure::new(
                "dest file is required for this exporter. refusing to write to console",
            ));
        }
        if !matches!(
            self.compression.as_str(),
            "" | "gzip" | "zstd" | "uncompressed"
        ) {
            return Err(Failure::new(format!(
                "compression {:?} is not supported: it is gzip, zstd or uncompressed",
                self.compression
            )));
        }
        Ok(())
    }

    /// Writes the result there. Gives its digest if it got another one.
    pub(super) fn write(&self, result: &Built<'_>) -> Result<Option<String>, Failure> {
        let image = &result.facts.image;
        match self.kind {
            Kind::Engine => {}
            Kind::Registry => return self.push(result),
            Kind::Local => self.local(result)?,
            Kind::Tar => copy(&mut files(result.session, image)?, &self.dest)?,
            Kind::Oci => self.layout(result)?,
            Kind::Docker => {
                let name = result.names.first().unwrap_or(image);
                let request = Request::get("/images/get").query("names", name);
                copy(&mut result.session.client.send(request)?.body, &self.dest)?;
            }
        }
        Ok(None)
    }

    fn local(&self, result: &Built<'_>) -> Result<(), Failure> {
        let path = &self.dest;
        std::fs::create_dir_all(path).map_err(|error| failed(path, &error))?;
        let mut files = files(result.session, &result.facts.image)?;
        let mut archive = tar::Archive::new(&mut files);
        archive.set_preserve_permissions(true);
        archive.set_overwrite(true);
        archive.unpack(path).map_err(|error| failed(path, &error))?;
        for (name, statement) in self.statements(result)? {
            let file = Path::new(path).join(name);
            std::fs::write(&file, format!("{statement:#}"))
                .map_err(|error| failed(&file.display().to_string(), &error))?;
        }
        Ok(())
    }

    /// Statements that lie beside files: only those that were asked for.
    fn statements(&self, result: &Built<'_>) -> Result<Vec<(&'static str, Value)>, Failure> {
        let mut found = Vec::new();
        if !result.wanted.asked {
            return Ok(found);
        }
        let about = |kind: &str, predicate: Value| {
            json!({
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": kind,
                "subject": [],
                "predicate": predicate,
            })
        };
        if let Some(provenance) = &result.wanted.provenance {
            let (kind, predicate) = provenance.statement(result.facts, result.invocation);
            found.push(("provenance.json", about(kind, predicate)));
        }
        if result.wanted.sbom {
            let request = Request::get(format!("/wharf/images/{}/sbom", result.facts.image));
            let document: Value = result.session.client.json(request)?;
            found.push((
                "sbom.spdx.json",
                about("https://spdx.dev/Document", document),
            ));
        }
        Ok(found)
    }

    /// What goes along with the image, as the daemon takes it.
    fn dressing(&self, result: &Built<'_>) -> Value {
        let join = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
            let mut all = a.clone();
            all.extend(b.clone());
            all
        };
        let (given, own) = (result.annotations, &self.annotations);
        let statements: Vec<Value> = result
            .wanted
            .provenance
            .iter()
            .map(|provenance| {
                let (kind, predicate) = provenance.statement(result.facts, result.invocation);
                json!({"predicateType": kind, "predicate": predicate})
            })
            .collect();
        json!({
            "annotations": join(&given.manifest, &own.manifest),
            "descriptorAnnotations": join(&given.descriptor, &own.descriptor),
            "indexAnnotations": join(&given.index, &own.index),
            "attestations": statements,
            "sbom": result.wanted.sbom,
            "names": result.names,
            "compression": if self.compression.is_empty() { "gzip" } else { &self.compression },
        })
    }

    fn layout(&self, result: &Built<'_>) -> Result<(), Failure> {
        let body = self.dressing(result);
        let request =
            Request::post(format!("/wharf/images/{}/layout", result.facts.image)).json(&body);
        let mut answer = result.session.client.send(request)?.body;
        if self.one_file {
            return copy(&mut answer, &self.dest);
        }
        let path = &self.dest;
        std::fs::create_dir_all(path).map_err(|error| failed(path, &error))?;
        tar::Archive::new(&mut answer)
            .unpack(path)
            .map_err(|error| failed(path, &error))
    }

    fn push(&self, result: &Built<'_>) -> Result<Option<String>, Failure> {
        if result.names.is_empty() {
            return Err(Failure::new("tag is needed when pushing to registry"));
        }
        let plain = result.wanted.provenance.is_none()
            && !result.wanted.sbom
            && result.annotations.is_empty()
            && self.annotations.is_empty();
        let mut pushed = None;
        for name in result.names {
            let name = reference::parse(name)?.or_latest();
            let mut dressing = self.dressing(result);
            dressing["names"] = json!([name.to_string()]);
            pushed = push_one(result.session, &name, (!plain).then_some(&dressing))?.or(pushed);
        }
        Ok(pushed)
    }
}

fn push_one(
    session: &Session,
    name: &Reference,
    dressing: Option<&Value>,
) -> Result<Option<String>, Failure> {
    let request = Request::post(format!("/images/{}/push", name.familiar_name()))
        .query("tag", name.tag().unwrap_or(""))
        .query_if(
            dressing.is_some(),
            "wharf",
            dressing.map(Value::to_string).unwrap_or_default(),
        )
        .header(
            "X-Registry-Auth",
            credentials::for_image(session, name).header(),
        );
    let mut text = Vec::new();
    session.client.send(request)?.body.read_to_end(&mut text)?;
    progress::show(&mut text.as_slice(), To::Nowhere)?;
    let digest = text.split(|byte| *byte == b'\n').find_map(|line| {
        let line: Value = serde_json::from_slice(line).ok()?;
        Some(line["aux"]["Digest"].as_str()?.to_owned())
    });
    Ok(digest)
}

/// All files of an image, layers merged.
fn files(session: &Session, image: &str) -> Result<impl Read, Failure> {
    let request = Request::get(format!("/wharf/images/{image}/files"));
    Ok(session.client.send(request)?.body)
}

fn copy(from: &mut impl Read, path: &str) -> Result<(), Failure> {
    if path == "-" {
        io::copy(from, &mut io::stdout().lock())?;
        return Ok(());
    }
    let mut file = File::create(path).map_err(|error| failed(path, &error))?;
    io::copy(from, &mut file).map_err(|error| failed(path, &error))?;
    Ok(())
}

fn failed(path: &str, error: &io::Error) -> Failure {
    Failure::new(format!("open {path}: {}", errno_text(error)))
}
