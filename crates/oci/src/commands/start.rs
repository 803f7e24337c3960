//! `start`

use super::{Context, Done};
use crate::container::{Container, Status};
use crate::create;
use crate::failure::Failure;
use crate::notify;
use crate::options::Parsed;

/// Starts a created container.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let container = Container::load(&context.root, parsed.id("start")?)?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => {
            return Err(Failure::new("cannot start a container that has stopped"));
        }
        Status::Running | Status::Paused => {
            return Err(Failure::new("cannot start an already running container"));
        }
    }
    let manager = notify::listen(&container.dir)?;
    for complaint in create::start(&container, &container.plan()?)? {
        context.log.warn(&complaint);
    }
    if let Some(socket) = manager {
        let is_alive = || container.status() != Status::Stopped;
        notify::pass_on(&socket, container.record.pid, is_alive)?;
    }
    Ok(0)
}
