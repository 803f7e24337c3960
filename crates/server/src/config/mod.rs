//! The daemon's configuration: dockerd's flags and `daemon.json`, merged once at the edge.
//!
//! One table ([`options`]) drives both: what flags exist, what the file may say, what is refused. Flags and file become one
//! JSON object, and that becomes [`Settings`].

pub mod builder;
pub mod file;
pub mod flags;
pub mod merge;
pub mod options;
pub mod settings;

pub use flags::Flags;
pub use settings::Settings;

use std::path::PathBuf;

/// Why a configuration was refused. The texts are dockerd's where it has them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag that does not parse, or a request for help; clap has the text.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// A flag's value does not parse.
    #[error("invalid argument {value:?} for \"--{flag}\" flag: {why}")]
    Value {
        /// Flag.
        flag: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file cannot be used.
    #[error("unable to configure the Docker daemon with file {}: {why}", path.display())]
    File {
        /// `daemon.json`.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Each part is fine, together they are not.
    #[error("merged configuration validation from file and command line flags failed: {0}")]
    Invalid(String),
    /// Docker has it, this engine has not.
    #[error("{0} is not supported by this engine yet")]
    Unsupported(&'static str),
}
