//! `POST /containers/{name}/attach`: the client's connection becomes the container's streams.

use wharf_api::stream;
use wharf_engine::container::attach::AttachOptions;

use super::Outcome;
use crate::http::hijack::take_over;
use crate::http::request::Call;

/// Attaches. Everything that can be refused is refused before the connection changes hands.
pub async fn attach(call: Call) -> Outcome {
    let attachment = call
        .engine()
        .container_attach(call.name(), attach_options(&call))
        .await?;
    let content_type = if attachment.is_raw() || call.version.before(42) {
        stream::RAW
    } else {
        stream::MULTIPLEXED
    };
    let engine = call.engine().clone();
    take_over(call, content_type, move |client| async move {
        if let Err(error) = engine
            .attach_client(attachment, client.socket, client.early_input)
            .await
        {
            tracing::debug!(%error, "attach failed after the connection was taken over");
        }
    })
}

/// What the parameters ask for.
pub(super) fn attach_options(call: &Call) -> AttachOptions {
    let query = &call.query;
    AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        detach_keys: Some(query.get("detachKeys").to_owned()).filter(|keys| !keys.is_empty()),
    }
}
