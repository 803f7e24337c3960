//! A pseudo-terminal with a program on it, as a person at a keyboard would use it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::deadline::{LONG, wait_for, wait_until};

/// A program whose three standard streams are one terminal.
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    seen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    /// Runs `command` on a new terminal of 24 rows and 80 columns, as its controlling terminal.
    #[must_use]
    pub fn run(command: &Command) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        set_size(&master, 24, 80);
        let name = ptsname(&master, Vec::new())
            .expect("ptsname")
            .into_string()
            .expect("a plain path");
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .open(&name)
                .expect("the terminal's other end")
        };
        let child = with_controlling_terminal(command)
            .stdin(open())
            .stdout(open())
            .stderr(Stdio::from(open()))
            .spawn();
        let keyboard = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        watch(
            keyboard.try_clone().expect("a second handle"),
            Arc::clone(&seen),
        );
        Terminal {
            keyboard,
            seen,
            child: child.expect("setsid (util-linux) runs"),
        }
    }

    /// Types.
    pub fn write(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typing");
    }

    /// Everything shown so far.
    #[must_use]
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no one panics holding it")).into_owned()
    }

    /// Waits until `text` has been shown.
    pub fn wait_for(&self, text: &str) {
        let limit = LONG;
        wait_until_or(
            limit,
            || self.screen().contains(text),
            || panic!("{text:?} never came; shown: {:?}", self.screen()),
        );
    }

    /// Changes the window's size; the program gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.keyboard, rows, columns);
    }

    /// Waits for the program's end: exit code and everything shown.
    #[must_use]
    pub fn finish(mut self) -> (i32, String) {
        let status = wait_for("the program on the terminal", LONG, || {
            self.child.try_wait().expect("wait for a child")
        });
        wait_until("the last output", Duration::from_secs(5), || {
            Arc::strong_count(&self.seen) == 1
        });
        (status.code().unwrap_or(-1), self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program in a session of its own whose terminal is its standard input.
fn with_controlling_terminal(command: &Command) -> Command {
    let mut wrapped = Command::new("setsid");
    wrapped
        .arg("--ctty")
        .arg("--wait")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped.env("TERM", "xterm");
    wrapped
}

/// Collects output until the terminal's last user is gone (EIO).
fn watch(mut screen: File, seen: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(n) = screen.read(&mut buf) {
            if n == 0 {
                break;
            }
            seen.lock()
                .expect("no one panics holding it")
                .extend_from_slice(&buf[..n]);
        }
    });
}

fn set_size(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("TIOCSWINSZ");
}

fn wait_until_or(limit: Duration, mut holds: impl FnMut() -> bool, complain: impl FnOnce()) {
    let end = std::time::Instant::now() + limit;
    while !holds() {
        if std::time::Instant::now() > end {
            complain();
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
