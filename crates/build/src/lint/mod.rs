//! The checks of `docker build --check`.

mod check;
mod options;
mod rules;
mod stage;
mod text;

pub use check::{Facts, check};
pub use options::{Options, OptionsError};
pub use rules::{RULES, Rule, rule};

use crate::dockerfile::Lines;

/// One thing a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: &'static Rule,
    /// What exactly.
    pub message: String,
    /// Where.
    pub lines: Lines,
}
