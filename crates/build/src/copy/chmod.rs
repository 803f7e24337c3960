//! `--chmod`: octal, or symbolic as chmod(1) takes it.

/// Permissions to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// These bits.
    Octal(u32),
    /// Changes, in order.
    Symbolic(Vec<Clause>),
}

/// One change: whose bits, how, which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Bits of those it is about.
    who: u32,
    operator: char,
    /// Letters of `rwxXst`.
    what: String,
}

/// Neither octal nor symbolic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
pub struct ChmodError(String);

impl Chmod {
    /// Reads the value of `--chmod`.
    pub fn parse(text: &str) -> Result<Chmod, ChmodError> {
        let failed = || ChmodError(text.to_owned());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| failed())?;
            return (mode <= 0o7777)
                .then_some(Chmod::Octal(mode))
                .ok_or_else(failed);
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            parse_clauses(part, &mut clauses).ok_or_else(failed)?;
        }
        Ok(Chmod::Symbolic(clauses))
    }

    /// The permissions something that had `mode` gets.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Chmod::Octal(mode) => *mode,
            Chmod::Symbolic(clauses) => clauses
                .iter()
                .fold(mode, |mode, clause| clause.apply(mode, directory)),
        }
    }
}

fn parse_clauses(part: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let operator_at = part.find(['+', '-', '='])?;
    let (who, mut rest) = part.split_at(operator_at);
    let mut bits = 0;
    for letter in who.chars() {
        bits |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who.is_empty() {
        bits = 0o7777;
    }
    while !rest.is_empty() {
        let operator = rest.chars().next()?;
        let end = rest[1..]
            .find(['+', '-', '='])
            .map_or(rest.len(), |at| at + 1);
        let what = &rest[1..end];
        if !what.chars().all(|c| "rwxXstugo".contains(c)) {
            return None;
        }
        clauses.push(Clause {
            who: bits,
            operator,
            what: what.to_owned(),
        });
        rest = &rest[end..];
    }
    Some(())
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let mut bits = 0;
        for letter in self.what.chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => spread(mode >> 6),
                'g' => spread(mode >> 3),
                'o' => spread(mode),
                _ => 0,
            };
        }
        let bits = bits & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !(self.who & 0o777) & !(self.who & bits) | bits,
        }
    }
}

fn spread(three: u32) -> u32 {
    let three = three & 7;
    three << 6 | three << 3 | three
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let rows = [
            ("755", 0o644, false, 0o755),
            ("0", 0o644, false, 0),
            ("u+x", 0o644, false, 0o744),
            ("a-w,u=rwx", 0o666, false, 0o744),
            ("+X", 0o644, false, 0o644),
            ("+X", 0o644, true, 0o755),
            ("go=", 0o777, false, 0o700),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o755, true, 0o1755),
        ];
        for (text, mode, directory, expected) in rows {
            let chmod = Chmod::parse(text).expect(text);
            assert_eq!(chmod.apply(mode, directory), expected, "{text}");
        }
        for text in ["", "8", "10000", "u", "q+x", "u+q"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
