//! JSON Web Tokens (RFC 7519): made with ES256, checked with whatever key is trusted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::{SigningKey, TrustedKeys};
use super::token::Access;

/// Clocks differ by this much.
const LEEWAY: i64 = 30;

/// What a registry's token says (distribution, "Docker Registry v2 Bearer token specification").
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// Who gave it.
    pub iss: String,
    /// To whom.
    #[serde(default)]
    pub sub: String,
    /// For which service.
    pub aud: Audience,
    /// Until when.
    pub exp: i64,
    /// From when.
    #[serde(default)]
    pub nbf: Option<i64>,
    /// Since when.
    #[serde(default)]
    pub iat: Option<i64>,
    /// Which one.
    #[serde(default)]
    pub jti: String,
    /// What it allows.
    #[serde(default)]
    pub access: Vec<Access>,
}

/// One service or several.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    fn has(&self, service: &str) -> bool {
        match self {
            Audience::One(one) => one == service,
            Audience::Many(many) => many.iter().any(|one| one == service),
        }
    }
}

/// A token's head.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Header {
    /// Algorithm.
    pub alg: String,
    /// Which key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The certificates of the key, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x5c: Option<Vec<String>>,
    /// `JWT`.
    #[serde(default)]
    pub typ: String,
}

/// Makes a token.
pub fn sign(claims: &Claims, key: &SigningKey) -> String {
    let header = Header {
        alg: "ES256".to_owned(),
        kid: Some(key.id().to_owned()),
        x5c: None,
        typ: "JWT".to_owned(),
    };
    let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
    let signed = format!(
        "{}.{}",
        part(serde_json::to_vec(&header).expect("plain values serialize")),
        part(serde_json::to_vec(claims).expect("plain values serialize"))
    );
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Checks a token and gives what it says.
///
/// # Errors
/// A sentence: not a token, not signed by somebody trusted, not for us, not now.
pub fn check(
    token: &str,
    keys: &TrustedKeys,
    issuer: &str,
    service: &str,
) -> Result<Claims, String> {
    let (signed, signature) = token.rsplit_once('.').ok_or("this is no token")?;
    let (header, claims) = signed.split_once('.').ok_or("this is no token")?;
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| "the token is damaged")
    };
    let header: Header =
        serde_json::from_slice(&decode(header)?).map_err(|_| "the token is damaged")?;
    if !keys.verify(&header, signed.as_bytes(), &decode(signature)?) {
        return Err("the token is not signed by anybody trusted".to_owned());
    }
    let claims: Claims =
        serde_json::from_slice(&decode(claims)?).map_err(|_| "the token is damaged")?;
    let now = Timestamp::now().as_second();
    if claims.iss != issuer || !claims.aud.has(service) {
        return Err("the token is not for this registry".to_owned());
    }
    if claims.exp.saturating_add(LEEWAY) < now {
        return Err("the token has expired".to_owned());
    }
    if claims
        .nbf
        .is_some_and(|nbf| nbf > now.saturating_add(LEEWAY))
    {
        return Err("the token is not good yet".to_owned());
    }
    Ok(claims)
}
