//! `--output`: where else the result goes.

use std::fs::File;
use std::io::{self, Read};

use crate::client::request::Request;
use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::request::mount::csv;
use crate::session::Session;

/// One destination.
pub(super) enum Output {
    /// The engine, which has it anyway.
    Engine,
    /// Files in a directory.
    Local(String),
    /// Files in a tar; `-` is standard output.
    Tar(String),
    /// An archive of the image that `load` takes, which is an OCI layout too.
    Archive(String),
}

pub(super) fn parse(given: &[String]) -> Result<Vec<Output>, Failure> {
    given.iter().map(|text| one(text)).collect()
}

fn one(text: &str) -> Result<Output, Failure> {
    if !text.contains('=') {
        return Ok(match text {
            "-" => Output::Tar("-".to_owned()),
            path => Output::Local(path.to_owned()),
        });
    }
    let (mut kind, mut dest) = (String::new(), String::new());
    for field in csv(text).map_err(Failure::new)? {
        match field.split_once('=') {
            Some(("type", value)) => kind = value.to_owned(),
            Some(("dest", value)) => dest = value.to_owned(),
            Some(("push", "true")) => {
                return Err(Failure::new(
                    "pushing the result of a build is not supported yet",
                ));
            }
            Some(_) => {}
            None => return Err(Failure::new(format!("invalid value {field}"))),
        }
    }
    let needs_dest = |dest: String| {
        if dest.is_empty() {
            Err(Failure::new(format!("dest is required for {kind} output")))
        } else {
            Ok(dest)
        }
    };
    match kind.as_str() {
        "" => Err(Failure::new("type is required for output")),
        "local" => needs_dest(dest).map(Output::Local),
        "tar" => Ok(Output::Tar(if dest.is_empty() {
            "-".to_owned()
        } else {
            dest
        })),
        "oci" => needs_dest(dest).map(Output::Archive),
        "docker" if dest.is_empty() => Ok(Output::Engine),
        "docker" => Ok(Output::Archive(dest)),
        "image" | "cacheonly" => Ok(Output::Engine),
        other => Err(Failure::new(format!(
            "output type {other:?} is not supported yet"
        ))),
    }
}

impl Output {
    pub(super) fn write(
        &self,
        session: &Session,
        image: &str,
        matches: &Matches,
    ) -> Result<(), Failure> {
        match self {
            Output::Engine => Ok(()),
            Output::Local(path) => {
                std::fs::create_dir_all(path).map_err(|error| failed(path, &error))?;
                let mut files = files(session, image)?;
                let mut archive = tar::Archive::new(&mut files);
                archive.set_preserve_permissions(true);
                archive.set_overwrite(true);
                archive.unpack(path).map_err(|error| failed(path, &error))
            }
            Output::Tar(path) => copy(&mut files(session, image)?, path),
            Output::Archive(path) => {
                let tags = matches.list("tag");
                let name = tags.first().map_or(image, String::as_str);
                let request = Request::get("/images/get").query("names", name);
                copy(&mut session.client.send(request)?.body, path)
            }
        }
    }
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
