//! One of the daemons that are compared.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use wharf_e2e::engine::Kind;
use wharf_e2e::http::{Client, Connection};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, cli};

use crate::registry::Registry;

/// A daemon, ours to start and stop or somebody else's.
#[derive(Debug)]
pub(crate) struct Side {
    /// Head of its columns.
    pub(crate) name: String,
    socket: PathBuf,
    kind: Kind,
    /// Started by us.
    engine: Option<Engine>,
    /// A second daemon with many stopped containers, kept between the runs of a case.
    pub(crate) crowded: Option<Engine>,
    /// Containers that a case keeps between its runs.
    pub(crate) crowd: Vec<String>,
    /// A container that a case keeps between its runs.
    pub(crate) kept: Option<String>,
    /// A registry that a case keeps between its runs, and the digest of its layer.
    pub(crate) registry: Option<(Registry, String)>,
}

impl Side {
    /// Our daemon, fresh.
    pub(crate) fn wharf() -> Side {
        Side::owned("wharf", Kind::Wharf)
    }

    /// The other one: `dockerd`, or the socket of a running daemon.
    pub(crate) fn reference(what: &str) -> Result<Side> {
        if what == "dockerd" {
            return Ok(Side::owned("dockerd", Kind::Reference));
        }
        let Some(path) = what.strip_prefix("unix://") else {
            bail!("a reference is `dockerd` or unix://PATH, not {what:?}")
        };
        let side = Side {
            name: "reference".into(),
            socket: path.into(),
            kind: Kind::Reference,
            engine: None,
            crowded: None,
            crowd: Vec::new(),
            kept: None,
            registry: None,
        };
        let answer = side.client().post_bytes(
            "/images/load?quiet=1",
            "application/x-tar",
            &wharf_e2e::images::archive("busybox.tar"),
        );
        ensure!(
            answer.status() == 200,
            "load the test image: {}",
            answer.text()
        );
        Ok(side)
    }

    fn owned(name: &str, kind: Kind) -> Side {
        let engine = Engine::options().kind(kind).start();
        engine.load("busybox.tar");
        Side {
            name: name.into(),
            socket: engine.socket(),
            kind,
            engine: Some(engine),
            crowded: None,
            crowd: Vec::new(),
            kept: None,
            registry: None,
        }
    }

    /// Which of the two.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The daemon, if it is ours to start and stop.
    pub(crate) fn engine(&mut self) -> Result<&mut Engine> {
        self.engine
            .as_mut()
            .context("only with a daemon that the benchmark started itself")
    }

    fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// A connection for several requests.
    pub(crate) fn connect(&self) -> Api {
        Api {
            connection: self.client().connect(),
        }
    }

    /// `docker …` to its end, its output thrown away.
    pub(crate) fn docker(&self, args: &[&str]) -> Result<()> {
        self.run(&cli::docker_program(), args)
    }

    /// `program …`, pointed at this daemon.
    pub(crate) fn run(&self, program: &Path, args: &[&str]) -> Result<()> {
        let output = self
            .command(program, args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .context("start the CLI")?;
        ensure!(
            output.status.success(),
            "{args:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// A command pointed at this daemon.
    pub(crate) fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CLI_HINTS", "false");
        command.env(
            "DOCKER_CONFIG",
            std::env::temp_dir().join("wharf-bench-cli"),
        );
        command
    }

    /// After a case: what it kept goes.
    pub(crate) fn tidy(&mut self) {
        self.crowded = None;
        self.registry = None;
        for id in std::mem::take(&mut self.crowd) {
            let _ = self.client().delete(&format!("/containers/{id}?force=1"));
        }
        if let Some(id) = self.kept.take() {
            let _ = self.client().delete(&format!("/containers/{id}?force=1"));
        }
    }
}

/// Requests over one connection.
pub(crate) struct Api {
    connection: Connection,
}

impl Api {
    /// One request; any status from 400 is an error.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let answer = self
            .connection
            .request(method, target, body)
            .with_context(|| format!("{method} {target}"))?;
        ensure!(
            answer.status() < 400,
            "{method} {target}: {} {}",
            answer.status(),
            answer.text().trim()
        );
        Ok(serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    /// A new container: its id.
    pub(crate) fn create(&mut self, network: &str, command: &[&str]) -> Result<String> {
        self.create_from(BUSYBOX, network, command)
    }

    /// The same from another image.
    pub(crate) fn create_from(
        &mut self,
        image: &str,
        network: &str,
        command: &[&str],
    ) -> Result<String> {
        let body = json!({"Image": image, "Cmd": command, "StopSignal": "SIGKILL", "HostConfig": {"NetworkMode": network}});
        let answer = self.request("POST", "/containers/create", Some(&body))?;
        Ok(answer["Id"].as_str().context("an id")?.to_owned())
    }

    /// Starts a container.
    pub(crate) fn start(&mut self, id: &str) -> Result<()> {
        self.request("POST", &format!("/containers/{id}/start"), None)
            .map(drop)
    }

    /// Waits for a container's end.
    pub(crate) fn wait(&mut self, id: &str) -> Result<()> {
        self.request("POST", &format!("/containers/{id}/wait"), None)
            .map(drop)
    }

    /// Removes a container, running or not.
    pub(crate) fn remove(&mut self, id: &str) -> Result<()> {
        self.request("DELETE", &format!("/containers/{id}?force=1&v=1"), None)
            .map(drop)
    }
}
