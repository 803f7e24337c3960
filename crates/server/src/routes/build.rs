//! Building images.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use http::{HeaderName, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;
use wharf_api::container::{HostConfig, LogConfig, Ulimit};
use wharf_api::error::Kind;
use wharf_api::progress::Progress;
use wharf_distribution::Credentials;
use wharf_engine::build::{BuildOptions, Space, UploadKind};

use super::Outcome;
use crate::http::body::Chunk;
use crate::http::error::ApiError;
use crate::http::hijack::take_over;
use crate::http::request::Call;
use crate::http::respond;
use crate::http::transfer::{BodyReader, BodyWriter};

/// Credentials for all registries, base64 of a JSON map.
const REGISTRY_CONFIG: HeaderName = HeaderName::from_static("x-registry-config");

/// `POST /build`: lines of what is being done, the last of them an error when it failed. What can be refused at once is.
pub async fn build(call: Call) -> Outcome {
    let options = options(&call);
    let engine = call.engine().clone();
    // Made before anything is refused: it takes what the client has under way.
    let body = BodyReader::new(call.body);
    let options = options?;
    let build = engine.build_prepare(options, body).await?;
    let (send, chunks) = mpsc::channel::<Chunk>(PIECES);
    let (tell, mut told) = mpsc::unbounded_channel::<Progress>();
    // The first line decides whether this is an answer or a refusal: moby sends no status before it has something to say.
    let (first_send, first) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut first_send = Some(first_send);
        let work = engine.build_run(build, move |line| {
            // The other end is gone when the client is.
            let _ = tell.send(line);
        });
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = send.closed() => return,
                line = told.recv() => match line {
                    Some(line) => {
                        begin(&mut first_send, Ok(()));
                        if send.send(Ok(line.to_line().into())).await.is_err() {
                            return;
                        }
                    }
                    None => return,
                },
                done = &mut work => {
                    while let Ok(line) = told.try_recv() {
                        begin(&mut first_send, Ok(()));
                        if send.send(Ok(line.to_line().into())).await.is_err() {
                            return;
                        }
                    }
                    match done {
                        Ok(_) => begin(&mut first_send, Ok(())),
                        Err(failure) if first_send.is_some() => {
                            begin(&mut first_send, Err(failure.error));
                        }
                        Err(failure) => {
                            // The client may be gone.
                            let _ = send.send(Ok(failure.line().to_line().into())).await;
                        }
                    }
                    return;
                }
            }
        }
    });
    match first.await {
        Ok(Ok(())) => Ok(respond::stream("application/json", chunks)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ApiError::new(
            Kind::Internal,
            "the build ended without a word",
        )),
    }
}

/// Pieces under way to the client.
const PIECES: usize = 64;

type Begin = tokio::sync::oneshot::Sender<Result<(), wharf_engine::Error>>;

fn begin(first: &mut Option<Begin>, how: Result<(), wharf_engine::Error>) {
    if let Some(first) = first.take() {
        // The client may be gone.
        let _ = first.send(how);
    }
}

/// `GET /wharf/images/{name}/files`: all files of an image as one tar. An extension.
pub async fn files(call: Call) -> Outcome {
    let name = call.name().to_owned();
    let engine = call.engine().clone();
    // A missing image is a 404, not a broken archive.
    engine.image_inspect_id(&name)?;
    let (mut writer, chunks) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let outcome = engine.image_files(&name, &mut writer).and_then(|()| {
            std::io::Write::flush(&mut writer)
                .map_err(|error| wharf_engine::Error::caused("write archive", error))
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "an image's files ended early");
            writer.abort(std::io::Error::other(error));
        }
    });
    Ok(respond::stream("application/x-tar", chunks))
}

/// `POST /wharf/build/uploads`: what a build to come takes by its ID. An extension, as all below `/wharf`.
pub async fn upload(call: Call) -> Outcome {
    let kind = UploadKind::parse(call.query.get("kind"))?;
    let engine = call.engine().clone();
    let id = engine
        .build_upload(kind, BodyReader::new(call.body))
        .await?;
    Ok(respond::json(StatusCode::CREATED, &json!({ "Id": id })))
}

/// `POST /wharf/build/agents/{token}`: the connection waits until a step of a build wants to speak to the client's SSH agent.
pub async fn agent(call: Call) -> Outcome {
    let token = call.name().to_owned();
    if token.len() < MIN_TOKEN {
        return Err(ApiError::invalid("the token is too short to be a secret"));
    }
    let engine = call.engine().clone();
    take_over(call, wharf_api::stream::RAW, move |client| async move {
        if let Err(error) = engine.build_agent_offer(&token, client.socket) {
            tracing::debug!(%error, "agent of a client");
        }
    })
}

