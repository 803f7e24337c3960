//! From pieces to a tree.

use std::collections::VecDeque;

use serde_json::{Number, Value};

use super::TemplateError;
use super::lex::{Piece, Token, TokenKind};

/// A part of a template.
#[derive(Debug, Clone)]
pub enum Node {
    /// Printed as it is.
    Text(String),
    /// Its value is printed, unless it declares a variable.
    Print(Pipeline),
    /// The first branch whose condition holds; a branch without condition is the `else`.
    If(Vec<(Option<Pipeline>, Vec<Node>)>),
    /// The body with the dot at the value, if it is not empty; else the other.
    With(Pipeline, Vec<Node>, Vec<Node>),
    /// The body for each element; the other if there is none.
    Range(Pipeline, Vec<Node>, Vec<Node>),
    /// Leaves the innermost `range`.
    Break,
    /// On to the next element.
    Continue,
}

/// `$x := a | b | c`
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Variables it sets.
    pub variables: Vec<String>,
    /// They are new ones (`:=`).
    pub declares: bool,
    /// Each takes the value of the one before it as its last argument.
    pub commands: Vec<Call>,
}

/// `f a b` or a single operand.
#[derive(Debug, Clone)]
pub struct Call {
    /// Bytes from the start of the template.
    pub at: usize,
    /// The operands as they were written, for errors.
    pub written: String,
    /// At least one.
    pub operands: Vec<Operand>,
}

/// One operand.
#[derive(Debug, Clone)]
pub struct Operand {
    /// Where an error in it is said to be, in bytes from the start of the template.
    pub at: usize,
    /// What it is.
    pub what: What,
    /// Fields taken from it.
    pub fields: Vec<String>,
    /// How it was written.
    pub written: String,
}

/// What an operand is before fields are taken from it.
#[derive(Debug, Clone)]
pub enum What {
    /// `.`
    Dot,
    /// `$x`
    Variable(String),
    /// A constant.
    Constant(Value),
    /// A function's name.
    Function(String),
    /// `( … )`
    Pipeline(Box<Pipeline>),
}

/// Makes the tree.
pub fn parse(pieces: &[Piece]) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        pieces: pieces.iter().collect(),
    };
    let (nodes, end) = parser.list()?;
    match end {
        None => Ok(nodes),
        Some(end) => Err(TemplateError::Parse(format!(
            "unexpected {{{{{}}}}}",
            end.word()
        ))),
    }
}

/// What ended a list of nodes.
enum End {
    End,
    Else(Vec<Token>),
}

impl End {
    fn word(&self) -> &'static str {
        match self {
            End::End => "end",
            End::Else(_) => "else",
        }
    }
}

struct Parser<'a> {
    pieces: VecDeque<&'a Piece>,
}

impl Parser<'_> {
    fn list(&mut self) -> Result<(Vec<Node>, Option<End>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.pop_front() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.clone()));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first().map(|token| &token.kind) {
                Some(TokenKind::Word(word)) => word.as_str(),
                _ => "",
            };
            nodes.push(match keyword {
                "end" => return Ok((nodes, Some(End::End))),
                "else" => return Ok((nodes, Some(End::Else(tokens[1..].to_vec())))),
                "if" => self.branches(&tokens[1..])?,
                "with" => {
                    let (pipeline, body, other) = self.body("with", &tokens[1..])?;
                    Node::With(pipeline, body, other)
                }
                "range" => {
                    let (pipeline, body, other) = self.body("range", &tokens[1..])?;
                    Node::Range(pipeline, body, other)
                }
                "break" => Node::Break,
                "continue" => Node::Continue,
                "define" | "template" | "block" => {
                    return Err(TemplateError::Parse(format!("{keyword} is not supported")));
                }
                _ => Node::Print(pipeline_of("command", tokens)?),
            });
        }
        Ok((nodes, None))
    }

    fn branches(&mut self, condition: &[Token]) -> Result<Node, TemplateError> {
        let mut branches = Vec::new();
        let mut condition = Some(pipeline_of("if", condition)?);
        loop {
            let is_else = condition.is_none();
            let (body, end) = self.list()?;
            branches.push((condition, body));
            condition = match end {
                Some(End::End) => return Ok(Node::If(branches)),
                Some(End::Else(_)) if is_else => {
                    return Err(TemplateError::Parse("expected end; found {{else}}".into()));
                }
                Some(End::Else(rest)) => match rest.first().map(|token| &token.kind) {
                    None => None,
                    Some(TokenKind::Word(word)) if word == "if" => {
                        Some(pipeline_of("if", &rest[1..])?)
                    }
                    Some(_) => return Err(TemplateError::Parse("unexpected word in else".into())),
                },
                None => return Err(TemplateError::Parse("unexpected EOF".into())),
            };
        }
    }

    fn body(
        &mut self,
        what: &str,
        head: &[Token],
    ) -> Result<(Pipeline, Vec<Node>, Vec<Node>), TemplateError> {
        let pipeline = pipeline_of(what, head)?;
        let (body, end) = self.list()?;
        let other = match end {
            Some(End::End) => return Ok((pipeline, body, Vec::new())),
            Some(End::Else(_)) => self.list()?,
            None => return Err(TemplateError::Parse("unexpected EOF".into())),
        };
        match other {
            (other, Some(End::End)) => Ok((pipeline, body, other)),
            _ => Err(TemplateError::Parse("unexpected EOF".into())),
        }
    }
}

