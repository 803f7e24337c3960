//! Paths of containers as archives: `docker cp`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use wharf_api::container::PathStat;
use wharf_api::gojson;
use wharf_engine::container::copy::ExtractOptions;

use super::Outcome;
use crate::http::error::ApiError;
use crate::http::request::Call;
use crate::http::respond;
use crate::http::transfer::{self, BodyReader};

const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// `HEAD /containers/{name}/archive`.
pub async fn stat(call: Call) -> Outcome {
    let stat = call
        .engine()
        .container_path_stat(call.name(), path(&call)?)
        .await?;
    let mut response = respond::empty(StatusCode::OK);
    response.headers_mut().insert(PATH_STAT, encode(&stat)?);
    Ok(response)
}

/// `GET /containers/{name}/archive`.
pub async fn get(call: Call) -> Outcome {
    let archive = call
        .engine()
        .container_archive(call.name(), path(&call)?)
        .await?;
    let stat = encode(&archive.stat)?;
    let chunks = transfer::in_pieces(move |send| archive.write(send));
    let mut response = respond::stream("application/x-tar", chunks);
    response.headers_mut().insert(PATH_STAT, stat);
    Ok(response)
}

/// `PUT /containers/{name}/archive`.
pub async fn put(call: Call) -> Outcome {
    let options = ExtractOptions {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    let (engine, name, path) = (
        call.engine().clone(),
        call.name().to_owned(),
        path(&call)?.to_owned(),
    );
    engine
        .container_extract(&name, &path, options, BodyReader::new(call.body))
        .await?;
    Ok(respond::empty(StatusCode::OK))
}

fn path(call: &Call) -> Result<&str, ApiError> {
    match call.query.get("path") {
        "" => Err(ApiError::invalid("bad parameter: path cannot be empty")),
        path => Ok(path),
    }
}

fn encode(stat: &PathStat) -> Result<HeaderValue, ApiError> {
    let text = STANDARD.encode(gojson::to_line(stat).trim_ascii_end());
    HeaderValue::from_str(&text).map_err(|error| ApiError::internal(error.to_string()))
}
