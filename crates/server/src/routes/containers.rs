//! Containers: one handler per request, each decoding, calling the engine once, encoding.

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use tokio::sync::mpsc;
use wharf_api::container::UpdateRequest;
use wharf_api::version::ApiVersion;
use wharf_api::{gojson, stream, time};
use wharf_engine::container::list::ListOptions;
use wharf_engine::container::remove::Removal;
use wharf_engine::container::stats::StatsOptions;
use wharf_engine::container::stop::StopOptions;
use wharf_engine::container::wait::Condition;
use wharf_engine::logs;

use super::Outcome;
use crate::http::body::Chunk;
use crate::http::error::ApiError;
use crate::http::request::Call;
use crate::http::respond;
use crate::http::transfer;

/// `GET /containers/json`.
pub async fn list(call: Call) -> Outcome {
    let limit = call
        .query
        .number("limit")?
        .and_then(|limit| usize::try_from(limit).ok());
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: limit.filter(|limit| *limit > 0),
        size: call.query.flag("size"),
        filters: call.filters()?,
    };
    let mut containers = call.engine().container_list(options).await?;
    if call.version.before(46) {
        containers
            .iter_mut()
            .for_each(|container| container.host_config.annotations.clear());
    }
    Ok(respond::ok(&containers))
}

/// `GET /containers/{name}/json`.
pub async fn inspect(call: Call) -> Outcome {
    let mut container = call
        .engine()
        .container_inspect(call.name(), call.query.flag("size"))
        .await?;
    if call.version.before(45) {
        add_old_aliases(&mut container);
    }
    Ok(respond::ok(&container))
}

/// Up to 1.44 aliases held the short id and the host name too.
fn add_old_aliases(container: &mut wharf_api::container::ContainerInspect) {
    let short_id: String = container.id.chars().take(12).collect();
    for (name, endpoint) in &mut container.network_settings.networks {
        if matches!(name.as_str(), "default" | "bridge" | "host" | "none")
            || name.starts_with("container:")
        {
            continue;
        }
        let aliases = endpoint.aliases.get_or_insert_default();
        for alias in [&short_id, &container.config.hostname] {
            if !aliases.contains(alias) {
                aliases.push(alias.clone());
            }
        }
    }
}

/// `GET /containers/{name}/top`.
pub async fn top(call: Call) -> Outcome {
    Ok(respond::ok(
        &call
            .engine()
            .container_top(call.name(), call.query.get("ps_args"))
            .await?,
    ))
}

/// `GET /containers/{name}/changes`.
pub async fn changes(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().container_changes(call.name()).await?,
    ))
}

/// `GET /containers/{name}/export`.
pub async fn export(call: Call) -> Outcome {
    let export = call.engine().container_export(call.name()).await?;
    let chunks = transfer::in_pieces(move |send| export.write(send));
    Ok(respond::stream("application/octet-stream", chunks))
}

