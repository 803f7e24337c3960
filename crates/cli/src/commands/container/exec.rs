//! `exec`

use wharf_api::container::{ExecCreateRequest, ExecInspect, ExecStartRequest, IdResponse};

use super::ran::{self, Target};
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::request::keys_values;
use crate::session::Session;
use crate::stream::attached::{Attached, End, Plan};
use crate::stream::terminal;

/// `exec`
///
/// # Errors
/// The command's exit code; 126 and 127 when it cannot be executed or is not there.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let client = &session.client;
    let (keys_text, detach_keys) = ran::detach_keys(session, matches);
    let request = plan(matches, keys_text)?;
    // Told apart from a bad exec: no such container, or not running.
    let container = &matches.args[0];
    client.done(Request::get(format!("/containers/{container}/json")))?;
    if !request.detach {
        ran::check_tty(request.attach_stdin, request.tty)?;
    }
    let body = serde_json::to_value(&request).map_err(|error| Failure::new(error.to_string()))?;
    let created: IdResponse =
        client.json(Request::post(format!("/containers/{container}/exec")).json(&body))?;
    let id = &created.id;
    let start = ExecStartRequest {
        detach: request.detach,
        tty: request.tty,
        console_size: request.console_size,
    };
    let start = serde_json::to_value(&start).map_err(|error| Failure::new(error.to_string()))?;
    let start = Request::post(format!("/exec/{id}/start")).json(&start);
    if request.detach {
        return client.done(start).map_err(Failure::from);
    }
    let resize = request.tty && terminal::stdout_is_terminal();
    let signals = ran::watch_signals(false, resize)?;
    let connection = client.hijack(start.upgrade())?;
    let plan = Plan {
        tty: request.tty,
        stdin: request.attach_stdin,
        stdout: true,
        stderr: true,
        detach_keys,
    };
    let mut attached = Attached::begin(connection, plan)?;
    let target = Target {
        client,
        path: format!("/exec/{id}"),
        proxy: false,
        resize,
    };
    target.resize();
    let end = attached.run(signals.as_ref(), |signal| target.signal(signal));
    drop(attached);
    match end? {
        End::Detached => Err(Failure::new("read escape sequence")),
        End::Closed => {
            let exec: ExecInspect = client.json(Request::get(format!("/exec/{id}/json")))?;
            ran::end_with(u8::try_from(exec.exit_code.unwrap_or(0) & 0xff).unwrap_or(u8::MAX))
        }
    }
}

fn plan(matches: &Matches, detach_keys: String) -> Result<ExecCreateRequest, Failure> {
    let detach = matches.on("detach");
    let tty = matches.on("tty");
    let env = keys_values::environment(matches.list("env-file"), matches.list("env"))
        .map_err(Failure::new)?;
    let size = terminal::size().filter(|_| tty);
    Ok(ExecCreateRequest {
        user: matches.text_or_empty("user").to_owned(),
        privileged: matches.on("privileged"),
        tty,
        console_size: size.map(|(rows, columns)| [u64::from(rows), u64::from(columns)]),
        attach_stdin: matches.on("interactive") && !detach,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach,
        detach_keys,
        env: Some(env).filter(|env| !env.is_empty()),
        working_dir: matches.text_or_empty("workdir").to_owned(),
        cmd: Some(matches.args[1..].to_vec()),
    })
}
