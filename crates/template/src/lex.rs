//! From the template's text to pieces: plain text and actions, with the actions as words.

use super::TemplateError;

/// A word of an action and where it begins, in bytes from the start of the template.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub at: usize,
    pub kind: TokenKind,
}

/// The words of actions.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenKind {
    /// `.Name`; the value is the name.
    Field(String),
    /// `.` alone.
    Dot,
    /// `$`, `$name`; the value is the name without `$`.
    Variable(String),
    /// A function or keyword.
    Word(String),
    /// A quoted text or a character constant.
    Text(String),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Printed as it is.
    Text(String),
    /// Between `{{` and `}}`.
    Action(Vec<Token>),
}

/// Takes a template apart.
pub fn split(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let (mut at, mut trim_next) = (0, false);
    while let Some(open) = source[at..].find("{{").map(|i| at + i) {
        let mut inside = open + 2;
        let trim_before = source[inside..].starts_with("- ") || source[inside..].starts_with("-\n");
        if trim_before {
            inside += 1;
        }
        push_text(&mut pieces, &source[at..open], trim_next, trim_before);
        let end = action_end(source, inside)
            .map_err(|error| first_unknown_function(source, inside).unwrap_or(error))?;
        let body_end = if source[..end].ends_with(" -") {
            end - 2
        } else {
            end
        };
        trim_next = body_end != end;
        let body = source[inside..body_end].trim();
        if !(body.starts_with("/*") && body.ends_with("*/")) {
            pieces.push(Piece::Action(words(source, inside, body_end)?));
        }
        at = end + 2;
    }
    push_text(&mut pieces, &source[at..], trim_next, false);
    Ok(pieces)
}

/// Go reads an action word by word, so a word that is no function is told about before the missing end.
fn first_unknown_function(source: &str, from: usize) -> Option<TemplateError> {
    let tokens = words(source, from, source.len()).ok()?;
    let unknown = tokens.iter().find_map(|token| match &token.kind {
        TokenKind::Word(word) if !is_keyword(word) && !super::funcs::is_known(word) => Some(word),
        _ => None,
    })?;
    Some(TemplateError::Parse(format!(
        "function {unknown:?} not defined"
    )))
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "end"
            | "range"
            | "with"
            | "break"
            | "continue"
            | "true"
            | "false"
            | "nil"
            | "define"
            | "template"
            | "block"
    )
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Where `}}` begins, not counting those inside quotes.
fn action_end(source: &str, from: usize) -> Result<usize, TemplateError> {
    let bytes = source.as_bytes();
    if source[from..].trim_start().starts_with("/*") {
        let close = source[from..]
            .find("*/")
            .ok_or_else(|| TemplateError::Parse("unclosed comment".into()))?;
        let end = source[from + close..].find("}}").ok_or_else(unclosed)?;
        return Ok(from + close + end);
    }
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'`' | b'\'') => at = quote_end(bytes, at, quote)?,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Ok(at),
            _ => at += 1,
        }
    }
    Err(unclosed())
}

fn unclosed() -> TemplateError {
    TemplateError::Parse("unclosed action".into())
}

/// The index after the closing quote.
fn quote_end(bytes: &[u8], from: usize, quote: u8) -> Result<usize, TemplateError> {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote != b'`' => at += 2,
            b if b == quote => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err(TemplateError::Parse(
        if quote == b'`' {
            "unterminated raw quoted string"
        } else {
            "unterminated quoted string"
        }
        .into(),
    ))
}

fn words(source: &str, from: usize, to: usize) -> Result<Vec<Token>, TemplateError> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut at = from;
    while at < to {
        let start = at;
        let kind = match bytes[at] {
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            quote @ (b'"' | b'`' | b'\'') => {
                at = quote_end(bytes, at, quote)?;
                constant(&source[start + 1..at - 1], quote)?
            }
            b'.' if !bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                at = name_end(source, at + 1, to);
                if at == start + 1 {
                    TokenKind::Dot
                } else {
                    TokenKind::Field(source[start + 1..at].to_owned())
                }
            }
            b'$' => {
                at = name_end(source, at + 1, to);
                TokenKind::Variable(source[start + 1..at].to_owned())
            }
            b':' if bytes.get(at + 1) == Some(&b'=') => {
                at += 2;
                TokenKind::Declare
            }
            b if is_number_start(b, bytes.get(at + 1)) => {
                at += 1;
                while at < to
                    && (bytes[at].is_ascii_alphanumeric() || matches!(bytes[at], b'.' | b'_'))
                {
                    at += 1;
                }
                number(&source[start..at])?
            }
            b => match single(b) {
                Some(kind) => {
                    at += 1;
                    kind
                }
                None => {
                    at = name_end(source, at, to);
                    if at == start {
                        let c = source[at..].chars().next().unwrap_or(' ');
                        return Err(TemplateError::Parse(format!(
                            "unexpected {} in command",
                            super::show::quote_char(c)
                        )));
                    }
                    TokenKind::Word(source[start..at].to_owned())
                }
            },
        };
        tokens.push(Token { at: start, kind });
    }
    Ok(tokens)
}

fn is_number_start(byte: u8, next: Option<&u8>) -> bool {
    byte.is_ascii_digit()
        || (matches!(byte, b'-' | b'+' | b'.')
            && next.is_some_and(|b| b.is_ascii_digit() || *b == b'.'))
}

fn single(byte: u8) -> Option<TokenKind> {
    Some(match byte {
        b'|' => TokenKind::Pipe,
        b'(' => TokenKind::Open,
        b')' => TokenKind::Close,
        b',' => TokenKind::Comma,
        b'=' => TokenKind::Assign,
        _ => return None,
    })
}

fn name_end(source: &str, from: usize, to: usize) -> usize {
    source[from..to]
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map_or(to, |i| from + i)
}

fn number(text: &str) -> Result<TokenKind, TemplateError> {
    let bad = || TemplateError::Parse(format!("bad number syntax: {text:?}"));
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16)
            .map(TokenKind::Int)
            .map_err(|_| bad());
    }
    let plain = text.replace('_', "");
    plain
        .parse()
        .map(TokenKind::Int)
        .or_else(|_| plain.parse().map(TokenKind::Float))
        .map_err(|_| bad())
}

fn constant(body: &str, quote: u8) -> Result<TokenKind, TemplateError> {
    if quote == b'`' {
        return Ok(TokenKind::Text(body.to_owned()));
    }
    let text = unescape(body).ok_or_else(|| TemplateError::Parse("invalid syntax".into()))?;
    if quote == b'"' {
        return Ok(TokenKind::Text(text));
    }
    // A character constant is its code point.
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(TokenKind::Int(i64::from(u32::from(c)))),
        _ => Err(TemplateError::Parse(format!(
            "malformed character constant: '{body}'"
        ))),
    }
}

/// Go's escapes in quoted texts.
fn unescape(body: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'v' => out.push('\x0b'),
            'x' => out.push(code_point(&mut chars, 2)?),
            'u' => out.push(code_point(&mut chars, 4)?),
            'U' => out.push(code_point(&mut chars, 8)?),
            c @ ('\\' | '"' | '\'') => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

fn code_point(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let hex: String = chars.take(digits).collect();
    (hex.len() == digits)
        .then(|| u32::from_str_radix(&hex, 16).ok())
        .flatten()
        .and_then(char::from_u32)
}
