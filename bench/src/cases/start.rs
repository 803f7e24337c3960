//! How long a container's whole life takes.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use wharf_e2e::engine::{Kind, wharf_program};
use wharf_e2e::images::BUSYBOX;

use crate::measure::{Values, timed};
use crate::side::Side;

/// Default bridge.
pub(crate) fn api_bridge(side: &mut Side) -> Result<Values> {
    api_life(side, "bridge")
}

/// No network.
pub(crate) fn api_none(side: &mut Side) -> Result<Values> {
    api_life(side, "none")
}

fn api_life(side: &Side, network: &str) -> Result<Values> {
    let mut api = side.connect();
    api.request("GET", "/_ping", None)?;
    let (create, id) = timed(|| api.create(network, &["true"]));
    let id = id?;
    let (start, result) = timed(|| api.start(&id));
    result?;
    let (wait, result) = timed(|| api.wait(&id));
    result?;
    let (delete, result) = timed(|| api.remove(&id));
    result?;
    let steps = [
        ("create", create),
        ("start", start),
        ("wait", wait),
        ("delete", delete),
        ("total", create + start + wait + delete),
    ];
    Ok(steps.map(|(name, ms)| (name.to_owned(), ms)).to_vec())
}

/// Stock CLI, default bridge.
pub(crate) fn run_bridge(side: &mut Side) -> Result<Values> {
    one(timed(|| side.docker(&["run", "--rm", BUSYBOX, "true"])))
}

/// Stock CLI, no network.
pub(crate) fn run_none(side: &mut Side) -> Result<Values> {
    one(timed(|| {
        side.docker(&["run", "--rm", "--network", "none", BUSYBOX, "true"])
    }))
}

/// Our CLI.
pub(crate) fn wharf_run(side: &mut Side) -> Result<Values> {
    if side.kind() == Kind::Reference {
        return Ok(Vec::new());
    }
    one(timed(|| {
        side.run(&wharf_program(), &["run", "--rm", BUSYBOX, "true"])
    }))
}

fn one((ms, result): (f64, Result<()>)) -> Result<Values> {
    result?;
    Ok(vec![(String::new(), ms)])
}

/// In one container that all runs of the case share.
pub(crate) fn exec(side: &mut Side) -> Result<Values> {
    let mut api = side.connect();
    let id = match &side.kept {
        Some(id) => id.clone(),
        None => {
            let id = api.create("none", &["sleep", "100000"])?;
            api.start(&id)?;
            side.kept = Some(id.clone());
            id
        }
    };
    one(timed(|| {
        let exec = api.request(
            "POST",
            &format!("/containers/{id}/exec"),
            Some(&json!({"Cmd": ["true"]})),
        )?;
        let exec = exec["Id"].as_str().context("an exec id")?;
        api.request(
            "POST",
            &format!("/exec/{exec}/start"),
            Some(&json!({"Detach": true})),
        )?;
        while api.request("GET", &format!("/exec/{exec}/json"), None)?["Running"] == json!(true) {
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }))
}
