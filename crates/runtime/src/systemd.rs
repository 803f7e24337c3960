//! Control groups that systemd keeps. A container's group is then a *scope*: a unit for processes that somebody else started. It is
//! made over D-Bus (org.freedesktop.systemd1(5)), and is ours to fill and to divide (`Delegate=`).
//!
//! A scope needs a process, so it is asked for between the clone of init and init's first step. The asking is done by a process of its
//! own, so that whoever launches stays small and single-threaded.

mod manager;

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::process::{Pid, WaitOptions};
use serde::{Deserialize, Serialize};
use wharf_sys::clone::{Forked, fork_with};

/// A scope to be made, or one that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Name of the unit, `docker-<id>.scope`.
    pub unit: String,
    /// The slice that it belongs to.
    pub slice: String,
    /// Of the user's own manager instead of the machine's.
    pub user: bool,
    /// Further properties, in order.
    pub properties: Vec<(String, Property)>,
}

/// A property's value, of the types that units have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Property {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`; all bits set is "no limit".
    Number(u64),
    /// `i`
    Signed(i32),
    /// `ay`, a set of processors or memory nodes, lowest first.
    Bits(Vec<u8>),
    /// `as`
    Texts(Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

/// Why systemd did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Nobody answers.
    #[error("unable to talk to systemd: {0} (are systemd and the D-Bus daemon running?)")]
    Connect(String),
    /// It refused.
    #[error("unable to {what} unit {unit}: {why}")]
    Refused {
        /// `start`, `stop` or `change`.
        what: &'static str,
        /// The unit.
        unit: String,
        /// Its own words.
        why: String,
    },
    /// The asking process could not be made, or was killed.
    #[error("unable to ask systemd: {0}")]
    Ask(#[source] io::Error),
}

/// Makes the scope around a process. Blocking; single-threaded callers only.
pub fn start(scope: &Scope, pid: u32) -> Result<(), SystemdError> {
    apart(|| manager::run(scope.user, manager::start(scope, pid)))
}

/// Ends a scope whose processes are gone: on v1 systemd does not always notice. Blocking; one that is not there is success.
pub fn stop(scope: &Scope) -> Result<(), SystemdError> {
    manager::run(scope.user, manager::stop(scope))
}

/// The same from a child, for those who stay small. Single-threaded callers only.
pub fn stop_apart(scope: &Scope) -> Result<(), SystemdError> {
    apart(|| stop(scope))
}

/// Changes properties of a scope that is there, as long as it lives. Blocking.
pub fn change(scope: &Scope, properties: &[(String, Property)]) -> Result<(), SystemdError> {
    manager::run(scope.user, manager::change(scope, properties))
}

/// Runs `ask` in a child, which needs no memory of ours that lasts.
fn apart(ask: impl FnOnce() -> Result<(), SystemdError>) -> Result<(), SystemdError> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| SystemdError::Ask(e.into()))?;
    match fork_with(0, None).map_err(SystemdError::Ask)? {
        Forked::Child => {
            drop(reader);
            let text = match ask() {
                Ok(()) => String::from("+"),
                Err(error) => error.to_string(),
            };
            let _ = File::from(writer).write_all(text.as_bytes());
            wharf_sys::process::exit_now(0)
        }
        Forked::Parent { pid, .. } => {
            drop(writer);
            let mut answer = String::new();
            let read = File::from(reader).read_to_string(&mut answer);
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            }
            read.map_err(SystemdError::Ask)?;
            match answer.as_str() {
                "+" => Ok(()),
                "" => Err(SystemdError::Ask(io::ErrorKind::UnexpectedEof.into())),
                text => Err(SystemdError::Ask(io::Error::other(text.to_owned()))),
            }
        }
    }
}
