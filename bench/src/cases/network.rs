//! Networks: what they and published ports cost, and what passes through them.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::lan::Lan;

use crate::measure::{Values, timed};
use crate::side::{Api, Side};
use crate::traffic::{self, Place};

/// How long traffic is counted.
const WHILE: Duration = Duration::from_secs(1);

/// Ports of the container that publishes many.
const MANY: u16 = 200;

/// `docker run --rm` with a published port, and without.
pub(crate) fn run_port(side: &mut Side) -> Result<Values> {
    let (without, result) = timed(|| side.docker(&["run", "--rm", BUSYBOX, "true"]));
    result?;
    let (with, result) = timed(|| side.docker(&["run", "--rm", "-p", "8080:80", BUSYBOX, "true"]));
    result?;
    Ok(named([
        ("none", without),
        ("one", with),
        ("extra", with - without),
    ]))
}

/// Start of a container that publishes many ports, and of one that publishes none.
pub(crate) fn many_ports(side: &mut Side) -> Result<Values> {
    let mut api = side.connect();
    let mut start = |ports: u16| -> Result<f64> {
        let id = create(&mut api, ports)?;
        let (ms, result) = timed(|| api.start(&id));
        result?;
        api.remove(&id)?;
        Ok(ms)
    };
    let (none, many) = (start(0)?, start(MANY)?);
    Ok(named([
        ("none", none),
        ("200", many),
        ("extra", many - none),
    ]))
}

/// A network comes and goes.
pub(crate) fn create_and_remove(side: &mut Side) -> Result<Values> {
    let mut api = side.connect();
    let body = json!({"Name": "bench"});
    let (create, result) = timed(|| api.request("POST", "/networks/create", Some(&body)));
    result?;
    let (remove, result) = timed(|| api.request("DELETE", "/networks/bench", None));
    result?;
    Ok(named([("create", create), ("rm", remove)]))
}

/// Requests to a server in a container: at the host's loopback, from another machine, and past the port.
pub(crate) fn requests(side: &mut Side) -> Result<Values> {
    let mut api = side.connect();
    let id = create(&mut api, 1)?;
    api.start(&id)?;
    let (inside, address) = (place(&mut api, &id)?, address(&mut api, &id)?);
    let engine = side.engine()?;
    let host = Place::named(&engine.netns().path())?;
    let lan = Lan::around(engine);
    let neighbour = Place::named(&lan.neighbour.path())?;
    let server = traffic::serve_requests(&inside, 80)?;
    let mut values = Vec::new();
    for (name, from, target) in [
        ("loopback k/s", &host, "127.0.0.1:8080".to_owned()),
        ("machine k/s", &neighbour, "192.0.2.1:8080".to_owned()),
        ("direct k/s", &host, format!("{address}:80")),
    ] {
        let target = target.parse().context("an address and a port")?;
        let count = traffic::count_requests(from, target, WHILE)?;
        values.push((name.to_owned(), count / WHILE.as_secs_f64() / 1e3));
    }
    drop(server);
    api.remove(&id)?;
    Ok(values)
}

/// Bytes from one container to another.
pub(crate) fn throughput(side: &mut Side) -> Result<Values> {
    let mut api = side.connect();
    let ids = [create(&mut api, 0)?, create(&mut api, 0)?];
    for id in &ids {
        api.start(id)?;
    }
    let (from, to) = (place(&mut api, &ids[0])?, place(&mut api, &ids[1])?);
    let address = address(&mut api, &ids[1])?;
    let target = format!("{address}:5201").parse().context("an address")?;
    let bytes = traffic::count_bytes(&from, &to, target, WHILE)?;
    for id in &ids {
        api.remove(id)?;
    }
    let gigabits = bytes * 8.0 / WHILE.as_secs_f64() / 1e9;
    Ok(vec![("Gbit/s".to_owned(), gigabits)])
}

fn named<const N: usize>(values: [(&str, f64); N]) -> Values {
    values
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
}

/// A container that publishes that many ports, from 8080 on.
fn create(api: &mut Api, ports: u16) -> Result<String> {
    let bindings: Map<String, Value> = (0..ports)
        .map(|n| {
            let host = json!([{"HostPort": (8080 + n).to_string()}]);
            (format!("{}/tcp", 80 + n), host)
        })
        .collect();
    let exposed: Map<String, Value> = bindings
        .keys()
        .map(|port| (port.clone(), json!({})))
        .collect();
    let body = json!({
        "Image": BUSYBOX, "Cmd": ["sleep", "1000"], "StopSignal": "SIGKILL", "ExposedPorts": exposed,
        "HostConfig": {"PortBindings": bindings}
    });
    let answer = api.request("POST", "/containers/create", Some(&body))?;
    Ok(answer["Id"].as_str().context("an id")?.to_owned())
}

fn inspect(api: &mut Api, id: &str) -> Result<Value> {
    api.request("GET", &format!("/containers/{id}/json"), None)
}

fn place(api: &mut Api, id: &str) -> Result<Place> {
    let pid = inspect(api, id)?["State"]["Pid"]
        .as_u64()
        .context("a process id")?;
    Place::named(format!("/proc/{pid}/ns/net").as_ref())
}

fn address(api: &mut Api, id: &str) -> Result<String> {
    let networks = &inspect(api, id)?["NetworkSettings"]["Networks"];
    let address = networks["bridge"]["IPAddress"].as_str();
    Ok(address.context("an address")?.to_owned())
}
