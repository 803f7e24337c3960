//! The Dockerfile dialect of BuildKit's frontend: from text to typed instructions, in two steps.
//!
//! `node` cuts the text into instructions with raw arguments (continuations, comments, here-documents); `instruction` gives them
//! their meaning. All of the first step is done before the second begins, so its errors are reported first, as Docker does.
//! Variables are expanded later, when values are known: see [`expand`].

mod arguments;
mod directive;
mod error;
pub mod expand;
mod flags;
mod glob;
mod heredoc;
pub mod instruction;
mod json;
mod node;
pub mod scope;
pub mod stage;
mod suggest;
mod words;

pub use directive::Directives;
pub use error::{Phase, Problem, SyntaxError, excerpt};
pub use node::{Lines, Node, Warning, read};
pub use stage::{Dockerfile, Stage, parse};
pub use suggest::nearest;
