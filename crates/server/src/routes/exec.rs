//! Execs: a further process in a running container.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use http::StatusCode;
use wharf_api::container::{ExecCreateRequest, ExecStartRequest, IdResponse};
use wharf_api::stream;

use super::Outcome;
use crate::http::error::ApiError;
use crate::http::hijack::take_over;
use crate::http::request::Call;
use crate::http::respond;

/// `POST /containers/{name}/exec`.
pub async fn create(mut call: Call) -> Outcome {
    let mut request: ExecCreateRequest = call.json().await?;
    if request.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    if call.version.before(42) {
        request.console_size = None;
    }
    let id = call.engine().exec_create(call.name(), request).await?;
    Ok(respond::json(StatusCode::CREATED, &IdResponse { id }))
}

/// `GET /exec/{id}/json`.
pub async fn inspect(call: Call) -> Outcome {
    Ok(respond::ok(&call.engine().exec_inspect(call.name()).await?))
}

/// `POST /exec/{id}/resize`.
pub async fn resize(call: Call) -> Outcome {
    let (rows, columns) = (
        call.query.dimension("h", "height")?,
        call.query.dimension("w", "width")?,
    );
    call.engine()
        .exec_resize(call.name(), rows, columns)
        .await?;
    Ok(respond::empty(StatusCode::OK))
}

/// `POST /exec/{id}/start`.
pub async fn start(mut call: Call) -> Outcome {
    let mut request: ExecStartRequest = call.json().await?;
    if call.version.before(42) || !request.tty {
        request.console_size = None;
    }
    // What can be refused with a status is refused before the connection changes hands.
    let prepared = call.engine().exec_prepare(call.name(), &request).await?;
    if request.detach {
        call.engine().exec_start(prepared, None).await?;
        return Ok(respond::empty(StatusCode::OK));
    }
    let raw = prepared.is_raw();
    let content_type = if raw || call.version.before(42) {
        stream::RAW
    } else {
        stream::MULTIPLEXED
    };
    let engine = call.engine().clone();
    take_over(call, content_type, move |client| async move {
        let spare = client.socket.try_clone();
        if let Err(error) = engine
            .exec_start(prepared, Some((client.socket, client.early_input)))
            .await
        {
            tracing::debug!(%error, "exec failed after the connection was taken over");
            if let Ok(spare) = spare {
                tell(spare, raw, &error.to_string());
            }
        }
    })
}

/// Writes why nothing runs where the process's output was to appear, as moby does. Best effort: the client may be gone.
fn tell(socket: OwnedFd, raw: bool, message: &str) {
    let mut text = format!("{message}\r\n").into_bytes();
    if !raw {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        text.splice(0..0, stream::encode_header(stream::Stream::Stdout, length));
    }
    // A stream socket of any family; the standard library needs one name for it. A message this short fits its buffer.
    let _ = UnixStream::from(socket).write_all(&text);
}
