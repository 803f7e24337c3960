//! `/auth/token`: tokens for names and passwords, in the two ways that clients ask (distribution, "Token Authentication Specification" and
//! "OAuth2"); `/auth/jwks`: the key they are checked with.

use bytes::BytesMut;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::json_response;
use crate::auth::token::Access;
use crate::auth::{Identity, parse_basic};
use crate::error::{ApiError, Code};
use crate::http::body::{Body, incoming};
use crate::server::{Asked, Server};

/// No form of a client is longer.
const LONGEST_FORM: usize = 64 << 10;

pub(super) async fn give(
    server: &Server,
    asked: &Asked<'_>,
    body: hyper::body::Incoming,
) -> Result<Response<Body>, ApiError> {
    let (tokens, _) = server.auth.own_tokens().ok_or_else(super::not_found)?;
    let form = if asked.parts.method == Method::POST {
        Some(read(server, body).await?)
    } else {
        None
    };
    let (who, scopes, refresh) = match &form {
        None => {
            let scopes: Vec<String> = asked.queries("scope").collect();
            let refresh = asked
                .query("offline_token")
                .is_some_and(|value| value == "true");
            (by_header(server, asked).await?, scopes, refresh)
        }
        Some(form) => {
            let field = |name: &str| {
                form.iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.as_str())
            };
            let scopes = form
                .iter()
                .filter(|(key, _)| key == "scope")
                .map(|(_, value)| value.clone())
                .collect();
            let who = match field("grant_type") {
                Some("password") => {
                    let (name, password) = (
                        field("username").unwrap_or(""),
                        field("password").unwrap_or(""),
                    );
                    server
                        .auth
                        .login(name, password)
                        .await?
                        .ok_or_else(refused)?
                }
                Some("refresh_token") => {
                    let token = field("refresh_token").unwrap_or("");
                    tokens
                        .check_refresh(token)
                        .map(Identity::User)
                        .ok_or_else(refused)?
                }
                _ => by_header(server, asked).await?,
            };
            (who, scopes, field("access_type") == Some("offline"))
        }
    };
    let wanted = Access::parse_scopes(scopes.iter().map(String::as_str));
    let answer = tokens
        .give(&server.auth, &who, &wanted, refresh)
        .ok_or_else(super::not_found)?;
    let mut response = json_response(StatusCode::OK, answer.to_string());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn refused() -> ApiError {
    ApiError::new(Code::Unauthorized, "incorrect username or password")
}

/// Whoever shows no password gets a token for what everybody may do.
async fn by_header(server: &Server, asked: &Asked<'_>) -> Result<Identity, ApiError> {
    let shown = asked
        .header(header::AUTHORIZATION)
        .and_then(|value| value.split_once(' '));
    match shown {
        Some((scheme, value)) if scheme.eq_ignore_ascii_case("basic") => {
            let (name, password) = parse_basic(value).ok_or_else(refused)?;
            server
                .auth
                .login(&name, &password)
                .await?
                .ok_or_else(refused)
        }
        _ => Ok(Identity::Anonymous),
    }
}

async fn read(
    server: &Server,
    body: hyper::body::Incoming,
) -> Result<Vec<(String, String)>, ApiError> {
    let mut body = incoming(body, server.config.http.body_timeout);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.next().await {
        let frame = frame.map_err(|_| {
            ApiError::new(Code::Unknown, "the form was cut off")
                .with_status(StatusCode::BAD_REQUEST)
        })?;
        if bytes.len() + frame.len() > LONGEST_FORM {
            return Err(ApiError::new(Code::SizeInvalid, "the form is too long"));
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(form_urlencoded::parse(&bytes).into_owned().collect())
}

pub(super) fn keys(server: &Server) -> Result<Response<Body>, ApiError> {
    let (tokens, _) = server.auth.own_tokens().ok_or_else(super::not_found)?;
    let set = tokens.jwks().ok_or_else(super::not_found)?;
    Ok(json_response(StatusCode::OK, set.to_string()))
}
