//! netd: the process that answers DNS in containers and serves the published ports that address translation cannot.
//!
//! One for all containers of a daemon, started when first needed, outliving the daemon: names and ports go on, and the next daemon
//! takes it over with every socket it holds. It has one thread and no state of its own that the daemon could not give it again:
//! after its death the daemon starts another and gives it the same sockets, in which questions have waited meanwhile.
//!
//! `client` is the daemon's end, `service` the process, `protocol` what they say.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod service;

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// The process `wharf netd`; its listening socket is descriptor 3. To be called first thing: it closes all descriptors above.
pub fn main() -> ExitCode {
    match prepare().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wharf netd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> io::Result<OwnedFd> {
    let listener = wharf_sys::child::inherited_socket()?;
    rustix::thread::set_name(c"wharf-netd")?;
    // A terminal's interrupt reaches the whole process group of the daemon; this one goes on.
    rustix::process::setsid()?;
    // Linux before 5.9 has no close_range(2); what is inherited there is then kept.
    let _ = wharf_sys::child::close_from(4);
    wharf_sys::heap::share_one_arena();
    wharf_sys::memory::release_code();
    Ok(listener)
}

/// Serves daemons that connect to `listener`, one after the other, until there is neither a daemon nor anything to do.
pub fn run(listener: OwnedFd) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, service::serve(listener))
}
