//! `stop`, `restart`, `kill`, `pause`, `unpause`, `wait`, `rename`.

use wharf_api::container::WaitResponse;

use crate::client::request::Request;
use crate::commands::each::each;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `stop`
///
/// # Errors
/// Those of every container that could not be stopped.
pub fn stop(session: &Session, matches: &Matches) -> Result<(), Failure> {
    stop_or_restart(session, matches, "stop")
}

/// `restart`
///
/// # Errors
/// Those of every container that could not be restarted.
pub fn restart(session: &Session, matches: &Matches) -> Result<(), Failure> {
    stop_or_restart(session, matches, "restart")
}

fn stop_or_restart(session: &Session, matches: &Matches, action: &str) -> Result<(), Failure> {
    if matches.given("time") && matches.given("timeout") {
        return Err(Failure::new(
            "conflicting options: cannot specify both --timeout and --time",
        ));
    }
    let signal = matches.text_or_empty("signal");
    let timeout = matches.int("timeout").or(matches.int("time"));
    each(&matches.args, |name| {
        session.client.done(
            Request::post(format!("/containers/{name}/{action}"))
                .query_if(!signal.is_empty(), "signal", signal)
                .query_if(
                    timeout.is_some(),
                    "t",
                    timeout.unwrap_or_default().to_string(),
                ),
        )
    })
}

/// `kill`
///
/// # Errors
/// Those of every container that could not be signalled.
pub fn kill(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let signal = matches.text_or_empty("signal");
    each(&matches.args, |name| {
        session
            .client
            .done(Request::post(format!("/containers/{name}/kill")).query_if(
                !signal.is_empty(),
                "signal",
                signal,
            ))
    })
}

/// `pause`
///
/// # Errors
/// Those of every container that could not be paused.
pub fn pause(session: &Session, matches: &Matches) -> Result<(), Failure> {
    each(&matches.args, |name| {
        session
            .client
            .done(Request::post(format!("/containers/{name}/pause")))
    })
}

/// `unpause`
///
/// # Errors
/// Those of every container that could not be resumed.
pub fn unpause(session: &Session, matches: &Matches) -> Result<(), Failure> {
    each(&matches.args, |name| {
        session
            .client
            .done(Request::post(format!("/containers/{name}/unpause")))
    })
}

/// `wait`
///
/// # Errors
/// Those of every container that could not be waited for.
pub fn wait(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let mut errors = Vec::new();
    for name in &matches.args {
        match session
            .client
            .json::<WaitResponse>(Request::post(format!("/containers/{name}/wait")))
        {
            Ok(answer) => print::out_line(&answer.status_code.to_string())?,
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

/// `rename`
///
/// # Errors
/// The daemon refuses.
pub fn rename(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let (old, new) = (matches.args[0].trim(), matches.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new(
            "Error: Neither old nor new names may be empty",
        ));
    }
    session
        .client
        .done(Request::post(format!("/containers/{old}/rename")).query("name", new))
        .map_err(|error| {
            Failure::new(format!(
                "{error}\nError: failed to rename container named {old}"
            ))
        })
}
