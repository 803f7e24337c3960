//! The key sequence that leaves a container running, and watching for it in what is typed.

use std::borrow::Cow;

/// What is used unless something else is asked for.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Reads a sequence such as `ctrl-p,ctrl-q` or `a,ctrl-[`.
///
/// # Errors
/// Docker's text for an unknown key.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    text.split(',').map(key).collect()
}

fn key(name: &str) -> Result<u8, String> {
    if let [byte] = name.as_bytes() {
        return Ok(*byte);
    }
    match name.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
        Some([b'@']) => Ok(0),
        Some([symbol @ b'['..=b'_']) => Ok(symbol - b'[' + 27),
        _ => Err(format!("Unknown character: '{name}'")),
    }
}

/// Watches what is typed for the sequence.
#[derive(Debug)]
pub struct Watcher {
    keys: Vec<u8>,
    seen: usize,
}

/// What is to be done with a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub struct Watched<'a> {
    /// To be sent on.
    pub pass: Cow<'a, [u8]>,
    /// The sequence is complete.
    pub detached: bool,
}

impl Watcher {
    /// Watches for these keys; none means never.
    pub fn new(keys: Vec<u8>) -> Watcher {
        Watcher { keys, seen: 0 }
    }

    /// Looks at a piece of input. Keys that may begin the sequence are held back until it is clear that they do not.
    pub fn watch<'a>(&mut self, input: &'a [u8]) -> Watched<'a> {
        // Nearly all input has nothing to do with the sequence.
        if self.seen == 0 && self.keys.first().is_none_or(|first| !input.contains(first)) {
            return Watched {
                pass: Cow::Borrowed(input),
                detached: false,
            };
        }
        let mut pass = Vec::with_capacity(input.len() + self.seen);
        for byte in input {
            if self.keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return Watched {
                        pass: Cow::Owned(pass),
                        detached: true,
                    };
                }
                continue;
            }
            pass.extend_from_slice(&self.keys[..self.seen]);
            self.seen = usize::from(self.seen > 0 && self.keys.first() == Some(byte));
            if self.seen == 0 {
                pass.push(*byte);
            }
        }
        Watched {
            pass: Cow::Owned(pass),
            detached: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        for (text, expected) in [
            ("ctrl-p,ctrl-q", Ok(vec![16, 17])),
            ("a", Ok(vec![b'a'])),
            ("ctrl-@,ctrl-[,ctrl-_", Ok(vec![0, 27, 31])),
            ("ctrl-", Err("Unknown character: 'ctrl-'".to_owned())),
            ("shift-a", Err("Unknown character: 'shift-a'".to_owned())),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn held_keys_are_passed_on_when_the_sequence_breaks() {
        let mut watcher = Watcher::new(vec![16, 17]);
        assert_eq!(
            watcher.watch(b"a\x10"),
            Watched {
                pass: Cow::Borrowed(b"a"),
                detached: false
            }
        );
        assert_eq!(
            watcher.watch(b"b"),
            Watched {
                pass: Cow::Borrowed(b"\x10b"),
                detached: false
            }
        );
        assert_eq!(
            watcher.watch(b"\x10\x10"),
            Watched {
                pass: Cow::Borrowed(b"\x10"),
                detached: false
            }
        );
        assert_eq!(
            watcher.watch(b"\x11rest"),
            Watched {
                pass: Cow::Borrowed(b""),
                detached: true
            }
        );
        assert_eq!(
            *Watcher::new(Vec::new()).watch(b"\x10\x11").pass,
            b"\x10\x11"[..]
        );
    }
}
