//! Pages for people: repositories, tags, layers and sizes. Made here, from plain text; no script, nothing from elsewhere.

mod html;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::auth::Identity;
use crate::config::Action;
use crate::config::units::show_size;
use crate::content::manifests::Stored;
use crate::error::{ApiError, Code};
use crate::http::body::Body;
use crate::manifest::Manifest;
use crate::name::{RepoName, Tag, Target};
use crate::server::{Asked, Server};
use html::{Html, escape};

/// Tags of one page.
const TAGS: usize = 200;

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// `/`
    Home,
    /// `/r/<name>`
    Repository(RepoName),
    /// `/r/<name>:<tag>`, `/r/<name>@<digest>`
    Manifest(RepoName, Target),
}

impl Page {
    /// Understands a path, already decoded.
    pub fn parse(path: &str) -> Option<Page> {
        if path == "/" {
            return Some(Page::Home);
        }
        let rest = path.strip_prefix("/r/")?;
        if let Some((name, digest)) = rest.split_once('@') {
            let target = Target::Digest(wharf_spec::digest::Digest::parse(digest).ok()?);
            return Some(Page::Manifest(RepoName::parse(name)?, target));
        }
        if let Some((name, tag)) = rest.split_once(':') {
            return Some(Page::Manifest(
                RepoName::parse(name)?,
                Target::Tag(Tag::parse(tag)?),
            ));
        }
        RepoName::parse(rest).map(Page::Repository)
    }
}

/// Makes a page.
///
/// # Errors
/// There is no such thing, or the one who asks may not see it. Browsers ask for a name and a password then.
pub async fn answer(
    server: &Server,
    asked: &Asked<'_>,
    page: &Page,
) -> Result<Response<Body>, ApiError> {
    if !server.config.web.enabled {
        return Err(crate::routes::not_found());
    }
    let made = match page {
        Page::Home => home(server, asked).await,
        Page::Repository(repo) => repository(server, asked, repo).await,
        Page::Manifest(repo, target) => manifest(server, asked, repo, target).await,
    };
    match made {
        Ok(html) => Ok(respond(StatusCode::OK, html)),
        Err(error) if error.status == StatusCode::UNAUTHORIZED => {
            let mut html = Html::new(&server.config.web.title, "Log in");
            html.push("<p>This registry wants to know who you are.</p>");
            let mut response = respond(StatusCode::UNAUTHORIZED, html);
            let realm = format!(
                "Basic realm=\"{}\"",
                server.config.auth.realm.replace(['"', '\\'], "")
            );
            let value =
                HeaderValue::from_str(&realm).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, value);
            Ok(response)
        }
        Err(error) => {
            let mut html = Html::new(&server.config.web.title, "Not there");
            html.push(&format!(
                "<p class=\"error\">{}</p>",
                escape(&error.message)
            ));
            Ok(respond(error.status, html))
        }
    }
}

