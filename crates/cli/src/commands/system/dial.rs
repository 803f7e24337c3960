//! `system dial-stdio`: standard input and output become a connection to the daemon. It is what `ssh://` hosts run on the other side.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::session::Session;

/// `system dial-stdio`
///
/// # Errors
/// No daemon answers.
pub fn run(session: &Session, _: &Matches) -> Result<(), Failure> {
    let socket = session.client.dial()?;
    let upward = Arc::clone(&socket);
    std::thread::spawn(move || {
        let _ = pass(&mut io::stdin().lock(), &mut &*upward);
        // The daemon may still answer.
        let _ = upward.shutdown_write();
    });
    // Ends when the daemon has: whatever the other side might still say, nobody would hear it.
    pass(&mut &*socket, &mut io::stdout().lock())
        .map_err(|error| Failure::new(format!("the connection to the daemon broke: {error}")))
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
