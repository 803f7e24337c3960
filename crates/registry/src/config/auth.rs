//! Who may do what.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::units;

/// What can be done with a repository.
#[derive(Debug, Clone, Copy, Deserialize, serde::Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read.
    Pull,
    /// Write.
    Push,
    /// Remove.
    Delete,
}

impl Action {
    /// All.
    pub const ALL: [Action; 3] = [Action::Pull, Action::Push, Action::Delete];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }

    /// Parses a word.
    pub fn parse(text: &str) -> Option<Action> {
        Action::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
    }
}

/// See [`super::Config::auth`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// What clients are told they log in to.
    pub realm: String,
    /// Names and bcrypt hashes.
    pub htpasswd: Option<PathBuf>,
    /// What may be done without logging in.
    pub anonymous: Vec<Action>,
    /// Whether robot accounts in the store may log in.
    pub robots: bool,
    /// Tokens instead of passwords with every request.
    pub token: Option<TokenConfig>,
    /// Who may do what where. Empty: whoever logs in may do everything.
    pub rules: Vec<Rule>,
    /// The Unix-like groups of rules: `@name`.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Whether clients' certificates name users (the subject's common name).
    pub certificates: bool,
}

/// See [`AuthConfig::token`].
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// Where another server gives tokens; without it, this registry does, at `/auth/token`.
    pub realm: Option<String>,
    /// The audience.
    pub service: String,
    /// Who signs.
    pub issuer: String,
    /// For how long ours are good.
    #[serde(deserialize_with = "units::duration")]
    pub expires: Duration,
    /// Certificates, public keys (PEM) or key sets (JWKS) of the other server.
    pub keys: Vec<PathBuf>,
}

/// See [`AuthConfig::rules`]. What any rule allows is allowed.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Patterns of names.
    pub repositories: Vec<String>,
    /// Users, `@groups`, `*` for whoever logged in, `anonymous` for everybody.
    pub who: Vec<String>,
    /// What they may do.
    pub actions: Vec<Action>,
}

impl Default for AuthConfig {
    fn default() -> AuthConfig {
        AuthConfig {
            realm: "Wharf registry".to_owned(),
            htpasswd: None,
            anonymous: Vec::new(),
            robots: false,
            token: None,
            rules: Vec::new(),
            groups: BTreeMap::new(),
            certificates: false,
        }
    }
}

impl Default for TokenConfig {
    fn default() -> TokenConfig {
        TokenConfig {
            realm: None,
            service: "wharf-registry".to_owned(),
            issuer: "wharf-registry".to_owned(),
            expires: Duration::from_secs(300),
            keys: Vec::new(),
        }
    }
}
