//! `update`

use serde_json::{Map, Value};
use wharf_api::container::{HostConfig, UpdateResponse};

use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::request::resources;
use crate::session::Session;

/// `update`
///
/// # Errors
/// Nothing was asked for; those of every container that could not be changed.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let body = plan(matches)?;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for name in &matches.args {
        match session
            .client
            .json::<UpdateResponse>(Request::post(format!("/containers/{name}/update")).json(&body))
        {
            Ok(answer) => {
                print::out_line(name)?;
                warnings.extend(answer.warnings.unwrap_or_default());
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    if !warnings.is_empty() {
        print::error_line(&warnings.join("\n"));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

/// Only what was asked for: the daemon leaves alone what is zero or absent.
fn plan(matches: &Matches) -> Result<Value, Failure> {
    const NAMES: &[&str] = &[
        "BlkioWeight",
        "CpuPeriod",
        "CpuQuota",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
        "CpuShares",
        "NanoCpus",
        "CpusetCpus",
        "CpusetMems",
        "Memory",
        "MemoryReservation",
        "MemorySwap",
        "PidsLimit",
        "RestartPolicy",
    ];
    let mut host = HostConfig::default();
    resources::fill(&mut host, matches);
    host.pids_limit = matches.int("pids-limit");
    if let Some(policy) = matches.text("restart") {
        host.restart_policy = resources::parse_restart(policy).map_err(Failure::new)?;
    }
    let all = serde_json::to_value(&host).map_err(|error| Failure::new(error.to_string()))?;
    let default = serde_json::to_value(HostConfig::default())
        .map_err(|error| Failure::new(error.to_string()))?;
    let changed: Map<String, Value> = NAMES
        .iter()
        .filter(|name| all[**name] != default[**name])
        .map(|name| ((*name).to_owned(), all[*name].clone()))
        .collect();
    if changed.is_empty() {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    Ok(Value::Object(changed))
}
