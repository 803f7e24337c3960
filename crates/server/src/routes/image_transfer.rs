//! Images in and out: load, import, save. Bodies stream through blocking code.

use std::io::Write;

use http::StatusCode;
use tokio::sync::mpsc;
use wharf_api::error::Kind;
use wharf_api::progress::Progress;

use super::Outcome;
use crate::http::body::Chunk;
use crate::http::error::ApiError;
use crate::http::platform;
use crate::http::request::Call;
use crate::http::respond;
use crate::http::transfer::{BodyReader, BodyWriter};

/// Progress lines under way.
const PROGRESS_DEPTH: usize = 64;

/// `POST /images/load`: progress lines, the last of them an error when it failed.
pub async fn load(call: Call) -> Outcome {
    let quiet = call.query.flag_or("quiet", true);
    let platform = platform::wanted(&call, 48)?;
    let engine = call.engine().clone();
    let (send, chunks) = mpsc::channel(PROGRESS_DEPTH);
    let archive = BodyReader::new(call.body);
    tokio::spawn(async move {
        let outcome = engine
            .image_load_platform(archive, quiet, &platform, progress_sink(send.clone()))
            .await;
        finish(outcome, &send).await;
    });
    Ok(respond::stream("application/json", chunks))
}

/// `POST /images/create`: import with `fromSrc`, pull with `fromImage`.
pub async fn create(call: Call) -> Outcome {
    let source = call.query.get("fromSrc");
    if !call.query.get("fromImage").is_empty() {
        return super::registry::pull(call).await;
    }
    if source != "-" {
        return Err(ApiError::new(
            Kind::NotImplemented,
            "import from a URL is not supported by this engine yet",
        ));
    }
    let repo = call.query.get("repo").to_owned();
    let tag = call.query.get("tag").to_owned();
    let message = match call.query.get("message") {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    let changes = call.query.all("changes");
    let platform = call.query.get("platform").to_owned();
    let engine = call.engine().clone();
    let archive = BodyReader::new(call.body);
    let id = engine
        .image_import(archive, &repo, &tag, &message, changes, &platform)
        .await?;
    let line = Progress {
        status: id,
        ..Progress::default()
    };
    Ok(respond::bytes(
        StatusCode::OK,
        respond::JSON,
        line.to_line().into(),
    ))
}

/// `GET /images/{name}/get`.
pub async fn save_one(call: Call) -> Outcome {
    let names = vec![call.name().to_owned()];
    save(call, names).await
}

/// `GET /images/get`.
pub async fn save_many(call: Call) -> Outcome {
    let names = call.query.all("names");
    save(call, names).await
}

async fn save(call: Call, names: Vec<String>) -> Outcome {
    // A missing image is a 404, not a broken archive.
    let platform = platform::wanted(&call, 48)?;
    let plan = call
        .engine()
        .image_save_plan_platform(&names, &platform)
        .await?;
    let (mut writer, chunks) = BodyWriter::new();
    let engine = call.engine().clone();
    tokio::task::spawn_blocking(move || {
        let outcome = engine.image_save(plan, &mut writer).and_then(|()| {
            writer
                .flush()
                .map_err(|e| wharf_engine::Error::caused("write archive", e))
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "image save ended early");
            writer.abort(std::io::Error::other(error));
        }
    });
    Ok(respond::stream("application/x-tar", chunks))
}

/// A sink that blocking code can call. Progress is dropped rather than waited for when the client is slow to read;
/// what must arrive is sent by [`finish`].
fn progress_sink(send: mpsc::Sender<Chunk>) -> impl Fn(Progress) + Send + Sync + 'static {
    move |line| {
        // Nobody listens any more: the work goes on or ends by its own reading of the body.
        let _ = send.blocking_send(Ok(line.to_line().into()));
    }
}

/// Ends a stream of progress.
async fn finish(outcome: Result<(), wharf_engine::Error>, send: &mpsc::Sender<Chunk>) {
    if let Err(error) = outcome {
        // The client may be gone.
        let _ = send
            .send(Ok(Progress::error(error.to_string()).to_line().into()))
            .await;
    }
}
