//! `start`

use wharf_api::container::ContainerInspect;

use super::ran::{self, Target};
use super::run::attach_request;
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::stream::attached::{Attached, End, Plan};
use crate::stream::terminal;

/// `start`
///
/// # Errors
/// With `-a` or `-i` the container's exit code.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    if !matches.text_or_empty("checkpoint").is_empty() {
        return Err(Failure::new(
            "--checkpoint is not supported: this engine makes no checkpoints; start the container without it",
        ));
    }
    if matches.on("attach") || matches.on("interactive") {
        if matches.args.len() > 1 {
            return Err(Failure::new(
                "you cannot start and attach multiple containers at once",
            ));
        }
        return start_attached(session, matches, &matches.args[0]);
    }
    let mut failed = Vec::new();
    for name in &matches.args {
        match session
            .client
            .done(Request::post(format!("/containers/{name}/start")))
        {
            Ok(()) => print::out_line(name)?,
            Err(error) => {
                print::error_line(&error.to_string());
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

fn start_attached(session: &Session, matches: &Matches, name: &str) -> Result<(), Failure> {
    let client = &session.client;
    let container: ContainerInspect =
        client.json(Request::get(format!("/containers/{name}/json")))?;
    let mut config = container.config;
    config.attach_stdin = matches.on("interactive") && config.open_stdin;
    config.attach_stdout = true;
    config.attach_stderr = true;
    ran::check_tty(matches.on("interactive"), config.tty)?;
    let (keys_text, detach_keys) = ran::detach_keys(session, matches);
    let id = &container.id;
    let resize = config.tty && terminal::stdout_is_terminal();
    // With a terminal the keys already reach the program.
    let target = Target {
        client,
        path: format!("/containers/{id}"),
        proxy: !config.tty,
        resize,
    };
    let signals = ran::watch_signals(target.proxy, resize)?;
    let connection = client.hijack(attach_request(id, &config, &keys_text))?;
    let wait = ran::begin_wait(client, id, container.host_config.auto_remove)?;
    let plan = Plan {
        tty: config.tty,
        stdin: config.attach_stdin,
        stdout: true,
        stderr: true,
        detach_keys,
    };
    let mut attached = Attached::begin(connection, plan)?;
    if let Err(error) = client.done(Request::post(format!("/containers/{id}/start"))) {
        drop(attached);
        if container.host_config.auto_remove {
            let _ = ran::exit_code(wait);
        }
        return Err(error.into());
    }
    target.resize();
    let end = attached.run(signals.as_ref(), |signal| target.signal(signal));
    drop(attached);
    match end? {
        End::Detached => Ok(()),
        End::Closed => ran::end_with(ran::exit_code(wait)?),
    }
}