fn respond(status: StatusCode, html: Html) -> Response<Body> {
    let mut response = Response::new(Body::full(html.finish()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"),
    );
    response
}

async fn home(server: &Server, asked: &Asked<'_>) -> Result<Html, ApiError> {
    let repos = server.repositories(&asked.who).await?;
    if repos.is_empty() && asked.who == Identity::Anonymous && !server.auth.is_open() {
        return Err(ApiError::new(Code::Unauthorized, "authentication required"));
    }
    let wanted = asked.query("q").unwrap_or_default();
    let mut html = Html::new(&server.config.web.title, "Repositories");
    html.push(&format!(
        "<form><input name=\"q\" value=\"{}\" placeholder=\"part of a name\" aria-label=\"part of a name\"> <button>Find</button></form>",
        escape(&wanted)
    ));
    let shown: Vec<&RepoName> = repos
        .iter()
        .filter(|repo| repo.as_str().contains(&wanted))
        .collect();
    html.push(&format!(
        "<p>{} of {} repositories</p><ul class=\"repositories\">",
        shown.len(),
        repos.len()
    ));
    for repo in shown {
        html.push(&format!("<li><a href=\"/r/{repo}\">{repo}</a></li>"));
    }
    html.push("</ul>");
    Ok(html)
}

async fn repository(server: &Server, asked: &Asked<'_>, repo: &RepoName) -> Result<Html, ApiError> {
    server.require(asked, repo, &[Action::Pull])?;
    let tags = match &server.source {
        Some(source) => source
            .tags(repo)
            .await
            .map_err(|text| ApiError::new(Code::Unknown, text))?
            .ok_or_else(|| ApiError::new(Code::NameUnknown, "There is no such repository."))?,
        None => server.content.tags(repo).await?,
    };
    let mut html = Html::new(&server.config.web.title, repo.as_str());
    if server.source.is_none() {
        let used = server.content.usage(repo).await?;
        html.push(&format!(
            "<p>{} tags, <span class=\"size\">{}</span> in all</p>",
            tags.len(),
            show_size(used)
        ));
    }
    html.push(&format!(
        "<pre>docker pull {}/{repo}</pre>",
        escape(host(asked))
    ));
    html.push("<table class=\"tags\"><thead><tr><th>Tag</th><th>Digest</th><th>Size</th></tr></thead><tbody>");
    let last = asked.query("last").unwrap_or_default();
    let from = tags.partition_point(|tag| tag.as_str() <= last.as_str());
    for name in tags[from..].iter().take(TAGS) {
        let Some(tag) = Tag::parse(name) else {
            continue;
        };
        let Ok(stored) = find(server, repo, &Target::Tag(tag)).await else {
            continue;
        };
        html.push(&format!(
            "<tr><td><a href=\"/r/{repo}:{name}\">{name}</a></td><td><code>{}</code></td><td class=\"size\">{}</td></tr>",
            stored.digest.short(),
            show_size(total(server, repo, &stored).await)
        ));
    }
    html.push("</tbody></table>");
    if let Some(next) = tags
        .get(from..)
        .and_then(|rest| rest.get(TAGS - 1))
        .filter(|_| tags.len() > from + TAGS)
    {
        html.push(&format!(
            "<p><a href=\"/r/{repo}?last={next}\">More</a></p>"
        ));
    }
    Ok(html)
}

fn host<'a>(asked: &'a Asked<'_>) -> &'a str {
    asked.base.split_once("://").map_or("", |(_, host)| host)
}

async fn find(server: &Server, repo: &RepoName, target: &Target) -> Result<Stored, ApiError> {
    match &server.source {
        Some(source) => source
            .manifest(repo, target)
            .await
            .map_err(|text| ApiError::new(Code::Unknown, text))?
            .ok_or_else(|| ApiError::new(Code::ManifestUnknown, "There is no such manifest.")),
        None => Ok(server.content.manifest(repo, target).await?),
    }
}

/// Config and layers; of an index, those of its images.
async fn total(server: &Server, repo: &RepoName, stored: &Stored) -> u64 {
    let Ok(manifest) = Manifest::parse(&stored.bytes, &stored.media_type) else {
        return 0;
    };
    let mut sum: u64 = own_size(&manifest);
    for child in &manifest.manifests {
        let target = Target::Digest(child.digest.clone());
        if let Ok(stored) = find(server, repo, &target).await
            && let Ok(child) = Manifest::parse(&stored.bytes, &stored.media_type)
        {
            sum += own_size(&child);
        }
    }
    sum
}

fn own_size(manifest: &Manifest) -> u64 {
    manifest
        .config
        .iter()
        .chain(&manifest.layers)
        .map(|part| part.size)
        .sum()
}

async fn manifest(
    server: &Server,
    asked: &Asked<'_>,
    repo: &RepoName,
    target: &Target,
) -> Result<Html, ApiError> {
    server.require(asked, repo, &[Action::Pull])?;
    let stored = find(server, repo, target).await?;
    let parsed = Manifest::parse(&stored.bytes, &stored.media_type)
        .map_err(|error| ApiError::new(Code::ManifestInvalid, error.to_string()))?;
    let separator = if matches!(target, Target::Tag(_)) {
        ':'
    } else {
        '@'
    };
    let mut html = Html::new(
        &server.config.web.title,
        &format!("{repo}{separator}{target}"),
    );
    html.push(&format!("<p><a href=\"/r/{repo}\">{repo}</a></p>"));
    html.push(&format!(
        "<pre>docker pull {}/{repo}{separator}{target}</pre>",
        escape(host(asked))
    ));
    html.push(&format!(
        "<dl><dt>Digest</dt><dd><code class=\"digest\">{}</code></dd><dt>Type</dt><dd>{}</dd><dt>Size</dt><dd class=\"size\">{}</dd></dl>",
        stored.digest,
        escape(&parsed.media_type),
        show_size(total(server, repo, &stored).await)
    ));
    if let Some(config) = &parsed.config {
        about_config(server, repo, config, &mut html).await;
    }
    if !parsed.layers.is_empty() {
        html.push("<h2>Layers</h2><table class=\"layers\"><thead><tr><th>Digest</th><th>Type</th><th>Size</th></tr></thead><tbody>");
        for layer in &parsed.layers {
            let kind = layer.media_type.rsplit('.').next().unwrap_or_default();
            html.push(&format!(
                "<tr><td><code>{}</code></td><td>{}</td><td class=\"size\">{}</td></tr>",
                layer.digest,
                escape(kind),
                show_size(layer.size)
            ));
        }
        html.push("</tbody></table>");
    }
    if !parsed.manifests.is_empty() {
        html.push("<h2>Images</h2><table class=\"images\"><thead><tr><th>Platform</th><th>Manifest</th></tr></thead><tbody>");
        for child in &parsed.manifests {
            html.push(&format!(
                "<tr><td>{}</td><td><a href=\"/r/{repo}@{}\"><code>{}</code></a></td></tr>",
                escape(&platform(child.platform.as_ref())),
                child.digest,
                child.digest
            ));
        }
        html.push("</tbody></table>");
    }
    if server.source.is_none() {
        referrers(server, repo, &stored, &mut html).await?;
    }
    Ok(html)
}

async fn referrers(
    server: &Server,
    repo: &RepoName,
    stored: &Stored,
    html: &mut Html,
) -> Result<(), ApiError> {
    let referrers = server.content.referrers(repo, &stored.digest).await?;
    if referrers.is_empty() {
        return Ok(());
    }
    html.push("<h2>Referrers</h2><ul class=\"referrers\">");
    for one in referrers {
        let digest = one["digest"].as_str().unwrap_or_default();
        let kind = one["artifactType"].as_str().unwrap_or("index");
        html.push(&format!(
            "<li><a href=\"/r/{repo}@{0}\"><code>{0}</code></a> {1}</li>",
            escape(digest),
            escape(kind)
        ));
    }
    html.push("</ul>");
    Ok(())
}

fn platform(platform: Option<&Value>) -> String {
    let text = |name: &str| {
        platform
            .and_then(|platform| platform[name].as_str())
            .unwrap_or_default()
    };
    let variant = text("variant");
    let slash = if variant.is_empty() { "" } else { "/" };
    format!("{}/{}{slash}{variant}", text("os"), text("architecture"))
}

/// What an image's config says, where it is one and is not too large.
async fn about_config(
    server: &Server,
    repo: &RepoName,
    config: &crate::manifest::Descriptor,
    html: &mut Html,
) {
    if server.source.is_some() || config.size > (1 << 20) || !config.media_type.ends_with("json") {
        return;
    }
    let linked = server
        .content
        .links_blob(repo, &config.digest)
        .await
        .unwrap_or(false);
    let key = crate::storage::keys::blob(&config.digest);
    let Some(bytes) = (if linked {
        server.content.storage().get(&key).await.ok().flatten()
    } else {
        None
    }) else {
        return;
    };
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
        return;
    };
    html.push("<dl>");
    html.push(&format!(
        "<dt>Platform</dt><dd>{}</dd>",
        escape(&platform(Some(&value)))
    ));
    if let Some(created) = value["created"].as_str() {
        html.push(&format!("<dt>Created</dt><dd>{}</dd>", escape(created)));
    }
    for (title, name) in [("Entrypoint", "Entrypoint"), ("Command", "Cmd")] {
        let words: Vec<&str> = value["config"][name]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !words.is_empty() {
            html.push(&format!(
                "<dt>{title}</dt><dd><code>{}</code></dd>",
                escape(&words.join(" "))
            ));
        }
    }
    html.push("</dl>");
    let history = value["history"].as_array().cloned().unwrap_or_default();
    if !history.is_empty() {
        html.push("<h2>History</h2><ol class=\"history\">");
        for step in history {
            html.push(&format!(
                "<li><code>{}</code></li>",
                escape(step["created_by"].as_str().unwrap_or_default())
            ));
        }
        html.push("</ol>");
    }
}
