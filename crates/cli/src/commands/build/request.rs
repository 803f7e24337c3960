//! The query of `POST /build`.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::json;

use super::agents::Agents;
use super::context::Source;
use super::{cache, uploads};
use crate::client::request::Request;
use crate::credentials;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::request::{address, keys_values, resources};
use crate::session::Session;
use crate::text::size::parse_binary;

/// Everything that goes into the request; what has to be sent ahead is.
pub(super) fn make<'a>(
    session: &Session,
    matches: &Matches,
    source: &Source,
    names: &[String],
    agents: &Agents,
) -> Result<Request<'a>, Failure> {
    let on = |name: &str| if matches.on(name) { "1" } else { "" };
    let bytes = |name: &str| -> Result<i64, Failure> {
        let text = matches.text_or_empty(name);
        match text {
            "" => Ok(0),
            "-1" => Ok(-1),
            text => parse_binary(text).map_err(Failure::new),
        }
    };
    let number = |name: &str| matches.int(name).unwrap_or_default();
    let mut request = Request::post("/build");
    for name in names {
        request = request.query("t", name);
    }
    for (name, value) in [
        ("q", if quiet(matches) { "1" } else { "" }),
        ("nocache", on("no-cache")),
        ("forcerm", on("force-rm")),
        ("pull", on("pull")),
        ("squash", on("squash")),
        ("dockerfile", source.dockerfile.as_str()),
        ("remote", source.remote.as_str()),
        ("target", matches.text_or_empty("target")),
        ("networkmode", matches.text_or_empty("network")),
        ("platform", matches.text_or_empty("platform")),
        ("cgroupparent", matches.text_or_empty("cgroup-parent")),
        ("cpusetcpus", matches.text_or_empty("cpuset-cpus")),
        ("cpusetmems", matches.text_or_empty("cpuset-mems")),
    ] {
        request = request.query_if(!value.is_empty(), name, value);
    }
    request = request.query("rm", if matches.on_or("rm", true) { "1" } else { "0" });
    for (name, value) in [
        ("memory", bytes("memory")?),
        ("memswap", bytes("memory-swap")?),
        ("shmsize", bytes("shm-size")?),
        ("cpushares", number("cpu-shares")),
        ("cpuperiod", number("cpu-period")),
        ("cpuquota", number("cpu-quota")),
    ] {
        request = request.query_if(value != 0, name, value.to_string());
    }
    for host in matches.list("add-host") {
        request = request.query(
            "extrahosts",
            address::extra_host(host).map_err(Failure::new)?,
        );
    }
    let arguments = arguments(session, matches.list("build-arg"));
    request = request.query_if(
        !arguments.is_empty(),
        "buildargs",
        json!(arguments).to_string(),
    );
    let labels = keys_values::labels(&[], matches.list("label")).map_err(Failure::new)?;
    request = request.query_if(!labels.is_empty(), "labels", json!(labels).to_string());
    let cache = cache::From::read(session, matches.list("cache-from"))?;
    request = request.query_if(
        !cache.here.is_empty(),
        "cachefrom",
        json!(cache.here).to_string(),
    );
    let ulimits: Vec<_> = matches
        .list("ulimit")
        .iter()
        .map(|text| resources::parse_ulimit(text))
        .collect::<Result<_, _>>()
        .map_err(Failure::new)?;
    request = request.query_if(!ulimits.is_empty(), "ulimits", json!(ulimits).to_string());
    let credentials = credentials::all(session);
    if !credentials.is_empty() {
        let encoded =
            base64::engine::general_purpose::URL_SAFE.encode(json!(credentials).to_string());
        request = request.header("X-Registry-Config", encoded);
    }
    let mut contexts = BTreeMap::new();
    for text in matches.list("build-context") {
        let (name, value) = uploads::named_context(session, text)?;
        contexts.insert(name, value);
    }
    let mut allow = matches.list("allow").to_vec();
    if matches.text_or_empty("network") == "host" {
        allow.push("network.host".to_owned());
    }
    let extras = json!({
        "contexts": contexts,
        "allow": allow,
        "secrets": uploads::secrets(session, matches.list("secret"))?,
        "agents": agents.tokens,
        "cacheFrom": cache.others,
        "noCacheFilter": matches.list("no-cache-filter").iter().flat_map(|text| text.split(',')).collect::<Vec<_>>(),
        "facts": true,
    });
    Ok(request.query("wharf", extras.to_string()))
}

pub(super) fn quiet(matches: &Matches) -> bool {
    matches.on("quiet") || matches.text_or_empty("progress") == "quiet"
}

/// A name alone takes its value from the environment, and is nothing if it is not there.
/// Proxies of the client's configuration, and `SOURCE_DATE_EPOCH` of the environment, count unless they are given.
pub(super) fn arguments(session: &Session, given: &[String]) -> BTreeMap<String, Option<String>> {
    let endpoint = session.client.endpoint().to_string();
    let proxies = session.config().proxy_env(&endpoint);
    let mut all: BTreeMap<String, Option<String>> = proxies
        .into_iter()
        .map(|(name, value)| (name, Some(value)))
        .collect();
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        all.insert("SOURCE_DATE_EPOCH".to_owned(), Some(epoch));
    }
    let given = given.iter().map(|entry| match entry.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (entry.clone(), std::env::var(entry).ok()),
    });
    all.extend(given);
    all
}
