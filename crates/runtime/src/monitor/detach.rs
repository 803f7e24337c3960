//! The key sequence by which a user at a terminal leaves without ending the process.

/// Watches a client's input for its detach keys.
#[derive(Debug)]
pub struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them came last and are held back.
    matched: usize,
}

impl DetachKeys {
    /// No keys: never detaches.
    pub fn new(keys: Vec<u8>) -> DetachKeys {
        DetachKeys { keys, matched: 0 }
    }

    /// Takes input; `true` when the sequence is complete. Appends to `forward` what is for the process: keys that turned out to
    /// begin no sequence are included, what follows a complete sequence is dropped.
    pub fn filter(&mut self, input: &[u8], forward: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            forward.extend_from_slice(input);
            return false;
        }
        for &byte in input {
            while self.matched > 0 && byte != self.keys[self.matched] {
                self.give_up_one(forward);
            }
            if byte != self.keys[self.matched] {
                forward.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }

    /// No keys are held back or wanted: input may pass unseen.
    pub fn is_idle(&self) -> bool {
        self.keys.is_empty()
    }

    /// The longest shorter beginning that the held keys may still be goes on being held, the rest is the process's.
    fn give_up_one(&mut self, forward: &mut Vec<u8>) {
        let held = &self.keys[..self.matched];
        let shorter = (0..self.matched)
            .rev()
            .find(|&len| held.ends_with(&self.keys[..len]))
            .unwrap_or(0);
        forward.extend_from_slice(&held[..self.matched - shorter]);
        self.matched = shorter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds pieces; what was forwarded, and in which piece it detached.
    fn check(keys: &[u8], pieces: &[&[u8]], expected: &[u8], detached: Option<usize>) {
        let mut watch = DetachKeys::new(keys.to_vec());
        let mut forward = Vec::new();
        let at = pieces
            .iter()
            .position(|piece| watch.filter(piece, &mut forward));
        assert_eq!(
            (forward.as_slice(), at),
            (expected, detached),
            "{keys:?} {pieces:?}"
        );
    }

    #[test]
    fn detaches_on_the_whole_sequence_only() {
        const PQ: &[u8] = &[16, 17];
        check(PQ, &[b"ls\n"], b"ls\n", None);
        check(PQ, &[b"ls", &[16, 17]], b"ls", Some(1));
        check(PQ, &[&[16], &[17]], b"", Some(1));
        check(PQ, &[&[16]], b"", None);
        check(PQ, &[&[16], b"x"], &[16, b'x'], None);
        check(PQ, &[&[16, 16, 17]], &[16], Some(0));
        check(PQ, &[&[17, 16]], &[17], None);
        check(PQ, &[&[1, 16, 17, 2]], &[1], Some(0));
        check(b"a", &[b"xa"], b"x", Some(0));
        check(b"aab", &[b"aaab"], b"a", Some(0));
        check(b"abac", &[b"ababac"], b"ab", Some(0));
        check(b"", &[&[16, 17]], &[16, 17], None);
    }
}
