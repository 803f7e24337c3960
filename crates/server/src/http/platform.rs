//! The `platform` parameter: JSON of an OCI platform, one each.

use serde::Deserialize;
use wharf_api::gojson;

use super::error::ApiError;
use super::request::Call;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
    variant: String,
}

/// The platform that `call` asks for as `os/arch[/variant]`; empty when it asks for none, or came before API 1.`since`.
pub fn wanted(call: &Call, since: u16) -> Result<String, ApiError> {
    if call.version.before(since) {
        return Ok(String::new());
    }
    match call.query.all("platform").as_slice() {
        [] => Ok(String::new()),
        [only] if only.is_empty() => Ok(String::new()),
        [only] => parse(only),
        _ => Err(ApiError::invalid(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later",
        )),
    }
}

fn parse(text: &str) -> Result<String, ApiError> {
    let platform: Platform = gojson::from_slice(text.as_bytes())
        .map_err(|e| ApiError::invalid(format!("failed to parse platform: {e}")))?;
    match (
        platform.os.as_str(),
        platform.architecture.as_str(),
        platform.variant.as_str(),
    ) {
        ("", "", variant) if !variant.is_empty() => Err(ApiError::invalid(
            "optional platform fields provided, but OS and Architecture are missing",
        )),
        ("", _, _) | (_, "", _) => Err(ApiError::invalid(
            "both OS and Architecture must be provided",
        )),
        (os, architecture, "") => Ok(format!("{os}/{architecture}")),
        (os, architecture, variant) => Ok(format!("{os}/{architecture}/{variant}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_json() {
        for (text, expected) in [
            (
                r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#,
                Some("linux/arm64/v8"),
            ),
            (
                r#"{"os":"linux","architecture":"amd64"}"#,
                Some("linux/amd64"),
            ),
            (r#"{"os":"linux"}"#, None),
            ("{}", None),
            ("linux/amd64", None),
        ] {
            assert_eq!(parse(text).ok().as_deref(), expected, "{text}");
        }
    }
}
