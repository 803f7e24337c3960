//! Flags as data: one definition gives the parser, the help text and the shell completions.

pub mod complete;
pub mod help;
pub mod man;
pub mod parse;
pub mod spec;
