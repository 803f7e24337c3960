//! `pause` and `resume`

use super::{Context, Done};
use crate::container::{Container, Status};
use crate::failure::Failure;
use crate::options::Parsed;

/// Stops all processes.
pub fn pause(context: &Context, parsed: &Parsed) -> Done {
    let container = Container::load(&context.root, parsed.id("pause")?)?;
    match container.status() {
        Status::Running | Status::Created => container.record.cgroup.freeze()?,
        Status::Paused => return Err(Failure::new("container already paused")),
        Status::Stopped => return Err(Failure::new("container not running")),
    }
    Ok(0)
}

/// Lets them go on.
pub fn resume(context: &Context, parsed: &Parsed) -> Done {
    let container = Container::load(&context.root, parsed.id("resume")?)?;
    if !container.record.cgroup.is_frozen() || container.status() == Status::Stopped {
        return Err(Failure::new("container not paused"));
    }
    container.record.cgroup.thaw()?;
    Ok(0)
}
