//! Many containers at once.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use wharf_e2e::engine::Kind;
use wharf_e2e::images::BUSYBOX;

use crate::measure::{Values, timed};
use crate::side::Side;

const SLEEP: [&str; 2] = ["sleep", "100000"];

/// Starts containers that stay, until there are so many.
fn fill(side: &mut Side, target: usize, starts: bool) -> Result<()> {
    let mut api = side.connect();
    while side.crowd.len() < target {
        let id = api.create("none", &SLEEP)?;
        side.crowd.push(id.clone());
        if starts {
            api.start(&id)?;
        }
    }
    Ok(())
}

/// Create and start beside 0, and beside 300 that run. The median of ten.
pub(crate) fn create(side: &mut Side) -> Result<Values> {
    let mut values = Vec::new();
    for target in [0, 300] {
        fill(side, target, true)?;
        let mut api = side.connect();
        let mut times = Vec::new();
        for _ in 0..10 {
            let (ms, id) = timed(|| {
                let id = api.create("bridge", &SLEEP)?;
                api.start(&id)?;
                Ok::<_, anyhow::Error>(id)
            });
            times.push(ms);
            api.remove(&id?)?;
        }
        times.sort_by(f64::total_cmp);
        values.push((format!("at {target}"), times[times.len() / 2]));
    }
    Ok(values)
}

/// 100 on the default bridge, by 20 clients.
pub(crate) fn up(side: &mut Side) -> Result<Values> {
    let begin = Instant::now();
    let one_client = || {
        let mut api = side.connect();
        let start = |_| {
            let id = api.create("bridge", &SLEEP)?;
            api.start(&id)?;
            Ok(id)
        };
        (0..5).map(start).collect::<Result<Vec<String>>>()
    };
    let ids = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(one_client)).collect();
        let ended = clients.into_iter().map(|client| client.join());
        let all = ended.map(|ids| ids.expect("a client does not panic"));
        all.collect::<Result<Vec<_>>>()
    });
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    let mut api = side.connect();
    for id in ids?.concat() {
        api.remove(&id)?;
    }
    Ok(vec![(String::new(), ms)])
}

/// `ps -a` by the stock CLI, and the list over the API, of 300 containers.
pub(crate) fn list(side: &mut Side) -> Result<Values> {
    fill(side, 300, false)?;
    let (cli, result) = timed(|| side.docker(&["ps", "-a"]));
    result?;
    let mut api = side.connect();
    api.request("GET", "/_ping", None)?;
    let (list, result) = timed(|| api.request("GET", "/containers/json?all=1", None));
    result?;
    Ok(vec![("ps -a".to_owned(), cli), ("api".to_owned(), list)])
}

/// `stats --no-stream` of 100 that run.
pub(crate) fn stats(side: &mut Side) -> Result<Values> {
    fill(side, 100, true)?;
    let (ms, result) = timed(|| side.docker(&["stats", "--no-stream"]));
    result?;
    Ok(vec![(String::new(), ms)])
}

/// A stop whose signal is SIGKILL.
pub(crate) fn stop(side: &mut Side) -> Result<Values> {
    let mut api = side.connect();
    let id = api.create("bridge", &SLEEP)?;
    api.start(&id)?;
    let (ms, result) = timed(|| api.request("POST", &format!("/containers/{id}/stop"), None));
    result?;
    api.remove(&id)?;
    Ok(vec![(String::new(), ms)])
}

/// SIGKILL of the daemon with 50 containers running, until the next one knows them all.
pub(crate) fn live_restart(side: &mut Side) -> Result<Values> {
    if side.kind() == Kind::Reference {
        // Its containers only stay with `--live-restore`, which is not its default.
        return Ok(Vec::new());
    }
    fill(side, 50, true)?;
    let expected = side.crowd.len();
    let engine = side.engine()?;
    engine.kill_daemon();
    let (ms, ()) = timed(|| engine.start_daemon());
    let running = side
        .connect()
        .request("GET", "/containers/json", None)?
        .as_array()
        .context("a list")?
        .len();
    anyhow::ensure!(running == expected, "{running} of {expected} are left");
    Ok(vec![(String::new(), ms)])
}

/// Limits of a container that runs.
pub(crate) fn update(side: &mut Side) -> Result<Values> {
    let mut api = side.connect();
    let id = match &side.kept {
        Some(id) => id.clone(),
        None => {
            let body = json!({"Image": BUSYBOX, "Cmd": SLEEP, "HostConfig": {"NetworkMode": "none", "Memory": 64 << 20}});
            let answer = api.request("POST", "/containers/create", Some(&body))?;
            let id = answer["Id"].as_str().context("an id")?.to_owned();
            api.start(&id)?;
            side.kept = Some(id.clone());
            id
        }
    };
    let body = json!({"Memory": 128 << 20, "MemorySwap": 256 << 20, "CpuShares": 512});
    let path = format!("/containers/{id}/update");
    let (ms, result) = timed(|| api.request("POST", &path, Some(&body)));
    result?;
    Ok(vec![(String::new(), ms)])
}
