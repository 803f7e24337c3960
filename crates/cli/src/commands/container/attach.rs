//! `attach`

use wharf_api::container::ContainerInspect;

use super::ran::{self, Target};
use super::run::attach_request;
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;
use crate::stream::attached::{Attached, End, Plan};
use crate::stream::terminal;

/// `attach`
///
/// # Errors
/// The container's exit code; it does not run.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let client = &session.client;
    let name = &matches.args[0];
    let (keys_text, detach_keys) = ran::detach_keys(session, matches);
    let container = running(session, name)?;
    let mut config = container.config;
    ran::check_tty(!matches.on("no-stdin"), config.tty)?;
    config.attach_stdin = !matches.on("no-stdin") && config.open_stdin;
    config.attach_stdout = true;
    config.attach_stderr = true;
    let id = &container.id;
    let resize = config.tty && terminal::stdout_is_terminal();
    let proxy = matches.on_or("sig-proxy", true) && !config.tty;
    let target = Target {
        client,
        path: format!("/containers/{id}"),
        proxy,
        resize,
    };
    let wait = client.send(Request::post(format!("/containers/{id}/wait")))?;
    let signals = ran::watch_signals(proxy, resize)?;
    let connection = client.hijack(attach_request(id, &config, &keys_text))?;
    // It may have ended while we were attaching, and then nothing would ever come.
    running(session, name)?;
    let plan = Plan {
        tty: config.tty,
        stdin: config.attach_stdin,
        stdout: true,
        stderr: true,
        detach_keys,
    };
    let mut attached = Attached::begin(connection, plan)?;
    if resize && let Some((rows, columns)) = terminal::size() {
        // A program draws itself again only when the size changes: make it change and change back.
        let request = Request::post(format!("/containers/{id}/resize"))
            .query("h", (u32::from(rows) + 1).to_string())
            .query("w", (u32::from(columns) + 1).to_string());
        let _ = client.done(request);
    }
    target.resize();
    let end = attached.run(signals.as_ref(), |signal| target.signal(signal));
    drop(attached);
    match end? {
        End::Detached => Err(Failure::new("read escape sequence")),
        End::Closed => ran::end_with(ran::exit_code(wait)?),
    }
}

fn running(session: &Session, name: &str) -> Result<ContainerInspect, Failure> {
    let container: ContainerInspect = session
        .client
        .json(Request::get(format!("/containers/{name}/json")))?;
    let refusal = match &container.state {
        state if !state.running => "You cannot attach to a stopped container, start it first",
        state if state.paused => "You cannot attach to a paused container, unpause it first",
        state if state.restarting => {
            "You cannot attach to a restarting container, wait until it is running"
        }
        _ => return Ok(container),
    };
    Err(Failure::new(refusal))
}
