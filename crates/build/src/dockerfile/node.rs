//! A file cut into instructions: continuations joined, comments dropped, here-documents collected.

use super::arguments::{self, Arguments};
use super::directive::{DirectiveReader, Directives};
use super::error::{Phase, Problem, SyntaxError};
use super::heredoc::{self, Heredoc};
use super::words;

/// Lines of the file, the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Lines {
    /// Where it begins.
    pub first: usize,
    /// Where it ends, inclusive.
    pub last: usize,
}

/// An instruction that was cut but not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// First word, as written.
    pub keyword: String,
    /// The line, continuations joined.
    pub original: String,
    /// `--name=value` words after the keyword, in order.
    pub flags: Vec<String>,
    /// The rest.
    pub arguments: Arguments,
    /// Here-documents, in order.
    pub heredocs: Vec<Heredoc>,
    /// Where it is.
    pub lines: Lines,
    /// Comments right before it.
    pub comments: Vec<String>,
}

/// A remark about the text of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The instruction with an empty continuation line.
    pub line_text: String,
    /// Its last line.
    pub line: usize,
}

/// All of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// Instructions in order; at least one.
    pub nodes: Vec<Node>,
    /// Directives at its top.
    pub directives: Directives,
    /// Escape character in force.
    pub escape: char,
    /// Empty continuation lines.
    pub warnings: Vec<Warning>,
}

/// The frontend's limit for one line, in bytes.
const MAX_LINE: usize = 64 * 1024 - 1;

/// Cuts a file.
pub fn read(source: &str) -> Result<Nodes, SyntaxError> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut reader = Reader {
        lines: source.split_inclusive('\n'),
        number: 0,
        directives: DirectiveReader::default(),
        comments: Vec::new(),
        warnings: Vec::new(),
    };
    let mut nodes = Vec::new();
    while let Some(node) = reader.next_node()? {
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(reader.error(Problem::NoInstructions, reader.number));
    }
    Ok(Nodes {
        nodes,
        escape: reader.directives.escape(),
        directives: reader.directives.finish(),
        warnings: reader.warnings,
    })
}

struct Reader<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    /// Of the line read last.
    number: usize,
    directives: DirectiveReader,
    comments: Vec<String>,
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    fn next_line(&mut self) -> Result<Option<&'a str>, SyntaxError> {
        let Some(line) = self.lines.next() else {
            return Ok(None);
        };
        if line.len() > MAX_LINE {
            return Err(self.error(Problem::LineTooLong(MAX_LINE), self.number));
        }
        self.number += 1;
        Ok(Some(line))
    }

    fn next_node(&mut self) -> Result<Option<Node>, SyntaxError> {
        while let Some(line) = self.next_line()? {
            let line = trim_newline(line).trim_start();
            if self
                .directives
                .line(line)
                .map_err(|problem| self.error(problem, self.number))?
            {
                continue;
            }
            if let Some(comment) = line.strip_prefix('#') {
                self.note_comment(comment.trim());
                continue;
            }
            if line.is_empty() {
                continue;
            }
            return self.instruction(line).map(Some);
        }
        Ok(None)
    }

    /// An empty comment ends a block of comments.
    fn note_comment(&mut self, comment: &str) {
        if comment.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(comment.to_owned());
        }
    }

    fn instruction(&mut self, line: &str) -> Result<Node, SyntaxError> {
        let first = self.number;
        let joined = self.join_continued(line)?;
        let escape = self.directives.escape();
        let mut node =
            node_from_line(&joined, escape).map_err(|problem| self.error(problem, first))?;
        if node.may_have_heredocs() && joined.contains("<<") {
            let announced =
                heredoc::announced(&joined).map_err(|problem| self.error(problem, first))?;
            for mut doc in announced {
                self.fill(&mut doc, first)?;
                node.heredocs.push(doc);
            }
        }
        node.lines = Lines {
            first,
            last: self.number,
        };
        node.comments = std::mem::take(&mut self.comments);
        Ok(node)
    }

    /// Appends the lines that follow an escape character at the end of a line; comments among them are skipped.
    fn join_continued(&mut self, line: &str) -> Result<String, SyntaxError> {
        let escape = self.directives.escape();
        let mut joined = String::new();
        let mut empty_line = false;
        let (part, mut continues) = split_continuation(line, escape);
        joined.push_str(part);
        while continues {
            let Some(line) = self.next_line()? else { break };
            let line = trim_newline(line);
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.trim_start().is_empty() {
                empty_line = true;
                continue;
            }
            let (part, more) = split_continuation(line, escape);
            joined.push_str(part);
            continues = more;
        }
        if empty_line {
            self.warnings.push(Warning {
                line_text: joined.clone(),
                line: self.number,
            });
        }
        Ok(joined)
    }

    fn fill(&mut self, doc: &mut Heredoc, first: usize) -> Result<(), SyntaxError> {
        while let Some(line) = self.next_line()? {
            let bare = trim_newline(line);
            let end = if doc.chomp {
                bare.trim_start_matches('\t')
            } else {
                bare
            };
            if end == doc.name {
                return Ok(());
            }
            doc.content.push_str(line);
        }
        Err(self.error(Problem::UnterminatedHeredoc, first))
    }

    fn error(&self, problem: Problem, first: usize) -> SyntaxError {
        SyntaxError {
            problem,
            lines: Lines {
                first,
                last: self.number.max(first),
            },
            phase: Phase::Read,
        }
    }
}

impl Node {
    /// `RUN`, `COPY` and `ADD` not in JSON form, or such a trigger.
    fn may_have_heredocs(&self) -> bool {
        if let Arguments::Trigger(trigger) = &self.arguments {
            return trigger.is_heredoc_instruction();
        }
        self.is_heredoc_instruction()
    }

    fn is_heredoc_instruction(&self) -> bool {
        let keyword = self.keyword.to_ascii_lowercase();
        matches!(keyword.as_str(), "run" | "copy" | "add") && !self.arguments.is_json()
    }
}

/// Splits a joined line into keyword, flags and arguments.
pub(crate) fn node_from_line(line: &str, escape: char) -> Result<Node, Problem> {
    let (keyword, rest) = words::split_first(line.trim());
    let (flags, rest) = words::take_flags(rest.unwrap_or_default(), escape);
    Ok(Node {
        keyword: keyword.to_owned(),
        original: line.to_owned(),
        flags,
        arguments: arguments::parse(keyword, rest.trim(), escape)?,
        heredocs: Vec::new(),
        lines: Lines::default(),
        comments: Vec::new(),
    })
}

fn trim_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// Takes the escape character away that ends a line, blanks after it allowed, unless another one stands before it.
fn split_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(part) if !part.ends_with(escape) => (part, true),
        _ => (line, false),
    }
}
