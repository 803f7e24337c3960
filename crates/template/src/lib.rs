//! Go's `text/template`, as far as `--format` of Docker's client uses it: fields, variables, pipelines, `if`, `range`,
//! `with`, comparison and formatting functions, and Docker's own (`json`, `join`, `upper`, …). It works on JSON values.
//!
//! Errors read as Go's do (`template: :1:2: executing "" at <.Foo>: …`), since scripts show them to people.

#![forbid(unsafe_code)]

mod eval;
mod funcs;
mod lex;
mod parse;
mod show;

pub use eval::Data;
pub use funcs::sprintf;
pub use show::{json_text, quote, show};

use serde_json::Value;

/// Why a template cannot be read or carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is not a template.
    #[error("template: :1: {0}")]
    Parse(String),
    /// It is, but does not fit the data.
    #[error("template: :{line}:{column}: executing \"\" at <{node}>: {reason}")]
    Execute {
        /// Line, from 1.
        line: usize,
        /// Byte in the line, from 0.
        column: usize,
        /// The part that failed, as written.
        node: String,
        /// Why.
        reason: String,
    },
}

/// A template that can be filled in many times.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError::Parse`]
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        let nodes = parse::parse(&lex::split(source)?)?;
        Ok(Template {
            source: source.to_owned(),
            nodes,
        })
    }

    /// Fills it in.
    ///
    /// # Errors
    /// [`TemplateError::Execute`]
    pub fn render(&self, data: &Data<'_>) -> Result<String, TemplateError> {
        eval::render(&self.source, &self.nodes, data)
    }

    /// Fills it in with a plain value.
    ///
    /// # Errors
    /// [`TemplateError::Execute`]
    pub fn render_value(&self, value: &Value) -> Result<String, TemplateError> {
        self.render(&Data::value(value))
    }
}
