//! Who the user is to a registry.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// What `X-Registry-Auth` carries and `docker login` keeps (moby `api/types/registry.AuthConfig`). Its debug form shows no secrets.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// User name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password or access token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// `base64(user:password)`, as in the client's file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// Obsolete, ignored.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// The registry they are for.
    #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
    pub server_address: String,
    /// An OAuth2 refresh token.
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// A bearer token to send as it is.
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub registry_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Decodes an `X-Registry-Auth` header: JSON in base64url, with padding or without. Empty is anonymous.
    pub fn from_header(text: &str) -> Result<Credentials, String> {
        if text.is_empty() {
            return Ok(Credentials::default());
        }
        let bytes = decode(text).ok_or_else(|| {
            "invalid X-Registry-Auth header: must be a valid base64url-encoded string".to_owned()
        })?;
        serde_json::from_slice::<Credentials>(&bytes)
            .map(Credentials::with_auth_split)
            .map_err(|error| format!("invalid X-Registry-Auth header: {error}"))
    }

    /// Nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// Fills name and password from `auth` where they are missing.
    #[must_use]
    pub fn with_auth_split(mut self) -> Credentials {
        if self.username.is_empty()
            && !self.auth.is_empty()
            && let Some(bytes) = decode(&self.auth)
            && let Some((user, password)) = String::from_utf8_lossy(&bytes).split_once(':')
        {
            self.username = user.to_owned();
            self.password = password.trim_end_matches('\0').to_owned();
        }
        self
    }

    /// `Basic …`, if there is a user.
    pub(crate) fn basic(&self) -> Option<String> {
        (!self.username.is_empty()).then(|| {
            format!(
                "Basic {}",
                STANDARD.encode(format!("{}:{}", self.username, self.password))
            )
        })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE
        .decode(text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(text))
        .or_else(|_| STANDARD.decode(text))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_base64url_json() {
        let header =
            URL_SAFE.encode(r#"{"username":"u","password":"p?>","serveraddress":"r:5000"}"#);
        let credentials = Credentials::from_header(&header).expect("valid");
        assert_eq!(
            (credentials.username.as_str(), credentials.password.as_str()),
            ("u", "p?>")
        );
        assert!(!format!("{credentials:?}").contains("p?>"));
        assert_eq!(Credentials::from_header("e30="), Ok(Credentials::default()));
        assert!(Credentials::from_header("!").is_err());
        let split = Credentials {
            auth: STANDARD.encode("a:b:c"),
            ..Credentials::default()
        };
        assert_eq!(split.with_auth_split().password, "b:c");
    }
}
