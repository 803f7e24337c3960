//! The shipper process: connects, says so, then sends what comes until nothing comes any more.

use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::{Destination, Record, Sink, connect, record};

/// What a shipper that has its connection sends its monitor; anything else is the text of its failure.
pub const READY: &[u8] = b"\0";

/// Bytes read at once.
const BUFFER: usize = 64 * 1024;

/// Becomes the shipper of one container. `socket`: the monitor's stream.
pub fn run(destination: &Destination, socket: OwnedFd) -> ! {
    let mut socket = UnixStream::from(socket);
    let code = match connect(destination) {
        Ok(mut sink) => {
            let told = socket.write_all(READY);
            serve(&mut *sink, &socket);
            i32::from(told.is_err())
        }
        Err(failure) => {
            let _ = socket.write_all(failure.to_string().as_bytes());
            1
        }
    };
    std::process::exit(code)
}

/// A record that cannot be sent is lost, and the next one tried: so does Docker.
fn serve(sink: &mut dyn Sink, socket: &UnixStream) {
    let mut input = BufReader::with_capacity(BUFFER, socket);
    while let Ok(Some(record)) = next(&mut input, sink) {
        let _ = sink.send(&record);
    }
    let _ = sink.flush();
}

fn next(input: &mut BufReader<impl Read>, sink: &mut dyn Sink) -> std::io::Result<Option<Record>> {
    if input.buffer().is_empty() {
        // About to wait: what is held back goes out.
        let _ = sink.flush();
    }
    record::read(input)
}
