//! `create`, and how `run` creates.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};

use wharf_api::container::{CreateRequest, CreateResponse};
use wharf_spec::platform::Platform;

use super::api_socket;
use crate::client::ClientError;
use crate::client::request::Request;
use crate::commands::image;
use crate::failure::{Failure, errno_text};
use crate::flags::parse::Matches;
use crate::print;
use crate::request;
use crate::session::Session;

/// `create`
///
/// # Errors
/// Exit code 125 when the flags do not fit, 1 for all else: only `run` tells 126 and 127 apart.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    check_pull(matches).map_err(|failure| with_hint(session, "create", &failure.message, 125))?;
    // A daemon that does not answer is told about before flags are looked at closely.
    session.client.version()?;
    let request = plan(session, matches)
        .map_err(|failure| with_hint(session, "create", &failure.message, 125))?;
    let id = create(session, matches, &request)?;
    print::out_line(&id)
}

/// The request that the flags describe.
///
/// # Errors
/// They do not fit.
pub fn plan(session: &Session, matches: &Matches) -> Result<CreateRequest, Failure> {
    check_pull(matches)?;
    // A daemon that does not answer is told about before flags are looked at closely.
    session.client.version()?;
    let proxies = session
        .config()
        .proxy_env(&session.client.endpoint().to_string());
    request::create::parse(matches, &proxies).map_err(Failure::new)
}

fn check_pull(matches: &Matches) -> Result<(), Failure> {
    match matches.text_or_empty("pull") {
        "" | "always" | "missing" | "never" => Ok(()),
        other => Err(Failure::new(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

/// The failure as `run` and `create` report it, with the name of the program and a hint at the help.
pub fn with_hint(session: &Session, command: &str, message: &str, code: u8) -> Failure {
    let program = session.program;
    Failure::with_code(
        code,
        format!("{program}: {message}\n\nRun '{program} {command} --help' for more information"),
    )
}

/// Creates the container, getting its image if that is needed and wanted. Returns its ID.
///
/// # Errors
/// See [`Failure`]; the cidfile exists already.
pub fn create(
    session: &Session,
    matches: &Matches,
    request: &CreateRequest,
) -> Result<String, Failure> {
    let id_file = matches
        .text("cidfile")
        .filter(|path| !path.is_empty())
        .map(IdFile::create)
        .transpose()?;
    let name = image::reference::parse_any(&request.config.image)?;
    let shared = matches.on("use-api-socket");
    let mut request = request.clone();
    if shared {
        api_socket::plan(session, &mut request);
    }
    let request = &request;
    let quiet = matches.on("quiet");
    let platform = platform(matches)?;
    if let (Some(name), Some("always")) = (&name, matches.text("pull")) {
        image::get::get(session, name, &platform, quiet)?;
    }
    let response = match (send(session, matches, request, &platform), name) {
        (Err(error), Some(name)) if is_missing_image(&error) && may_pull(matches) => {
            if !quiet {
                print::error_line(&format!(
                    "Unable to find image '{}' locally",
                    name.familiar()
                ));
            }
            image::get::get(session, &name, &platform, quiet)?;
            send(session, matches, request, &platform)?
        }
        (result, _) => result?,
    };
    if shared && let Err(error) = api_socket::deliver(session, &response.id) {
        print::error_line(&format!(
            "WARNING: injecting docker config.json into container failed: {error}"
        ));
    }
    for warning in &response.warnings {
        print::error_line(&format!("WARNING: {warning}"));
    }
    if let Some(file) = id_file {
        file.write(&response.id)?;
    }
    Ok(response.id)
}

/// `--platform`, or else `DOCKER_DEFAULT_PLATFORM`; empty if neither is given.
fn platform(matches: &Matches) -> Result<String, Failure> {
    let given = matches.text("platform").map(str::to_owned);
    let platform = given
        .or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok())
        .unwrap_or_default();
    if !platform.is_empty() {
        Platform::parse(&platform)
            .map_err(|error| Failure::new(format!("error parsing specified platform: {error}")))?;
    }
    Ok(platform)
}

fn may_pull(matches: &Matches) -> bool {
    matches!(matches.text_or_empty("pull"), "" | "missing")
}

/// Docker's client takes every 404 for a missing image, among them one for another platform.
fn is_missing_image(error: &ClientError) -> bool {
    error.status() == Some(404)
}

fn send(
    session: &Session,
    matches: &Matches,
    request: &CreateRequest,
    platform: &str,
) -> Result<CreateResponse, ClientError> {
    let name = matches.text_or_empty("name");
    let body =
        serde_json::to_value(request).map_err(|error| ClientError::Malformed(error.to_string()))?;
    session.client.json(
        Request::post("/containers/create")
            .query_if(!name.is_empty(), "name", name)
            .query_if(!platform.is_empty(), "platform", platform)
            .json(&body),
    )
}

/// `--cidfile`: made before the container, so that two of them never share one, and removed again if there is no
/// container to name.
struct IdFile {
    path: String,
    file: File,
    written: bool,
}

impl IdFile {
    fn create(path: &str) -> Result<IdFile, Failure> {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(IdFile {
                path: path.to_owned(),
                file,
                written: false,
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ))),
            Err(error) => Err(Failure::new(format!(
                "failed to create the container ID file: open {path}: {}",
                errno_text(&error)
            ))),
        }
    }

    fn write(mut self, id: &str) -> Result<(), Failure> {
        self.file.write_all(id.as_bytes()).map_err(|error| {
            Failure::new(format!(
                "failed to write the container ID ({id}) to file: {}",
                errno_text(&error)
            ))
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
