//! Images of containers.

use http::StatusCode;
use wharf_api::container::{CommitResponse, Config};
use wharf_engine::container::commit::CommitOptions;

use super::Outcome;
use crate::http::request::Call;
use crate::http::respond;

/// `POST /commit`.
pub async fn commit(mut call: Call) -> Outcome {
    let config: Option<Config> = call.json().await?;
    let query = &call.query;
    let text = |name: &str| query.get(name).to_owned();
    let options = CommitOptions {
        repository: text("repo"),
        tag: text("tag"),
        comment: text("comment"),
        author: text("author"),
        changes: query.all("changes"),
        pause: query.get("pause").is_empty() || query.flag("pause"),
        config,
    };
    let id = call
        .engine()
        .container_commit(query.get("container"), options)
        .await?;
    Ok(respond::json(StatusCode::CREATED, &CommitResponse { id }))
}
