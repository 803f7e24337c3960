//! Tokens: what they allow, giving them, checking them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::jwt::{self, Audience, Claims};
use super::keys::{SigningKey, TrustedKeys};
use super::{Auth, AuthError, Identity};
use crate::config::{Action, TokenConfig};
use crate::name::RepoName;
use crate::storage::Storage;

/// Where our key lies in the store, so that replicas trust each other's tokens.
const KEY: &str = "auth/token.key";

/// For how long what stands for a password (a refresh token) is good.
const REFRESH: Duration = Duration::from_secs(30 * 24 * 3600);

/// Something that a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of which repository; `catalog` of the registry.
    pub name: String,
    /// What.
    pub actions: Vec<String>,
}

impl Access {
    /// Whether it covers this.
    pub fn allows(&self, repo: &RepoName, action: Action) -> bool {
        self.kind == "repository"
            && self.name == repo.as_str()
            && self
                .actions
                .iter()
                .any(|word| word == "*" || word == action.as_str())
    }

    /// Whether it is about the list of repositories.
    pub fn is_catalog(&self) -> bool {
        self.kind == "registry" && self.name == "catalog"
    }

    /// `repository:a/b:pull,push`, several separated by spaces.
    pub fn parse_scopes<'a>(scopes: impl Iterator<Item = &'a str>) -> Vec<Access> {
        scopes
            .flat_map(str::split_whitespace)
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                // `repository(plugin)` is a repository too.
                let kind = kind.split('(').next().unwrap_or(kind);
                Some(Access {
                    kind: kind.to_owned(),
                    name: name.to_owned(),
                    actions: actions
                        .split(',')
                        .filter(|word| !word.is_empty())
                        .map(str::to_owned)
                        .collect(),
                })
            })
            .collect()
    }
}

/// Gives and checks tokens.
#[derive(Debug)]
pub struct Tokens {
    config: TokenConfig,
    trusted: TrustedKeys,
    own: Option<SigningKey>,
}

impl Tokens {
    /// With the keys of another server, or with our own, which is made if there is none.
    ///
    /// # Errors
    /// Keys that are missing or make no sense.
    pub async fn open(config: &TokenConfig, storage: &Storage) -> Result<Tokens, AuthError> {
        if config.realm.is_some() {
            let mut trusted = TrustedKeys::default();
            for path in &config.keys {
                trusted.load(path)?;
            }
            return Ok(Tokens {
                config: config.clone(),
                trusted,
                own: None,
            });
        }
        if storage.stat(KEY).await?.is_none() {
            let fresh = STANDARD.encode(SigningKey::generate()?);
            storage.put_new(KEY, Bytes::from(fresh)).await?;
        }
        let written = storage.get(KEY).await?.unwrap_or_default();
        let pkcs8 = STANDARD
            .decode(&written)
            .map_err(|error| AuthError::OwnKey(error.to_string()))?;
        let own = SigningKey::open(&pkcs8)?;
        Ok(Tokens {
            config: config.clone(),
            trusted: TrustedKeys::of(&own),
            own: Some(own),
        })
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn check(&self, token: &str) -> Result<Identity, String> {
        let claims = jwt::check(
            token,
            &self.trusted,
            &self.config.issuer,
            &self.config.service,
        )?;
        Ok(Identity::Token {
            subject: claims.sub,
            access: claims.access,
            own: self.own.is_some(),
        })
    }

    /// To whom a refresh token was given.
    pub fn check_refresh(&self, token: &str) -> Option<String> {
        let service = format!("{}#refresh", self.config.service);
        let claims = jwt::check(token, &self.trusted, &self.config.issuer, &service).ok()?;
        Some(claims.sub)
    }

    /// The public half of our key.
    pub fn jwks(&self) -> Option<Value> {
        self.own.as_ref().map(SigningKey::jwks)
    }

    /// An answer with a token for somebody, who gets what they asked for as far as they may.
    pub fn give(
        &self,
        auth: &Auth,
        who: &Identity,
        wanted: &[Access],
        refresh: bool,
    ) -> Option<Value> {
        let key = self.own.as_ref()?;
        let access = wanted
            .iter()
            .filter_map(|wanted| grant(auth, who, wanted))
            .collect();
        let now = Timestamp::now();
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let claims = |service: String, access, good_for: Duration| Claims {
            iss: self.config.issuer.clone(),
            sub: who.name().to_owned(),
            aud: Audience::One(service),
            exp: now.as_second().saturating_add(seconds(good_for)),
            nbf: Some(now.as_second() - 10),
            iat: Some(now.as_second()),
            jti: crate::random::id(),
            access,
        };
        // Clients take less than a minute for a mistake.
        let good_for = self.config.expires.max(Duration::from_secs(60));
        let token = jwt::sign(&claims(self.config.service.clone(), access, good_for), key);
        let mut answer = json!({
            "token": token, "access_token": token, "expires_in": good_for.as_secs(), "issued_at": now.to_string(),
        });
        if refresh && matches!(who, Identity::User(_)) {
            let service = format!("{}#refresh", self.config.service);
            answer["refresh_token"] = json!(jwt::sign(&claims(service, Vec::new(), REFRESH), key));
        }
        Some(answer)
    }
}

/// As much of what was asked for as somebody may have.
fn grant(auth: &Auth, who: &Identity, wanted: &Access) -> Option<Access> {
    if wanted.is_catalog() {
        return matches!(who, Identity::User(_)).then(|| wanted.clone());
    }
    let repo = RepoName::parse(&wanted.name).filter(|_| wanted.kind == "repository")?;
    let asked = |action: Action| {
        wanted
            .actions
            .iter()
            .any(|word| word == "*" || word == action.as_str())
    };
    let actions: Vec<String> = Action::ALL
        .into_iter()
        .filter(|&action| asked(action) && auth.allows(who, &repo, action))
        .map(|action| action.as_str().to_owned())
        .collect();
    (!actions.is_empty()).then(|| Access {
        kind: wanted.kind.clone(),
        name: wanted.name.clone(),
        actions,
    })
}
