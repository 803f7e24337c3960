//! `create`, and how `run` creates.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

use wharf_api::container::{CreateRequest, CreateResponse};

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
/// Exit code 1, as in Docker's client: only `run` tells 125 to 127 apart.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
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
    let mut id_file = matches
        .text("cidfile")
        .filter(|path| !path.is_empty())
        .map(open_id_file)
        .transpose()?;
    let quiet = matches.on("quiet");
    let platform = matches
        .text("platform")
        .map(str::to_owned)
        .or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok());
    let platform = platform.unwrap_or_default();
    let image_name = request.config.image.as_str();
    if matches.text("pull") == Some("always") {
        image::get::get(session, image_name, &platform, quiet)?;
    }
    let response = match send(session, matches, request, &platform) {
        Err(error)
            if error.status() == Some(404) && is_missing_image(&error) && may_pull(matches) =>
        {
            if !quiet {
                let name = image::reference::with_tag(image_name);
                print::error_line(&format!("Unable to find image '{name}' locally"));
            }
            image::get::get(session, image_name, &platform, quiet)?;
            send(session, matches, request, &platform)
        }
        other => other,
    };
    let response = match response {
        Ok(response) => response,
        Err(error) => {
            if let Some((path, _)) = id_file.take() {
                let _ = std::fs::remove_file(path);
            }
            return Err(error.into());
        }
    };
    for warning in &response.warnings {
        print::error_line(&format!("WARNING: {warning}"));
    }
    if let Some((path, mut file)) = id_file {
        file.write_all(response.id.as_bytes()).map_err(|error| {
            Failure::new(format!(
                "failed to write the container ID to {path}: {error}"
            ))
        })?;
    }
    Ok(response.id)
}

fn may_pull(matches: &Matches) -> bool {
    matches!(matches.text_or_empty("pull"), "" | "missing")
}

fn is_missing_image(error: &ClientError) -> bool {
    error.to_string().to_lowercase().contains("no such image")
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

fn open_id_file(path: &str) -> Result<(String, std::fs::File), Failure> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => Ok((path.to_owned(), file)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::new(format!(
            "container ID file found, make sure the other container isn't running or delete {path}"
        ))),
        Err(error) => Err(Failure::new(format!(
            "failed to create the container ID file: open {path}: {}",
            errno_text(&error)
        ))),
    }
}
