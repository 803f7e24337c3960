//! `logs`

use std::io::Read;

use wharf_api::container::ContainerInspect;
use wharf_api::stream::Stream;

use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;
use crate::stream::demux::Demux;
use crate::stream::write_all;

/// `logs`
///
/// # Errors
/// The container does not exist or its log cannot be read.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let client = &session.client;
    let name = &matches.args[0];
    if matches.on("clear") {
        client.done(Request::delete(format!("/containers/{name}/logs")))?;
        return Ok(());
    }
    let container: ContainerInspect =
        client.json(Request::get(format!("/containers/{name}/json")))?;
    let flag = |name: &str| if matches.on(name) { "1" } else { "" };
    let request = Request::get(format!("/containers/{}/logs", container.id))
        .query_if(matches.on("details"), "details", flag("details"))
        .query_if(matches.on("follow"), "follow", flag("follow"))
        .query_if(matches.on("timestamps"), "timestamps", flag("timestamps"))
        .query("stdout", "1")
        .query("stderr", "1")
        .query("tail", matches.text("tail").unwrap_or("all"));
    let request = with_time(request, matches, "since")?;
    let request = with_time(request, matches, "until")?;
    let mut body = client.send(request)?.body;
    copy(&mut body, container.config.tty)
}

fn with_time<'a>(
    request: Request<'a>,
    matches: &Matches,
    name: &str,
) -> Result<Request<'a>, Failure> {
    match matches.text(name).filter(|text| !text.is_empty()) {
        None => Ok(request),
        Some(text) => match crate::text::moment::parse(text, jiff::Timestamp::now()) {
            Ok(moment) => Ok(request.query(name, moment)),
            Err(reason) => Err(Failure::new(format!(
                "invalid value for \"{name}\": {reason}"
            ))),
        },
    }
}

fn copy(body: &mut impl Read, tty: bool) -> Result<(), Failure> {
    let mut buffer = vec![0; 64 * 1024];
    let mut demux = Demux::default();
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if tty {
            quiet_pipe(write_all(rustix::stdio::stdout(), &buffer[..n]))?;
            continue;
        }
        let mut rest = &buffer[..n];
        while let Some(piece) = demux
            .next(&mut rest)
            .map_err(|error| Failure::new(error.to_string()))?
        {
            match piece.stream {
                Stream::Stderr => quiet_pipe(write_all(rustix::stdio::stderr(), piece.bytes))?,
                Stream::SystemError => {
                    let message = String::from_utf8_lossy(piece.bytes);
                    return Err(Failure::new(format!(
                        "error from daemon in stream: {message}"
                    )));
                }
                Stream::Stdin | Stream::Stdout => {
                    quiet_pipe(write_all(rustix::stdio::stdout(), piece.bytes))?
                }
            }
        }
    }
}

fn quiet_pipe(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::exit(141)),
        other => other.map_err(Failure::from),
    }
}
