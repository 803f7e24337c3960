//! The spawner: a small single-threaded process that forks a [monitor] per container.
//!
//! Forking it costs a tenth of a millisecond and shares its pages with every monitor. It keeps nothing of what passes through. It ends
//! when the daemon does; monitors go on. It runs from a [write-proof image](image) of the binary.

pub mod image;

use std::os::fd::OwnedFd;

use wharf_sys::child::{Fork, close_from, fork, inherited_socket};
use wharf_sys::{memory, signal};

use crate::monitor::{self, Launcher};
use crate::protocol::{Incoming, SpawnMessage};

/// The process `wharf spawner`: serves the daemon's socket, which is descriptor 3. To be called first thing: it closes all descriptors
/// above.
pub fn main() -> ! {
    run(Launcher::default())
}

/// [`main`] with another way of starting processes.
pub fn run(launcher: Launcher) -> ! {
    let code = match prepare() {
        Ok(control) => serve(control, launcher),
        Err(_) => 1,
    };
    std::process::exit(code)
}

fn prepare() -> std::io::Result<OwnedFd> {
    let control = inherited_socket()?;
    rustix::thread::set_name(c"wharf-spawner")?;
    // A terminal's interrupt reaches the whole process group; the daemon decides when the spawner ends.
    rustix::process::setsid()?;
    // Linux before 5.9 has no close_range(2); what is inherited there is then kept.
    let _ = close_from(4);
    signal::survive_hangups()?;
    signal::discard_children()?;
    memory::release_code();
    Ok(control)
}

/// One message, one fork. Returns the exit code when the daemon is gone.
fn serve(control: OwnedFd, launcher: Launcher) -> i32 {
    loop {
        let incoming = match Incoming::receive(&control) {
            Ok(Some(incoming)) => incoming,
            Ok(None) => return 0,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return 1,
        };
        // If the fork fails, dropping the message closes the control socket in it, which tells the daemon.
        if let Ok(Fork::Child) = fork() {
            drop(control);
            become_monitor(incoming, launcher);
        }
    }
}

fn become_monitor(incoming: Incoming, launcher: Launcher) -> ! {
    match incoming.decode::<SpawnMessage>() {
        Ok((message, fds)) => monitor::run(message, fds, launcher),
        Err(_) => std::process::exit(1),
    }
}
