//! The terminal we run in: its size, raw mode, and getting it back.

use std::sync::Mutex;

use rustix::fd::AsFd;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    isatty(rustix::stdio::stdin())
}

/// Whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    isatty(rustix::stdio::stdout())
}

/// Whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    isatty(rustix::stdio::stderr())
}

/// Rows and columns of the terminal on standard output.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// What to restore if the program ends in a panic, which in a release build runs no destructors.
static ON_PANIC: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode on standard input, until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Sets raw mode.
    ///
    /// # Errors
    /// Standard input is not a terminal.
    pub fn enter() -> std::io::Result<RawMode> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        remember(Some(before.clone()));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(Some(before)) = ON_PANIC.lock().map(|before| before.clone()) {
                let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
            }
            hook(info);
        }));
        Ok(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        remember(None);
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

fn remember(before: Option<Termios>) {
    if let Ok(mut slot) = ON_PANIC.lock() {
        *slot = before;
    }
}
