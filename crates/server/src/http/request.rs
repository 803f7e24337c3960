//! A request on its way to a handler, and how its parameters are read.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use wharf_api::filters::Filters;
use wharf_api::gojson::{self, DecodeError};
use wharf_api::version::ApiVersion;

use super::body::RequestBody;
use super::error::ApiError;
use crate::Server;

/// No JSON body of the API comes near this many bytes; more is refused before it fills the memory.
const MAX_JSON: usize = 32 << 20;

/// One request, routed.
#[derive(Debug)]
pub struct Call {
    /// What serves it.
    pub server: Arc<Server>,
    /// Asked for in the path, or the newest.
    pub version: ApiVersion,
    /// Values of the pattern's `{…}` parts, in order.
    pub params: Vec<String>,
    /// The query string, decoded.
    pub query: Query,
    /// Method, headers and extensions (the pending upgrade).
    pub parts: Parts,
    /// What the client sends.
    pub body: RequestBody,
}

impl Call {
    /// The first `{…}` part: a container, image, network, …
    #[must_use]
    pub fn name(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<wharf_engine::Engine> {
        &self.server.engine
    }

    /// The `filters` parameter.
    pub fn filters(&self) -> Result<Filters, ApiError> {
        Ok(Filters::parse(self.query.get("filters"))?)
    }

    /// The body as JSON; an empty body is the default value (moby `httputils.ReadJSON`).
    pub async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        let content_type = self.header(&CONTENT_TYPE).to_owned();
        if content_type.is_empty() && self.body_is_empty() {
            return Ok(T::default());
        }
        check_content_type(&content_type)?;
        if self.body_is_empty() {
            return Ok(T::default());
        }
        let bytes = self.bytes().await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        gojson::from_slice(&bytes).map_err(|e| match e {
            DecodeError::Syntax(text) if text.starts_with("trailing characters") => {
                ApiError::invalid("unexpected content after JSON")
            }
            e => ApiError::invalid(format!("invalid JSON: {e}")),
        })
    }

    /// A header as text; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &http::HeaderName) -> &str {
        self.parts
            .headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    }

    /// Whether the client sends no body at all.
    #[must_use]
    pub fn body_is_empty(&self) -> bool {
        self.body.is_end_stream() || self.header(&CONTENT_LENGTH) == "0"
    }

    async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        let collected = http_body_util::Limited::new(&mut self.body, MAX_JSON)
            .collect()
            .await
            .map_err(|e| ApiError::invalid(format!("invalid JSON: {e}")))?;
        let mut whole = collected.aggregate();
        Ok(whole.copy_to_bytes(whole.remaining()))
    }
}

fn check_content_type(value: &str) -> Result<(), ApiError> {
    let mime = value.split(';').next().unwrap_or("").trim();
    if mime.is_empty() {
        return Err(ApiError::invalid(format!(
            "malformed Content-Type header ({value}): mime: no media type"
        )));
    }
    if !mime.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::invalid(format!(
            "unsupported Content-Type header ({value}): must be 'application/json'"
        )));
    }
    Ok(())
}

/// A decoded query string. Parameters may repeat; without saying so the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=1&b=x%20y`.
    #[must_use]
    pub fn parse(text: &str) -> Query {
        Query(
            form_urlencoded::parse(text.as_bytes())
                .map(|(k, v)| (own(k), own(v)))
                .collect(),
        )
    }

    /// The first value; empty when the parameter is missing.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// Whether the parameter is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// All values.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// A yes or no: empty, `0`, `no`, `false`, `none` are no, everything else is yes (moby `httputils.BoolValue`).
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        !matches!(
            self.get(name).trim().to_ascii_lowercase().as_str(),
            "" | "0" | "no" | "false" | "none"
        )
    }

    /// As [`Query::flag`], with a default for a missing parameter.
    #[must_use]
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.has(name) {
            self.flag(name)
        } else {
            default
        }
    }

    /// A yes or no in the words of Go's `strconv.ParseBool`; no when missing or empty.
    pub fn strict_flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            text => Err(ApiError::invalid(format!(
                "invalid value for {name}: {text}: strconv.ParseBool: parsing {text:?}: invalid syntax"
            ))),
        }
    }

    /// A whole number, `None` when missing or empty. The message is Go's `strconv`.
    pub fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|e| {
                ApiError::invalid(format!(
                    "strconv.Atoi: parsing {text:?}: {}",
                    number_error(&e)
                ))
            }),
        }
    }

    /// A terminal dimension: needed, not negative, 32 bits (moby `httputils.Uint32Value`).
    pub fn dimension(&self, name: &str, what: &str) -> Result<u16, ApiError> {
        let text = self.get(name);
        let refused = |why| ApiError::invalid(format!("invalid resize {what} {text:?}: {why}"));
        if text.is_empty() || text.starts_with('+') {
            return Err(refused("invalid syntax"));
        }
        let value: i128 = text.parse().map_err(|_| refused("invalid syntax"))?;
        let value = u32::try_from(value).map_err(|_| refused("value out of range"))?;
        // The kernel's winsize has 16 bits; Docker cuts the value off the same way.
        Ok(u16::try_from(value & 0xffff).unwrap_or(u16::MAX))
    }
}

fn own(text: Cow<'_, str>) -> String {
    text.into_owned()
}

fn number_error(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_dockers() {
        let query = Query::parse("a=1&b=0&c=No&d=false&e=none&f=&g=anything&h=%20TRUE%20");
        for (name, expected) in [
            ("a", true),
            ("b", false),
            ("c", false),
            ("d", false),
            ("e", false),
            ("f", false),
            ("g", true),
            ("h", true),
            ("z", false),
        ] {
            assert_eq!(query.flag(name), expected, "{name}");
        }
        assert!(query.flag_or("z", true) && !query.flag_or("f", true));
    }

    #[test]
    fn numbers_are_refused_in_gos_words() {
        let query = Query::parse("t=10&u=ten&v=99999999999999999999");
        assert_eq!(query.number("t"), Ok(Some(10)));
        assert_eq!(query.number("x"), Ok(None));
        let message = |name: &str| query.number(name).expect_err("not a number").message;
        assert_eq!(
            message("u"),
            r#"strconv.Atoi: parsing "ten": invalid syntax"#
        );
        assert_eq!(
            message("v"),
            r#"strconv.Atoi: parsing "99999999999999999999": value out of range"#
        );
    }

    #[test]
    fn dimensions_are_needed_and_not_negative() {
        let query = Query::parse("h=24&w=-1&x=foo&big=4294967296");
        assert_eq!(query.dimension("h", "height"), Ok(24));
        for (name, message) in [
            ("w", r#"invalid resize width "-1": value out of range"#),
            ("x", r#"invalid resize width "foo": invalid syntax"#),
            (
                "big",
                r#"invalid resize width "4294967296": value out of range"#,
            ),
            ("gone", r#"invalid resize width "": invalid syntax"#),
        ] {
            assert_eq!(
                query.dimension(name, "width").expect_err("refused").message,
                message
            );
        }
    }

    #[test]
    fn repeated_parameters_keep_their_order() {
        let query = Query::parse("names=b&names=a%3A1");
        assert_eq!(query.all("names"), ["b", "a:1"]);
        assert_eq!(query.get("names"), "b");
    }
}
