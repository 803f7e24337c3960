//! `POST /containers/{name}/attach`: the client's connection becomes the container's streams.

use wharf_api::stream;
use wharf_engine::container::attach::AttachOptions;

use super::Outcome;
use crate::http::hijack::take_over;
use crate::http::request::Call;

/// Attaches. Everything that can be refused is refused before the connection changes hands.
pub async fn attach(call: Call) -> Outcome {
    let query = AttachOptions {
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        detach_keys: Some(call.query.get("detachKeys").to_owned()).filter(|keys| !keys.is_empty()),
    };
    let attachment = call.engine().container_attach(call.name(), query).await?;
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
