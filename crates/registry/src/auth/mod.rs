//! Who asks, and what they may do.

pub mod htpasswd;
pub mod jwt;
pub mod keys;
pub mod robots;
pub mod rules;
pub mod token;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};

use crate::config::{Action, AuthConfig, Config, TokenConfig};
use crate::error::{ApiError, Code};
use crate::http::serve::Peer;
use crate::name::RepoName;
use crate::storage::Storage;
use htpasswd::Htpasswd;
use robots::{Robot, Robots};
use token::{Access, Tokens};

/// Why nobody can be told apart.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file of passwords.
    #[error("auth.htpasswd: {}: {source}", path.display())]
    Htpasswd {
        /// File.
        path: std::path::PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A key of another server.
    #[error("auth.token.keys: {}: {reason}", path.display())]
    Key {
        /// File.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Our own key.
    #[error("the key of tokens: {0}")]
    OwnKey(String),
    /// The store.
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Identity {
    /// Nobody said.
    Anonymous,
    /// A name and a password, or a certificate.
    User(String),
    /// A robot account.
    Robot(Arc<Robot>),
    /// Whoever a token was given to, with what it allows.
    Token {
        /// To whom; empty: to nobody in particular.
        subject: String,
        /// What it allows.
        access: Vec<Access>,
        /// Whether we gave it.
        own: bool,
    },
}

impl Identity {
    /// For logs; empty for nobody.
    pub fn name(&self) -> &str {
        match self {
            Identity::Anonymous => "",
            Identity::User(name) => name,
            Identity::Robot(robot) => &robot.name,
            Identity::Token { subject, .. } => subject,
        }
    }
}

/// The door.
#[derive(Debug)]
pub struct Auth {
    config: AuthConfig,
    token: Option<TokenConfig>,
    htpasswd: Option<Htpasswd>,
    robots: Option<Robots>,
    tokens: Option<Tokens>,
    open: bool,
}

impl Auth {
    /// As configured.
    ///
    /// # Errors
    /// Files that are missing or make no sense.
    pub async fn open(config: &Config, storage: &Storage) -> Result<Auth, AuthError> {
        let auth = config.auth.clone();
        let passwords = auth.htpasswd.is_some() || auth.robots;
        // Clients that got in without a password once never show it later, unless tokens tell them when.
        let token = match &auth.token {
            None if passwords && !auth.anonymous.is_empty() => Some(TokenConfig::default()),
            None if passwords
                && auth
                    .rules
                    .iter()
                    .any(|rule| rule.who.iter().any(|who| who == "anonymous")) =>
            {
                Some(TokenConfig::default())
            }
            token => token.clone(),
        };
        let tokens = match &token {
            Some(token) => Some(Tokens::open(token, storage).await?),
            None => None,
        };
        Ok(Auth {
            htpasswd: auth.htpasswd.as_deref().map(Htpasswd::open).transpose()?,
            robots: auth.robots.then(|| Robots::new(storage.clone())),
            open: !config.needs_login(),
            token,
            tokens,
            config: auth,
        })
    }

    /// Tokens that we give; `None` where another server does, or nobody.
    pub fn own_tokens(&self) -> Option<(&Tokens, &TokenConfig)> {
        let token = self.token.as_ref().filter(|token| token.realm.is_none())?;
        Some((self.tokens.as_ref()?, token))
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Who asks. What is shown must be right, even where nothing need be shown.
    ///
    /// # Errors
    /// A wrong password, a token that is not good.
    pub async fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Result<Identity, ApiError> {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some(shown) = shown.filter(|_| !self.open) else {
            return Ok(match &peer.certificate {
                Some(name) if self.config.certificates => Identity::User(name.to_string()),
                _ => Identity::Anonymous,
            });
        };
        let (scheme, value) = shown.split_once(' ').unwrap_or((shown, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let (name, password) = parse_basic(value)
                .ok_or_else(|| unauthorized("the Authorization header makes no sense"))?;
            return self
                .login(&name, &password)
                .await?
                .ok_or_else(|| unauthorized("authentication required"));
        }
        if scheme.eq_ignore_ascii_case("bearer")
            && let Some(tokens) = &self.tokens
        {
            return tokens
                .check(value.trim())
                .map_err(|reason| unauthorized(&reason));
        }
        Err(unauthorized("authentication required"))
    }

    /// Checks a name and its password.
    pub async fn login(&self, name: &str, password: &str) -> Result<Option<Identity>, ApiError> {
        if let Some(robots) = self
            .robots
            .as_ref()
            .filter(|_| name.starts_with(robots::PREFIX))
        {
            let robot = robots.login(name, password).await?;
            return Ok(robot.map(Identity::Robot));
        }
        let Some(htpasswd) = &self.htpasswd else {
            return Ok(None);
        };
        Ok(htpasswd
            .check(name, password)
            .await
            .then(|| Identity::User(name.to_owned())))
    }

    /// Whether somebody may do something.
    pub fn allows(&self, who: &Identity, repo: &RepoName, action: Action) -> bool {
        if self.open {
            return true;
        }
        match who {
            Identity::Anonymous => {
                self.config.anonymous.contains(&action)
                    || rules::allow(&self.config, None, repo, action)
            }
            Identity::User(name) => {
                self.config.anonymous.contains(&action)
                    || rules::allow(&self.config, Some(name), repo, action)
            }
            Identity::Robot(robot) => robot.allows(repo, action),
            Identity::Token { access, .. } => {
                access.iter().any(|access| access.allows(repo, action))
            }
        }
    }

    /// Whether a repository is shown to somebody in lists. Tokens say nothing about lists, so theirs is who they were given to.
    pub fn shows(&self, who: &Identity, repo: &RepoName) -> bool {
        match who {
            Identity::Token {
                subject, own: true, ..
            } if subject.is_empty() => self.allows(&Identity::Anonymous, repo, Action::Pull),
            Identity::Token {
                subject, own: true, ..
            } if !subject.starts_with(robots::PREFIX) => {
                self.allows(&Identity::User(subject.clone()), repo, Action::Pull)
            }
            Identity::Token { access, .. } => {
                access.iter().any(Access::is_catalog) || self.allows(who, repo, Action::Pull)
            }
            _ => self.allows(who, repo, Action::Pull),
        }
    }

    /// Fails unless somebody may do something; the error tells clients how they could.
    ///
    /// # Errors
    /// They may not.
    pub fn require(
        &self,
        who: &Identity,
        repo: &RepoName,
        actions: &[Action],
        base: &str,
    ) -> Result<(), ApiError> {
        if actions.iter().all(|&action| self.allows(who, repo, action)) {
            return Ok(());
        }
        let words: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
        let scope = format!("repository:{repo}:{}", words.join(","));
        let detail = serde_json::json!([{"Type": "repository", "Class": "", "Name": repo.as_str(), "Action": words.join(",")}]);
        match who {
            Identity::Anonymous => Err(self
                .challenge(base, Some(&scope), false)
                .with_detail(detail)),
            // Another token may allow more.
            Identity::Token { .. } => {
                let mut error = self.challenge(base, Some(&scope), true).with_detail(detail);
                error.code = Code::Denied;
                error.message = "requested access to the resource is denied".to_owned();
                Err(error)
            }
            _ => Err(
                ApiError::new(Code::Denied, "requested access to the resource is denied")
                    .with_detail(detail),
            ),
        }
    }

    /// "Log in first", in the way that clients understand.
    pub fn challenge(&self, base: &str, scope: Option<&str>, insufficient: bool) -> ApiError {
        let text = match &self.token {
            None => format!(
                "Basic realm=\"{}\"",
                self.config.realm.replace(['"', '\\'], "")
            ),
            Some(token) => {
                let realm = token
                    .realm
                    .clone()
                    .unwrap_or_else(|| format!("{base}/auth/token"));
                let mut text = format!("Bearer realm=\"{realm}\",service=\"{}\"", token.service);
                if let Some(scope) = scope {
                    text.push_str(&format!(",scope=\"{scope}\""));
                }
                if insufficient {
                    text.push_str(",error=\"insufficient_scope\"");
                }
                text
            }
        };
        let value =
            HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
        ApiError::new(Code::Unauthorized, "authentication required")
            .with_header(header::WWW_AUTHENTICATE, value)
    }

    /// Reads files again that changed.
    pub fn reload(&self) {
        if let Some(htpasswd) = &self.htpasswd {
            htpasswd.reload();
        }
    }
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(Code::Unauthorized, message)
}

/// `name:password` in base64.
pub fn parse_basic(value: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
