//! Lists: `/v2/_catalog`, `/v2/<name>/tags/list`.

use http::{Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{json_response, value};
use crate::auth::Identity;
use crate::config::Action;
use crate::error::{ApiError, Code};
use crate::http::body::Body;
use crate::name::RepoName;
use crate::server::{Asked, Server};

/// The most entries of one page.
const LONGEST: usize = 10_000;

pub(super) async fn repositories(
    server: &Server,
    asked: &Asked<'_>,
) -> Result<Response<Body>, ApiError> {
    if asked.who == Identity::Anonymous && !server.auth.is_open() {
        return Err(server
            .auth
            .challenge(&asked.base, Some("registry:catalog:*"), false));
    }
    let all = server.repositories(&asked.who).await?;
    let names = all.iter().map(RepoName::as_str).collect();
    let (page, next) = page(asked, names)?;
    let mut response = json_response(StatusCode::OK, json!({"repositories": page}).to_string());
    link(&mut response, "/v2/_catalog", asked, next);
    Ok(response)
}

pub(super) async fn tags(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
) -> Result<Response<Body>, ApiError> {
    server.require(asked, repo, &[Action::Pull])?;
    let tags = match (
        &server.source,
        server.upstreams.of(repo, asked.query("ns").as_deref()),
    ) {
        (Some(source), _) => source
            .tags(repo)
            .await
            .map_err(|text| ApiError::new(Code::Unknown, text))?
            .ok_or_else(|| ApiError::from(crate::content::ContentError::NameUnknown))?,
        (None, Some(upstream)) => upstream.tags(server).await?,
        (None, None) => server.content.tags(repo).await?,
    };
    let (page, next) = page(asked, tags.iter().map(String::as_str).collect())?;
    let body = json!({"name": repo.as_str(), "tags": page}).to_string();
    let mut response = json_response(StatusCode::OK, body);
    link(&mut response, &format!("/v2/{repo}/tags/list"), asked, next);
    Ok(response)
}

impl Server {
    /// The repositories that somebody is shown.
    pub async fn repositories(&self, who: &Identity) -> Result<Vec<RepoName>, ApiError> {
        let mut all = match &self.source {
            Some(source) => source
                .repositories()
                .await
                .map_err(|text| ApiError::new(Code::Unknown, text))?,
            None => self.content.repositories().await?,
        };
        all.retain(|repo| self.auth.shows(who, repo));
        Ok(all)
    }
}

/// What of a sorted list is wanted, and where the next page begins.
fn page<'a>(
    asked: &Asked<'_>,
    mut names: Vec<&'a str>,
) -> Result<(Vec<&'a str>, Option<&'a str>), ApiError> {
    if let Some(last) = asked.query("last").filter(|last| !last.is_empty()) {
        let from = names.partition_point(|name| *name <= last.as_str());
        names.drain(..from);
    }
    let Some(text) = asked.query("n") else {
        return Ok((names, None));
    };
    let n: usize = text.parse().map_err(|_| {
        ApiError::new(
            Code::PaginationNumberInvalid,
            "invalid number of results requested",
        )
        .with_detail(json!({"n": text}))
    })?;
    let more = names.len() > n.min(LONGEST);
    names.truncate(n.min(LONGEST));
    let next = names.last().copied().filter(|_| more && n > 0);
    Ok((names, next))
}

fn link(response: &mut Response<Body>, path: &str, asked: &Asked<'_>, next: Option<&str>) {
    let Some(last) = next else { return };
    let n = asked.query("n").unwrap_or_default();
    let last = utf8_percent_encode(last, NON_ALPHANUMERIC);
    let text = format!("<{path}?last={last}&n={n}>; rel=\"next\"");
    response.headers_mut().insert(header::LINK, value(&text));
}
