//! `run`: create, attach, wait, start, move bytes, end as the container did.

use wharf_api::container::{Config, CreateRequest};

use super::create::{self, with_hint};
use super::ran::{self, Target};
use crate::client::ClientError;
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::stream::attached::{Attached, End, Plan};

/// `run`
///
/// # Errors
/// The container's own exit code; 125 when it could not be run, 126 when its command cannot be executed, 127 when there
/// is no such command.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let mut request = create::plan(session, matches)
        .map_err(|failure| with_hint(session, "run", &failure.message, 125))?;
    let detach = matches.on("detach");
    if detach {
        detach_config(&mut request.config, matches)?;
    } else {
        ran::check_tty(request.config.attach_stdin, request.config.tty)?;
    }
    let (keys_text, keys) = ran::detach_keys(session, matches);
    set_console_size(&mut request);
    let id =
        create::create(session, matches, &request).map_err(|failure| as_run(session, failure))?;
    let config = &request.config;
    if !(config.attach_stdin || config.attach_stdout || config.attach_stderr) {
        print::out_line(&id)?;
        return session
            .client
            .done(Request::post(format!("/containers/{id}/start")))
            .map_err(|e| start_failure(session, &e));
    }
    run_attached(session, matches, &request, &id, &keys_text, keys)
}

fn run_attached(
    session: &Session,
    matches: &Matches,
    request: &CreateRequest,
    id: &str,
    keys_text: &str,
    keys: Vec<u8>,
) -> Result<(), Failure> {
    let client = &session.client;
    let config = &request.config;
    let removed = matches.on("rm");
    let resize = config.tty && crate::stream::terminal::stdout_is_terminal();
    let target = Target {
        client,
        path: format!("/containers/{id}"),
        proxy: matches.on_or("sig-proxy", true),
        resize,
    };
    let signals = ran::watch_signals(target.proxy, resize)?;
    let connection = client.hijack(attach_request(id, config, keys_text))?;
    let wait = ran::begin_wait(client, id, removed)?;
    let plan = Plan {
        tty: config.tty,
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        detach_keys: keys,
    };
    let mut attached = Attached::begin(connection, plan)?;
    if let Err(error) = client.done(Request::post(format!("/containers/{id}/start"))) {
        drop(attached);
        if removed {
            // The daemon removes it; whoever looks after us finds it gone.
            let _ = ran::exit_code(wait);
        }
        return Err(start_failure(session, &error));
    }
    target.resize();
    let end = attached.run(signals.as_ref(), |signal| target.signal(signal));
    drop(attached);
    match end? {
        End::Detached => Ok(()),
        End::Closed => ran::end_with(ran::exit_code(wait)?),
    }
}

/// The request that takes a connection over for a container's streams.
pub fn attach_request(id: &str, config: &Config, keys: &str) -> Request<'static> {
    Request::post(format!("/containers/{id}/attach"))
        .query("stream", "1")
        .query_if(config.attach_stdin, "stdin", "1")
        .query_if(config.attach_stdout, "stdout", "1")
        .query_if(config.attach_stderr, "stderr", "1")
        .query_if(!keys.is_empty(), "detachKeys", keys)
        .upgrade()
}

fn detach_config(config: &mut Config, matches: &Matches) -> Result<(), Failure> {
    if !matches.list("attach").is_empty() {
        return Err(Failure::new(
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    config.attach_stdin = false;
    config.attach_stdout = false;
    config.attach_stderr = false;
    config.stdin_once = false;
    Ok(())
}

/// The program sees the right size from its first moment.
fn set_console_size(request: &mut CreateRequest) {
    if let (true, Some((rows, columns)), Some(host)) = (
        request.config.tty,
        crate::stream::terminal::size(),
        &mut request.host_config,
    ) {
        host.console_size = [u64::from(rows), u64::from(columns)];
    }
}

fn start_failure(session: &Session, error: &ClientError) -> Failure {
    as_run(session, Failure::new(error.to_string()))
}

/// The exit code by what the message says, as Docker's client does it.
fn as_run(session: &Session, failure: Failure) -> Failure {
    if failure.message.is_empty() {
        return failure;
    }
    with_hint(session, "run", &failure.message, code_of(&failure.message))
}

fn code_of(message: &str) -> u8 {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_by_message() {
        for (message, code) in [
            ("exec: \"foo\": executable file not found in $PATH", 127),
            ("stat /nope: no such file or directory", 127),
            ("exec: \"/etc\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("No such image: x:latest", 125),
        ] {
            assert_eq!(code_of(message), code, "{message}");
        }
    }
}
