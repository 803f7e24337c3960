//! The daemon itself: how fast it is there, and what it holds in memory.

use anyhow::{Context, Result};
use wharf_e2e::Engine;

use crate::measure::{Values, timed};
use crate::side::Side;

/// Stopped containers of the crowded daemon.
const CROWD: usize = 300;

/// Stop, then start until the first answer.
pub(crate) fn start(side: &mut Side) -> Result<Values> {
    side.engine()?;
    let mut values = Vec::new();
    if side.crowded.is_none() {
        side.crowded = Some(crowd(side)?);
    }
    values.push(("0".to_owned(), restart(side.engine()?)));
    let crowded = side.crowded.as_mut().context("made above")?;
    values.push((CROWD.to_string(), restart(crowded)));
    Ok(values)
}

fn restart(engine: &mut Engine) -> f64 {
    engine.stop_daemon();
    timed(|| engine.start_daemon()).0
}

fn crowd(side: &Side) -> Result<Engine> {
    let engine = Engine::options().kind(side.kind()).start();
    engine.load("busybox.tar");
    let body = serde_json::json!({"Image": wharf_e2e::images::BUSYBOX, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
    let mut connection = engine.api().connect();
    for _ in 0..CROWD {
        connection
            .request("POST", "/containers/create", Some(&body))
            .context("create a container")?;
    }
    Ok(engine)
}

/// Proportional set size of everything that is not a container, with more and more of them running.
pub(crate) fn memory(side: &mut Side) -> Result<Values> {
    side.engine()?;
    let mut api = side.connect();
    let mut ids = Vec::new();
    let mut values = Vec::new();
    for target in [0, 100, 300] {
        while ids.len() < target {
            // Without network of the daemon's namespace, so that no container is counted as one of its helpers.
            let id = api.create("none", &["sleep", "100000"])?;
            api.start(&id)?;
            ids.push(id);
        }
        values.push((
            format!("{target} MiB"),
            pss_mib(&side.engine()?.netns().processes()),
        ));
    }
    for id in ids {
        api.remove(&id)?;
    }
    Ok(values)
}

fn pss_mib(processes: &[u32]) -> f64 {
    let pss = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").parse::<f64>().ok()
    };
    processes.iter().filter_map(pss).sum::<f64>() / 1024.0
}
