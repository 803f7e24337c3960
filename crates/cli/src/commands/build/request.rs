//! The query of `POST /build`.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::json;

use super::context::Source;
use super::secret;
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::request::{address, keys_values, resources};
use crate::text::size::parse_binary;

pub(super) fn make<'a>(matches: &Matches, source: &Source) -> Result<Request<'a>, Failure> {
    for (flag, what) in [
        ("ssh", "forwarding SSH agents"),
        ("build-context", "named contexts"),
    ] {
        if matches.given(flag) {
            return Err(Failure::new(format!(
                "{what} in builds is not supported yet"
            )));
        }
    }
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
    for tag in matches.list("tag") {
        request = request.query("t", tag);
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
    let arguments = arguments(matches.list("build-arg"));
    request = request.query_if(
        !arguments.is_empty(),
        "buildargs",
        json!(arguments).to_string(),
    );
    let labels = keys_values::labels(&[], matches.list("label")).map_err(Failure::new)?;
    request = request.query_if(!labels.is_empty(), "labels", json!(labels).to_string());
    let cache = matches.list("cache-from");
    request = request.query_if(!cache.is_empty(), "cachefrom", json!(cache).to_string());
    let ulimits: Vec<_> = matches
        .list("ulimit")
        .iter()
        .map(|text| resources::parse_ulimit(text))
        .collect::<Result<_, _>>()
        .map_err(Failure::new)?;
    request = request.query_if(!ulimits.is_empty(), "ulimits", json!(ulimits).to_string());
    let secrets = secret::read(matches.list("secret"))?;
    if !secrets.is_empty() {
        let encoded = base64::engine::general_purpose::STANDARD.encode(json!(secrets).to_string());
        request = request.header("X-Wharf-Build-Secrets", encoded);
    }
    Ok(request)
}

pub(super) fn quiet(matches: &Matches) -> bool {
    matches.on("quiet") || matches.text_or_empty("progress") == "quiet"
}

/// A name alone takes its value from the environment, and is nothing if it is not there.
fn arguments(given: &[String]) -> BTreeMap<String, Option<String>> {
    given
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (entry.clone(), std::env::var(entry).ok()),
        })
        .collect()
}