/// Tokens are random; shorter ones could be guessed.
const MIN_TOKEN: usize = 16;

/// `GET /wharf/build/caches`: caches of `RUN --mount=type=cache`.
pub async fn caches(call: Call) -> Outcome {
    let caches = call.engine().build_cache_mounts().await?;
    let list: Vec<_> = caches
        .iter()
        .map(|cache| json!({"ID": cache.id, "Size": cache.size, "LastUsed": cache.used}))
        .collect();
    Ok(respond::json(StatusCode::OK, &list))
}

/// `GET /wharf/build/caches/archive?id=…`: a cache's files as a tar.
pub async fn export_cache(call: Call) -> Outcome {
    let id = call.query.get("id").to_owned();
    let engine = call.engine().clone();
    engine.build_cache_check(&id)?;
    let (mut writer, chunks) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let outcome = engine.build_cache_export(&id, &mut writer).and_then(|()| {
            std::io::Write::flush(&mut writer)
                .map_err(|error| wharf_engine::Error::caused("write archive", error))
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "a cache's files ended early");
            writer.abort(std::io::Error::other(error));
        }
    });
    Ok(respond::stream("application/x-tar", chunks))
}

/// `PUT /wharf/build/caches/archive?id=…`: makes a cache of a tar.
pub async fn import_cache(call: Call) -> Outcome {
    let id = call.query.get("id").to_owned();
    let engine = call.engine().clone();
    engine
        .build_cache_import(&id, BodyReader::new(call.body))
        .await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// `POST /wharf/images/{name}/layout`: the image as an OCI layout in a tar, with what the body says goes along with it.
pub async fn layout(mut call: Call) -> Outcome {
    let dressing = call.json().await?;
    let name = call.name().to_owned();
    let engine = call.engine().clone();
    let layout = blocking({
        let engine = engine.clone();
        move || engine.image_layout(&name, dressing)
    })
    .await?;
    let (mut writer, chunks) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = engine.image_layout_write(&layout, &mut writer) {
            tracing::warn!(%error, "a layout ended early");
            writer.abort(std::io::Error::other(error));
        }
    });
    Ok(respond::stream("application/x-tar", chunks))
}

/// `GET /wharf/images/{name}/sbom`: the packages in an image, as SPDX.
pub async fn sbom(call: Call) -> Outcome {
    let (engine, name) = (call.engine().clone(), call.name().to_owned());
    let document = blocking(move || engine.image_sbom(&name)).await?;
    Ok(respond::json(StatusCode::OK, &document))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, wharf_engine::Error> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| ApiError::new(Kind::Internal, error.to_string()))?;
    Ok(done?)
}

/// `POST /build/cancel`.
pub async fn cancel(call: Call) -> Outcome {
    let id = call.query.get("id");
    if id.is_empty() {
        return Err(ApiError::invalid("build ID not provided"));
    }
    call.engine().build_cancel(id);
    Ok(respond::empty(StatusCode::OK))
}

/// `POST /build/prune`.
pub async fn prune(call: Call) -> Outcome {
    let all = call.query.flag("all");
    let filters = call.filters()?;
    let limit = |name: &str| -> Result<u64, ApiError> {
        let text = call.query.get(name);
        let value = call.query.number(name).map_err(|error| {
            let what = format!("{name} is in bytes and expects an integer, got {text}");
            ApiError::invalid(format!("{what}: {error}"))
        })?;
        Ok(u64::try_from(value.unwrap_or_default()).unwrap_or(0))
    };
    let space = Space {
        reserved: limit("reserved-space")?.max(limit("keep-storage")?),
        max_used: limit("max-used-space")?,
        min_free: limit("min-free-space")?,
    };
    let pruned = call.engine().build_prune(all, space, &filters).await;
    let pruned = pruned.map_err(|error| error.context("failed to prune build cache"))?;
    let body = json!({
        "CachesDeleted": pruned.deleted,
        "SpaceReclaimed": pruned.reclaimed,
    });
    Ok(respond::json(StatusCode::OK, &body))
}

