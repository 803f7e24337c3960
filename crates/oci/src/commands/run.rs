//! `run`

use super::{Context, Done, create, delete};
use crate::create::{self as creation, Created};
use crate::failure::Failure;
use crate::foreground::{self, Signals};
use crate::notify;
use crate::options::{Flag, Parsed, switch, valued};

/// Those of `create`, and runc's for `run`.
pub const FLAGS: &[Flag] = &[
    create::FLAGS[0],
    create::FLAGS[1],
    create::FLAGS[2],
    create::FLAGS[3],
    create::FLAGS[4],
    create::FLAGS[5],
    valued("no-subreaper", "BOOL", "accepted for compatibility"),
    switch("detach", "do not wait for its end").short('d'),
    switch("keep", "keep its state after its end"),
];

/// Creates and starts a container, and stays with it unless told otherwise.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let detach = parsed.on("detach");
    let id = parsed.id("run")?;
    let has_socket = parsed.text("console-socket").is_some();
    if has_socket && !detach {
        return Err(Failure::usage(
            "cannot use console socket if the runtime will not detach",
        ));
    }
    let request = create::request(context, parsed, id, !detach)?;
    // Before anything of the container is there, so that no signal is lost.
    let signals = if detach {
        None
    } else {
        Some(Signals::watch()?)
    };
    let created = creation::create(&request)?;
    let ended = start(context, &created).and_then(|()| match &signals {
        None => Ok(None),
        Some(signals) => stay(signals, created.container.record.pid, &created).map(Some),
    });
    match ended {
        Ok(None) => Ok(0),
        Ok(Some(code)) if parsed.on("keep") => Ok(code),
        Ok(Some(code)) => delete::remove(context, &created.container).map(|()| code),
        Err(error) => {
            let _ = wharf_sys::process::kill(created.container.record.pid, libc::SIGKILL);
            // The first failure is the one to report.
            let _ = delete::remove(context, &created.container);
            Err(error)
        }
    }
}

fn start(context: &Context, created: &Created) -> Result<(), Failure> {
    let container = &created.container;
    let manager = notify::listen(&container.dir)?;
    for complaint in creation::start(container, &created.plan)? {
        context.log.warn(&complaint);
    }
    if let Some(socket) = manager {
        let is_alive = || container.status() != crate::container::Status::Stopped;
        notify::pass_on(&socket, container.record.pid, is_alive)?;
    }
    Ok(())
}

fn stay(signals: &Signals, pid: i32, created: &Created) -> Done {
    let terminal = created.terminal.as_ref().map(|t| t.try_clone());
    let terminal = terminal
        .transpose()
        .map_err(|e| Failure::new(format!("terminal: {e}")))?;
    foreground::stay(signals, pid, &created.pidfd, terminal)
}