fn pipeline_of(context: &str, tokens: &[Token]) -> Result<Pipeline, TemplateError> {
    if tokens.is_empty() {
        return Err(TemplateError::Parse(format!("missing value for {context}")));
    }
    let mut words = Words { tokens, next: 0 };
    let pipeline = words.pipeline()?;
    match words.peek() {
        None => Ok(pipeline),
        Some(token) => Err(TemplateError::Parse(format!(
            "unexpected {} in {context}",
            written(&token.kind)
        ))),
    }
}

struct Words<'a> {
    tokens: &'a [Token],
    next: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<&'a Token> {
        let token = self.peek();
        self.next += usize::from(token.is_some());
        token
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let (variables, declares) = self.variables();
        let mut commands = Vec::new();
        loop {
            commands.push(self.call()?);
            match self.peek().map(|token| &token.kind) {
                Some(TokenKind::Pipe) => self.next += 1,
                _ => {
                    return Ok(Pipeline {
                        variables,
                        declares,
                        commands,
                    });
                }
            }
        }
    }

    /// `$x :=`, `$k, $v :=` or `$x =` at the beginning, if it is there.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let mut names = Vec::new();
        let mut at = self.next;
        while let Some(TokenKind::Variable(name)) = self.tokens.get(at).map(|token| &token.kind) {
            names.push(name.clone());
            match self.tokens.get(at + 1).map(|token| &token.kind) {
                Some(TokenKind::Comma) => at += 2,
                Some(TokenKind::Declare) => {
                    self.next = at + 2;
                    return (names, true);
                }
                Some(TokenKind::Assign) => {
                    self.next = at + 2;
                    return (names, false);
                }
                _ => break,
            }
        }
        (Vec::new(), false)
    }

    fn call(&mut self) -> Result<Call, TemplateError> {
        let mut operands = Vec::new();
        while let Some(token) = self.peek() {
            match token.kind {
                TokenKind::Pipe | TokenKind::Close => break,
                _ => operands.push(self.operand()?),
            }
        }
        let Some(first) = operands.first() else {
            return Err(TemplateError::Parse("missing value for command".into()));
        };
        let written = operands
            .iter()
            .map(|operand: &Operand| operand.written.as_str())
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Call {
            at: first.at,
            written,
            operands,
        })
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let Some(token) = self.take() else {
            return Err(TemplateError::Parse("missing value for command".into()));
        };
        let mut end = token.at + written(&token.kind).len();
        let mut text = written(&token.kind);
        let mut fields = Vec::new();
        let what = match &token.kind {
            TokenKind::Dot => What::Dot,
            TokenKind::Field(name) => {
                fields.push(name.clone());
                What::Dot
            }
            TokenKind::Variable(name) => What::Variable(name.clone()),
            TokenKind::Text(text) => What::Constant(Value::String(text.clone())),
            TokenKind::Int(n) => What::Constant(Value::from(*n)),
            TokenKind::Float(x) => {
                What::Constant(Number::from_f64(*x).map_or(Value::Null, Value::Number))
            }
            TokenKind::Word(word) => match word.as_str() {
                "true" => What::Constant(Value::Bool(true)),
                "false" => What::Constant(Value::Bool(false)),
                "nil" => What::Constant(Value::Null),
                name if super::funcs::is_known(name) => What::Function(name.to_owned()),
                name => {
                    return Err(TemplateError::Parse(format!(
                        "function {name:?} not defined"
                    )));
                }
            },
            TokenKind::Open => {
                let inner = self.pipeline()?;
                let Some(Token {
                    at,
                    kind: TokenKind::Close,
                }) = self.take()
                else {
                    return Err(TemplateError::Parse("unclosed left paren".into()));
                };
                end = at + 1;
                let calls: Vec<&str> = inner
                    .commands
                    .iter()
                    .map(|call| call.written.as_str())
                    .collect();
                text = format!("({})", calls.join(" | "));
                What::Pipeline(Box::new(inner))
            }
            other => {
                return Err(TemplateError::Parse(format!(
                    "unexpected {} in operand",
                    written(other)
                )));
            }
        };
        // Go says an error in `.A.B` is where `.B` begins.
        let mut at = token.at;
        let mut chained = false;
        while let Some(Token {
            at: next,
            kind: TokenKind::Field(name),
        }) = self.peek()
        {
            if *next != end {
                break;
            }
            if !chained {
                at = *next;
                chained = true;
            }
            end = next + 1 + name.len();
            text.push('.');
            text.push_str(name);
            fields.push(name.clone());
            self.next += 1;
        }
        Ok(Operand {
            at,
            what,
            fields,
            written: text,
        })
    }
}

fn written(kind: &TokenKind) -> String {
    match kind {
        TokenKind::Field(name) => format!(".{name}"),
        TokenKind::Dot => ".".into(),
        TokenKind::Variable(name) => format!("${name}"),
        TokenKind::Word(word) => word.clone(),
        TokenKind::Text(text) => super::show::quote(text),
        TokenKind::Int(n) => n.to_string(),
        TokenKind::Float(x) => x.to_string(),
        TokenKind::Pipe => "|".into(),
        TokenKind::Open => "(".into(),
        TokenKind::Close => ")".into(),
        TokenKind::Comma => ",".into(),
        TokenKind::Declare => ":=".into(),
        TokenKind::Assign => "=".into(),
    }
}
