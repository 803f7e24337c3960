//! What is wrong with a text that is no JSON, in the words of Go's `encoding/json` scanner.

/// Go's message for `bytes`, or `None` when they begin with a whole JSON value (what follows it is another matter).
#[must_use]
pub(super) fn complaint(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.value("looking for beginning of value").err()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Scanned = Result<(), String>;

impl Scanner<'_> {
    /// The next byte that is no white space.
    fn token(&mut self) -> Result<u8, String> {
        while self
            .bytes
            .get(self.at)
            .is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
        {
            self.at += 1;
        }
        self.next()
    }

    fn next(&mut self) -> Result<u8, String> {
        let byte = self
            .bytes
            .get(self.at)
            .copied()
            .ok_or_else(|| "unexpected EOF".to_owned())?;
        self.at += 1;
        Ok(byte)
    }

    fn value(&mut self, context: &str) -> Scanned {
        match self.token()? {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            digit @ (b'-' | b'0'..=b'9') => self.number(digit),
            other => refuse(other, context),
        }
    }

    fn object(&mut self) -> Scanned {
        const KEY: &str = "looking for beginning of object key string";
        let mut first = true;
        loop {
            match self.token()? {
                b'}' if first => return Ok(()),
                b'"' => self.string()?,
                other => return refuse(other, KEY),
            }
            first = false;
            match self.token()? {
                b':' => self.value("looking for beginning of value")?,
                other => return refuse(other, "after object key"),
            }
            match self.token()? {
                b',' => {}
                b'}' => return Ok(()),
                other => return refuse(other, "after object key:value pair"),
            }
        }
    }

    fn array(&mut self) -> Scanned {
        if self.token()? == b']' {
            return Ok(());
        }
        self.at -= 1;
        loop {
            self.value("looking for beginning of value")?;
            match self.token()? {
                b',' => {}
                b']' => return Ok(()),
                other => return refuse(other, "after array element"),
            }
        }
    }

    /// Behind the opening quote.
    fn string(&mut self) -> Scanned {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                control @ ..0x20 => return refuse(control, "in string literal"),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Scanned {
        match self.next()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let digit = self.next()?;
                    if !digit.is_ascii_hexdigit() {
                        return refuse(digit, "in \\u hexadecimal character escape");
                    }
                }
                Ok(())
            }
            other => refuse(other, "in string escape code"),
        }
    }

    fn literal(&mut self, word: &str) -> Scanned {
        for expected in word.bytes().skip(1) {
            let byte = self.next()?;
            if byte != expected {
                return refuse(
                    byte,
                    &format!("in literal {word} (expecting {})", quote(expected)),
                );
            }
        }
        Ok(())
    }

    /// Behind the first byte.
    fn number(&mut self, first: u8) -> Scanned {
        let first = if first == b'-' {
            self.digit("in numeric literal")?
        } else {
            first
        };
        if first != b'0' {
            self.digits();
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self, context: &str) -> Result<u8, String> {
        match self.next()? {
            digit @ b'0'..=b'9' => Ok(digit),
            other => refuse(other, context).map(|()| other),
        }
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }
}

fn refuse(byte: u8, context: &str) -> Scanned {
    Err(format!("invalid character {} {context}", quote(byte)))
}

/// A byte as Go quotes a character.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        byte => format!(
            "'{}'",
            char::from(byte)
                .escape_default()
                .to_string()
                .replace("\\\"", "\"")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_gos() {
        for (text, expected) in [
            (
                "{not json",
                "invalid character 'n' looking for beginning of object key string",
            ),
            ("{\"a\"}", "invalid character '}' after object key"),
            (
                "{\"a\":1 \"b\"",
                "invalid character '\"' after object key:value pair",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "nope",
                "invalid character 'o' in literal null (expecting 'u')",
            ),
            (
                "<html>",
                "invalid character '<' looking for beginning of value",
            ),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            (
                "\"\\u12g4\"",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("-x", "invalid character 'x' in numeric literal"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            ("{\"a\":", "unexpected EOF"),
            (
                "'a'",
                "invalid character '\\'' looking for beginning of value",
            ),
        ] {
            assert_eq!(
                complaint(text.as_bytes()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn whole_values_are_fine() {
        for text in [
            "{}",
            "[]",
            " {\"a\":[1,-0.5e+3,true,null,\"\\u00e9\\n\"],\"b\":{}} x",
            "0",
        ] {
            assert_eq!(complaint(text.as_bytes()), None, "{text}");
        }
    }
}
