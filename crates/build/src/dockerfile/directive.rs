//! Parser directives: `# syntax=…`, `# escape=…`, `# check=…` at the top of the file.

use super::error::Problem;

/// The directives of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// Frontend to use, first word only. We are the frontend, whatever `docker/dockerfile` it says.
    pub syntax: Option<String>,
    /// Escape character as written.
    pub escape: Option<String>,
    /// Settings of the linter.
    pub check: Option<String>,
}

/// Reads directives line by line until the first line that is none.
#[derive(Debug, Default)]
pub(crate) struct DirectiveReader {
    found: Directives,
    done: bool,
}

impl DirectiveReader {
    /// Looks at a line without leading blanks. True if it is a directive.
    pub(crate) fn line(&mut self, line: &str) -> Result<bool, Problem> {
        if self.done {
            return Ok(false);
        }
        let Some((name, value)) = line.strip_prefix('#').and_then(parse_directive) else {
            self.done = true;
            return Ok(false);
        };
        let slot = match name.as_str() {
            "syntax" => &mut self.found.syntax,
            "escape" => &mut self.found.escape,
            "check" => &mut self.found.check,
            _ => {
                self.done = true;
                return Ok(false);
            }
        };
        if slot.is_some() {
            return Err(Problem::RepeatedDirective(name));
        }
        if name == "escape" && value != "\\" && value != "`" {
            return Err(Problem::EscapeToken(value.to_owned()));
        }
        *slot = Some(value.to_owned());
        Ok(true)
    }

    pub(crate) fn escape(&self) -> char {
        match self.found.escape.as_deref() {
            Some("`") => '`',
            _ => '\\',
        }
    }

    pub(crate) fn finish(mut self) -> Directives {
        if let Some(syntax) = &mut self.found.syntax {
            let word = syntax.split(' ').next().unwrap_or_default().to_owned();
            *syntax = word;
        }
        self.found
    }
}

/// `name = value` as a directive: letters and digits before the `=`, blanks around both allowed. The name comes back in lower case.
pub(crate) fn parse_directive(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let (name, value) = text.split_once('=')?;
    let name = name.trim_end();
    let value = value.trim();
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (well_formed && !value.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}
