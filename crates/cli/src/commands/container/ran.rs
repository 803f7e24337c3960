//! What `run`, `start -a`, `attach` and `exec` share: detach keys, signals, the size of the terminal, the end.

use std::io::Read;

use wharf_api::container::WaitResponse;
use wharf_sys::signal_watch::SignalWatch;

use crate::client::request::Request;
use crate::client::{Client, ClientError, Response};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;
use crate::stream::{detach_keys, signals, terminal};

/// The detach keys as asked for: their text for the daemon, empty if nothing was asked for, and their bytes.
pub fn detach_keys(session: &Session, matches: &Matches) -> (String, Vec<u8>) {
    let text = match matches.text("detach-keys") {
        Some(keys) if !keys.is_empty() => keys.to_owned(),
        _ => session.config().detach_keys.clone(),
    };
    let effective = if text.is_empty() {
        detach_keys::DEFAULT
    } else {
        &text
    };
    // What is no key sequence is the daemon's to refuse.
    let bytes = detach_keys::parse(effective).unwrap_or_default();
    (text, bytes)
}

/// A terminal is asked for and what we are given is none.
///
/// # Errors
/// It is so.
pub fn check_tty(attach_stdin: bool, tty: bool) -> Result<(), Failure> {
    if attach_stdin && tty && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    Ok(())
}

/// Begins to watch the signals that are passed on, and the window's size if there is a terminal.
///
/// # Errors
/// See [`SignalWatch::new`].
pub fn watch_signals(proxy: bool, tty: bool) -> Result<Option<SignalWatch>, Failure> {
    let watched: Vec<i32> = if proxy {
        signals::FORWARDED
            .iter()
            .map(|(number, _)| *number)
            .collect()
    } else if tty {
        vec![signals::WINCH]
    } else {
        return Ok(None);
    };
    Ok(Some(SignalWatch::new(&watched)?))
}

/// What the signals are for.
pub struct Target<'a> {
    /// The daemon.
    pub client: &'a Client,
    /// `/containers/<id>` or `/exec/<id>`.
    pub path: String,
    /// Pass signals on.
    pub proxy: bool,
    /// Tell the daemon the size of our terminal.
    pub resize: bool,
}

impl Target<'_> {
    /// Tells the daemon the size of our terminal, if there is one. A container that has just ended has no use for it,
    /// so a refusal says nothing.
    pub fn resize(&self) {
        let Some((rows, columns)) = terminal::size().filter(|_| self.resize) else {
            return;
        };
        let request = Request::post(format!("{}/resize", self.path))
            .query("h", rows.to_string())
            .query("w", columns.to_string());
        let _ = self.client.done(request);
    }

    /// Passes a signal on.
    pub fn signal(&self, signal: i32) {
        if signal == signals::WINCH && self.resize {
            self.resize();
        }
        if let Some(name) = signals::name(signal).filter(|_| self.proxy) {
            let _ = self
                .client
                .done(Request::post(format!("{}/kill", self.path)).query("signal", name));
        }
    }
}

/// Asks to be told when the container has ended. The answer's head comes at once, so when this returns the daemon is
/// watching.
///
/// # Errors
/// See [`ClientError`].
pub fn begin_wait(client: &Client, id: &str, removed: bool) -> Result<Response, ClientError> {
    let condition = if removed { "removed" } else { "next-exit" };
    client.send(Request::post(format!("/containers/{id}/wait")).query("condition", condition))
}

/// The exit code, once the container has ended.
///
/// # Errors
/// The daemon could not tell it: exit code 125.
pub fn exit_code(mut wait: Response) -> Result<u8, Failure> {
    let failed =
        |reason: String| Failure::with_code(125, format!("error waiting for container: {reason}"));
    let mut text = String::new();
    wait.body
        .read_to_string(&mut text)
        .map_err(|error| failed(error.to_string()))?;
    let answer: WaitResponse =
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    if let Some(error) = answer.error.filter(|error| !error.message.is_empty()) {
        return Err(failed(error.message));
    }
    Ok(u8::try_from(answer.status_code & 0xff).unwrap_or(u8::MAX))
}

/// Ends as the container did.
///
/// # Errors
/// Its exit code was not 0.
pub fn end_with(code: u8) -> Result<(), Failure> {
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::exit(code))
    }
}
