//! TCP connections, moved by `splice` without a copy through this process.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};

/// At most this much is under way in one direction; a pipe's own size.
const WINDOW: usize = 64 * 1024;

/// Carries every connection to `target`.
pub(super) async fn serve(listener: Rc<TcpListener>, target: SocketAddr) {
    loop {
        match listener.accept().await {
            // A connection that fails is closed; its ends see that themselves.
            Ok((client, _)) => drop(tokio::task::spawn_local(carry(client, target))),
            // Out of descriptors: there will be some.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    // What comes in pieces goes on in pieces, at once.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (there, back) = tokio::join!(pour(&client, &server), pour(&server, &client));
    there.and(back)
}

/// Moves bytes until the end of `from`, which `to` then gets.
async fn pour(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let outcome = pour_all(from, to).await;
    // After a failure too: the other end shall not wait for more.
    let _ = rustix::net::shutdown(to.as_fd(), rustix::net::Shutdown::Write);
    outcome
}

async fn pour_all(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    loop {
        from.readable().await?;
        let taken = match from.try_io(Interest::READABLE, || shift(from, &inlet, WINDOW)) {
            Ok(0) => return Ok(()),
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        empty(&outlet, to, taken).await?;
    }
}

/// Moves what is in the pipe.
async fn empty(outlet: &OwnedFd, to: &TcpStream, mut left: usize) -> io::Result<()> {
    while left > 0 {
        to.writable().await?;
        match to.try_io(Interest::WRITABLE, || shift(outlet, to, left)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(moved) => left -= moved,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn shift(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(splice(from, None, to, None, most, flags)?)
}
