//! How inputs are changed: bits, numbers, pieces moved, pieces of others.

/// Numbers that repeat with the seed (xorshift64*).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Texts that parsers treat in their own ways.
const WORDS: &[&[u8]] = &[
    b"sha256:",
    b"sha512:",
    b"@",
    b":",
    b"/",
    b"..",
    b".wh.",
    b".wh..wh..opq",
    b"latest",
    b"docker.io",
    b"localhost",
    b"\0",
    b"\xff",
    b"{}",
    b"[]",
    b"null",
    b"\"\"",
    b"-1",
    b"18446744073709551616",
    b"1e999",
    b"77777777777",
    b"GNU.sparse.map=",
    b"path=",
    b"size=",
    b"\n",
    b"SCHILY.xattr.",
    b"schemaVersion",
    b"manifests",
    b"layers",
    b"config",
];

/// Another input of what is known.
pub(crate) fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        change(&mut input, corpus, random);
    }
    input.truncate(1 << 20);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    if input.is_empty() {
        input.push(random.byte());
    }
    let at = random.below(input.len());
    let length = 1 + random.below((input.len() - at).min(64));
    match random.below(8) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.byte(),
        2 => drop(input.drain(at..at + length)),
        3 => {
            let piece = input[at..at + length].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        4 => {
            let word = WORDS[random.below(WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
        5 => {
            let word = WORDS[random.below(WORDS.len())];
            let end = (at + word.len()).min(input.len());
            input.splice(at..end, word.iter().copied());
        }
        6 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            let to = (from + 1 + random.below(2048)).min(other.len());
            input.splice(at..at, other[from.min(to)..to].iter().copied());
        }
        _ => input.truncate(at),
    }
}