/// `POST /containers/{name}/start`.
pub async fn start(call: Call) -> Outcome {
    // moby counts a JSON object as at least 8 bytes; shorter bodies come from old clients and mean nothing.
    let length: Option<u64> = call.header(&CONTENT_LENGTH).parse().ok();
    if !call.body_is_empty() && length.is_none_or(|length| length > 7) {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if !call.query.get("checkpoint").is_empty() {
        return Err(ApiError::invalid(
            "checkpoint is only supported in experimental mode",
        ));
    }
    call.engine().container_start(call.name()).await?;
    Ok(respond::no_content())
}

/// `POST /containers/{name}/stop`.
pub async fn stop(call: Call) -> Outcome {
    call.engine()
        .container_stop(call.name(), stop_options(&call)?)
        .await?;
    Ok(respond::no_content())
}

/// `POST /containers/{name}/restart`.
pub async fn restart(call: Call) -> Outcome {
    call.engine()
        .container_restart(call.name(), stop_options(&call)?)
        .await?;
    Ok(respond::no_content())
}

/// How to stop; a signal can be chosen since 1.42.
fn stop_options(call: &Call) -> Result<StopOptions, ApiError> {
    let signal = call.query.get("signal");
    let chosen = !call.version.before(42) && !signal.is_empty();
    Ok(StopOptions {
        signal: chosen.then(|| signal.to_owned()),
        timeout: call.query.number("t")?,
    })
}

/// `POST /containers/{name}/kill`.
pub async fn kill(call: Call) -> Outcome {
    call.engine()
        .container_kill(call.name(), call.query.get("signal"))
        .await
        .map_err(|error| {
            let refusal = ApiError::from(error);
            let context = format!("cannot kill container: {}: ", call.name());
            match refusal.message.starts_with(&context) {
                true => refusal,
                false => ApiError::new(refusal.kind, format!("{context}{}", refusal.message)),
            }
        })?;
    Ok(respond::no_content())
}

/// `POST /containers/{name}/pause`.
pub async fn pause(call: Call) -> Outcome {
    call.engine().container_pause(call.name()).await?;
    Ok(respond::no_content())
}

/// `POST /containers/{name}/unpause`.
pub async fn unpause(call: Call) -> Outcome {
    call.engine().container_unpause(call.name()).await?;
    Ok(respond::no_content())
}

/// `POST /containers/{name}/rename`.
pub async fn rename(call: Call) -> Outcome {
    call.engine()
        .container_rename(call.name(), call.query.get("name"))
        .await?;
    Ok(respond::no_content())
}

/// `POST /containers/{name}/resize`.
pub async fn resize(call: Call) -> Outcome {
    let (rows, columns) = (
        call.query.dimension("h", "height")?,
        call.query.dimension("w", "width")?,
    );
    call.engine()
        .container_resize(call.name(), rows, columns)
        .await?;
    Ok(respond::empty(StatusCode::OK))
}

/// `DELETE /containers/{name}`.
pub async fn remove(call: Call) -> Outcome {
    let query = &call.query;
    let removal = Removal {
        force: query.flag("force"),
        volumes: query.flag("v"),
        link: query.flag("link"),
    };
    call.engine().container_remove(call.name(), removal).await?;
    Ok(respond::no_content())
}

/// `POST /containers/prune`.
pub async fn prune(call: Call) -> Outcome {
    Ok(respond::ok(
        &call.engine().container_prune(call.filters()?).await?,
    ))
}

/// `POST /containers/{name}/update`.
pub async fn update(mut call: Call) -> Outcome {
    let mut request: UpdateRequest = call.json().await?;
    age_update(&mut request, call.version);
    Ok(respond::ok(
        &call.engine().container_update(call.name(), request).await?,
    ))
}

/// Drops what `version` did not have; 0 and negative numbers of processes mean "no limit".
fn age_update(request: &mut UpdateRequest, version: ApiVersion) {
    let host = &mut request.0;
    host.pids_limit = host
        .pids_limit
        .filter(|_| !version.before(40))
        .map(|limit| limit.max(0));
    // Limits per block device, which Docker takes from 1.55 on only, are taken from everybody: nobody sends them in vain.
}

/// `POST /containers/{name}/wait`: the head goes out once the wait is registered, the body when it is over.
pub async fn wait(call: Call) -> Outcome {
    let old = call.version.before(30);
    let condition = if old {
        Condition::NotRunning
    } else {
        Condition::parse(call.query.get("condition"))?
    };
    let wait = call.engine().container_wait(call.name(), condition).await?;
    if old {
        return Ok(respond::ok(&wait.finish().await));
    }
    let (send, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        let answer = tokio::select! {
            answer = wait.finish() => answer,
            () = send.closed() => return,
        };
        // The client may be gone by now.
        let _ = send.send(Ok(gojson::to_line(&answer).into())).await;
    });
    Ok(respond::stream("application/json", chunks))
}

/// `DELETE /containers/{name}/logs`: an extension.
pub async fn clear_logs(call: Call) -> Outcome {
    call.engine().container_clear_logs(call.name()).await?;
    Ok(respond::no_content())
}

/// `GET /containers/{name}/logs`.
pub async fn logs(call: Call) -> Outcome {
    let request = logs_request(&call)?;
    let log = call.engine().container_logs(call.name(), request).await?;
    let content_type = if log.raw || call.version.before(42) {
        stream::RAW
    } else {
        stream::MULTIPLEXED
    };
    Ok(respond::stream(content_type, forward_logs(log.batches)))
}

/// What the parameters ask for.
fn logs_request(call: &Call) -> Result<logs::Request, ApiError> {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let moment = |name| {
        time::parse_unix(query.get(name))
            .map_err(|e| ApiError::invalid(format!("invalid value for {name:?}: {e}")))
    };
    Ok(logs::Request {
        follow: query.flag("follow"),
        stdout,
        stderr,
        since: moment("since")?,
        until: moment("until")?.filter(|until| *until != 0),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        // Everything that is no number means all lines.
        tail: query.get("tail").parse().ok(),
    })
}

/// Passes batches on. An error in the middle goes to the client in a frame of its own, as moby does.
fn forward_logs(mut batches: logs::Batches) -> mpsc::Receiver<Chunk> {
    let (send, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                () = send.closed() => return,
            };
            let chunk = match batch {
                None => return,
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => error_frame(&wharf_engine::error::chain(&error)),
            };
            if send.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
    });
    chunks
}

fn error_frame(message: &str) -> Bytes {
    let text = format!("Error grabbing logs: {message}\n");
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut frame = stream::encode_header(stream::Stream::SystemError, length).to_vec();
    frame.extend_from_slice(text.as_bytes());
    frame.into()
}

/// `GET /containers/{name}/stats`.
pub async fn stats(call: Call) -> Outcome {
    let stream = call.query.flag_or("stream", true);
    let one_shot = !call.version.before(41) && call.query.flag("one-shot");
    if stream && one_shot {
        return Err(ApiError::invalid(
            "cannot have stream=true and one-shot=true",
        ));
    }
    let mut samples = call
        .engine()
        .container_stats(call.name(), StatsOptions { stream, one_shot })
        .await?;
    let (send, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let sample = tokio::select! {
                sample = samples.recv() => sample,
                () = send.closed() => return,
            };
            let Some(sample) = sample else { return };
            if send
                .send(Ok(gojson::to_line(&sample).into()))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    Ok(respond::stream("application/json", chunks))
}
