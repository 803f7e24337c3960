//! Images from and to registries.

use std::future::Future;

use http::{HeaderName, StatusCode};
use tokio::sync::mpsc;
use wharf_api::progress::Progress;
use wharf_distribution::Credentials;
use wharf_engine::images::pull::PullRequest;
use wharf_engine::images::push::PushRequest;

use super::Outcome;
use crate::http::error::ApiError;
use crate::http::platform;
use crate::http::request::Call;
use crate::http::respond;

/// Lines under way between the engine and the client.
const DEPTH: usize = 64;

/// Whom a client acts for: base64url of JSON.
const AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

/// `POST /images/create` with `fromImage`.
pub async fn pull(call: Call) -> Outcome {
    let platform = if call.version.before(32) {
        ""
    } else {
        call.query.get("platform")
    };
    let request = PullRequest::parse(
        call.query.get("fromImage"),
        call.query.get("tag"),
        platform,
        credentials(&call),
    )?;
    let engine = call.engine().clone();
    narrated(move |sink| async move { engine.image_pull(request, sink).await }).await
}

/// `POST /images/{name}/push`.
pub async fn push(call: Call) -> Outcome {
    let platform = platform::wanted(&call, 46)?;
    let request = PushRequest::parse(
        call.name(),
        call.query.get("tag"),
        &platform,
        credentials(&call),
    )?;
    let engine = call.engine().clone();
    let dressing = match call.query.get("wharf") {
        "" => {
            return narrated(move |sink| async move { engine.image_push(request, sink).await })
                .await;
        }
        text => serde_json::from_str(text)
            .map_err(|error| ApiError::invalid(format!("error reading wharf: {error}")))?,
    };
    narrated(move |sink| async move { engine.image_push_dressed(request, dressing, sink).await })
        .await
}

/// `POST /wharf/build/caches/push?ref=…&image=…`: images of steps as the cache of builds elsewhere. An extension.
pub async fn push_cache(call: Call) -> Outcome {
    let request = PushRequest::parse(call.query.get("ref"), "", "", credentials(&call))?;
    let images = call.query.all("image");
    if images.is_empty() {
        return Err(ApiError::invalid("no images to push as a cache"));
    }
    let engine = call.engine().clone();
    narrated(move |sink| async move { engine.image_push_cache(request, images, sink).await }).await
}

/// `POST /auth`.
pub async fn login(mut call: Call) -> Outcome {
    let given: Credentials = call.json().await?;
    let token = call
        .engine()
        .registry_login(&given.with_auth_split())
        .await?;
    Ok(respond::ok(&serde_json::json!({
        "IdentityToken": token,
        "Status": "Login Succeeded",
    })))
}

/// `GET /images/search`.
pub async fn search(call: Call) -> Outcome {
    let invalid = || {
        ApiError::invalid(format!(
            "invalid limit specified: {:?}",
            call.query.get("limit")
        ))
    };
    let limit = call.query.number("limit").map_err(|_| invalid())?;
    if limit.is_some_and(|limit| limit < 0) {
        return Err(invalid());
    }
    let results = call
        .engine()
        .image_search(
            call.query.get("term"),
            limit,
            &call.filters()?,
            &credentials(&call),
        )
        .await?;
    Ok(respond::ok(&results))
}

/// `GET /distribution/{name}/json`.
pub async fn inspect(call: Call) -> Outcome {
    let inspected = call
        .engine()
        .distribution_inspect(call.name(), &credentials(&call))
        .await?;
    Ok(respond::ok(&inspected))
}

/// The credentials in the header. As in Docker, those that cannot be read are none.
fn credentials(call: &Call) -> Credentials {
    Credentials::from_header(call.header(&AUTH)).unwrap_or_default()
}

/// Answers with the lines of `work`. If it fails before the first, the failure is the answer; later it is the last line. A client that
/// goes away ends the work.
async fn narrated<F>(work: impl FnOnce(mpsc::Sender<Progress>) -> F) -> Outcome
where
    F: Future<Output = Result<(), wharf_engine::Error>> + Send + 'static,
{
    let (sink, mut lines) = mpsc::channel(DEPTH);
    let (send, chunks) = mpsc::channel(DEPTH);
    let mut work = Box::pin(work(sink));
    let first = tokio::select! {
        biased;
        line = lines.recv() => line,
        outcome = &mut work => match (outcome, lines.try_recv()) {
            (Err(error), Err(_)) => return Err(error.into()),
            (Ok(()), Err(_)) => return Ok(respond::empty(StatusCode::OK)),
            (outcome, Ok(line)) => {
                // All is said already; it only has to be passed on.
                let rest = std::iter::from_fn(|| lines.try_recv().ok());
                let mut text: Vec<u8> = [line].into_iter().chain(rest).flat_map(|line| line.to_line()).collect();
                if let Err(error) = outcome {
                    text.extend(Progress::error(error.to_string()).to_line());
                }
                return Ok(respond::bytes(StatusCode::OK, respond::JSON, text.into()));
            }
        },
    };
    let Some(first) = first else {
        work.await.map_err(ApiError::from)?;
        return Ok(respond::empty(StatusCode::OK));
    };
    tokio::spawn(async move {
        let told = async {
            let mut next = Some(first);
            while let Some(line) = next {
                if send.send(Ok(line.to_line().into())).await.is_err() {
                    return;
                }
                next = lines.recv().await;
            }
        };
        // The lines end when the work does, for it holds their sender.
        let working = async {
            tokio::select! {
                outcome = work => Some(outcome),
                () = send.closed() => None,
            }
        };
        let (outcome, ()) = tokio::join!(working, told);
        if let Some(Err(error)) = outcome {
            let _ = send
                .send(Ok(Progress::error(error.to_string()).to_line().into()))
                .await;
        }
    });
    Ok(respond::stream("application/json", chunks))
}