fn options(call: &Call) -> Result<BuildOptions, ApiError> {
    let query = &call.query;
    check_parameters(call)?;
    let labels: Option<BTreeMap<String, String>> =
        json_parameter(call, "labels", "error reading labels")?;
    let arguments: Option<BTreeMap<String, Option<String>>> =
        json_parameter(call, "buildargs", "error reading build args")?;
    let cache_from: Option<Vec<String>> =
        json_parameter(call, "cachefrom", "error reading cache-from")?;
    Ok(BuildOptions {
        tags: query.all("t"),
        dockerfile: query.get("dockerfile").to_owned(),
        remote: query.get("remote").to_owned(),
        arguments: arguments.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        cache_from: cache_from.unwrap_or_default(),
        target: query.get("target").to_owned(),
        platform: query.get("platform").to_owned(),
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        quiet: query.flag("q"),
        remove: query.flag_or("rm", true) || query.flag("forcerm"),
        force_remove: query.flag("forcerm"),
        squash: query.flag("squash"),
        host: host_config(call)?,
        credentials: credentials(call),
        // Older clients do not know it.
        outputs: match call.version.before(40) {
            true => Vec::new(),
            false => {
                json_parameter(call, "outputs", "invalid outputs specified")?.unwrap_or_default()
            }
        },
        extras: json_parameter(call, "wharf", "error reading wharf")?.unwrap_or_default(),
        id: query.get("buildid").to_owned(),
    })
}

/// What moby's `newImageBuildOptions` refuses, and what is not offered.
fn check_parameters(call: &Call) -> Result<(), ApiError> {
    let query = &call.query;
    match query.get("version") {
        "" | "1" => {}
        "2" => {
            return Err(ApiError::new(
                Kind::NotImplemented,
                "builds over a BuildKit session are not supported by this engine yet",
            ));
        }
        other => return Err(ApiError::invalid(format!("invalid version {other:?}"))),
    }
    if !query.all("securityopt").is_empty() {
        return Err(ApiError::invalid(
            "security options are not supported on linux",
        ));
    }
    let isolation = query.get("isolation");
    // Linux knows one (moby `container.Isolation.IsValid` takes the others for Windows, whose daemon alone runs them).
    if !["", "default"].contains(&isolation.to_lowercase().as_str()) {
        return Err(ApiError::invalid(format!(
            "unsupported isolation: {isolation:?}"
        )));
    }
    Ok(())
}

/// What containers of `RUN` get.
fn host_config(call: &Call) -> Result<HostConfig, ApiError> {
    let query = &call.query;
    // What is no number counts as nothing, but for the size of `/dev/shm` (moby `httputils.Int64ValueOrZero`).
    let number = |name: &str| query.number(name).ok().flatten().unwrap_or_default();
    let network = match query.get("networkmode") {
        "" => "default",
        mode => mode,
    };
    let ulimits: Option<Vec<Ulimit>> =
        json_parameter(call, "ulimits", "error reading ulimit settings")?;
    let hosts = query.all("extrahosts");
    Ok(HostConfig {
        network_mode: network.to_owned(),
        memory: number("memory"),
        memory_swap: number("memswap"),
        cpu_shares: number("cpushares"),
        cpu_period: number("cpuperiod"),
        cpu_quota: number("cpuquota"),
        cpuset_cpus: query.get("cpusetcpus").to_owned(),
        cpuset_mems: query.get("cpusetmems").to_owned(),
        cgroup_parent: query.get("cgroupparent").to_owned(),
        shm_size: query.number("shmsize")?.unwrap_or_default(),
        extra_hosts: (!hosts.is_empty()).then_some(hosts),
        ulimits,
        log_config: LogConfig {
            kind: "none".to_owned(),
            ..LogConfig::default()
        },
        ..HostConfig::default()
    })
}

/// `refusal`: what an error begins with.
fn json_parameter<T: DeserializeOwned>(
    call: &Call,
    name: &str,
    refusal: &str,
) -> Result<Option<T>, ApiError> {
    match call.query.get(name) {
        "" => Ok(None),
        text => serde_json::from_str(text)
            .map_err(|error| ApiError::invalid(format!("{refusal}: {error}"))),
    }
}

/// What cannot be read counts as nothing, as Docker has it.
fn credentials(call: &Call) -> HashMap<String, Credentials> {
    let decode = || -> Option<HashMap<String, serde_json::Value>> {
        let text = call.header(&REGISTRY_CONFIG);
        let bytes = base64::engine::general_purpose::URL_SAFE
            .decode(text)
            .ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let mut found = HashMap::new();
    for (registry, value) in decode().unwrap_or_default() {
        let encoded = base64::engine::general_purpose::URL_SAFE.encode(value.to_string());
        if let Ok(credentials) = Credentials::from_header(&encoded) {
            found.insert(registry, credentials);
        }
    }
    found
}
