//! Telling the service manager (systemd `sd_notify(3)`): a datagram of `KEY=value` lines to `$NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Requests are served.
pub fn ready() {
    send("READY=1");
}

/// The configuration is being read again.
pub fn reloading() {
    // Type=notify-reload wants the time of the signal in microseconds of the monotonic clock.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    send(&format!(
        "RELOADING=1\nMONOTONIC_USEC={}",
        now.tv_sec * 1_000_000 + now.tv_nsec / 1000
    ));
}

/// The daemon ends.
pub fn stopping() {
    send("STOPPING=1");
}

fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = UnixDatagram::unbound()
        .and_then(|socket| socket.send_to_addr(message.as_bytes(), &address?));
    if let Err(error) = sent {
        tracing::warn!(%error, "service manager could not be told");
    }
}
