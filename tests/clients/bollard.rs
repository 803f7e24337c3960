//! bollard, the client of Rust: of its two connections it takes the one over the socket, and agrees on the version first.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, BuildImageOptionsBuilder, CreateContainerOptionsBuilder,
    DownloadFromContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, LogsOptionsBuilder, PruneNetworksOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions, RemoveVolumeOptions, StatsOptionsBuilder,
    StopContainerOptionsBuilder, UploadToContainerOptionsBuilder, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::archive::TarFile;
use wharf_e2e::cli::Running;
use wharf_e2e::deadline::LONG;

use crate::shop::{command, engine, file};

const SECONDS: u64 = 60;

#[test]
fn bollard_runs_a_shop() {
    let engine = engine();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let all = runtime.block_on(async { tokio::time::timeout(LONG, run(&engine)).await });
    all.expect("in time");
}

async fn run(engine: &Engine) {
    let socket = engine.socket().display().to_string();
    let docker = Docker::connect_with_unix(&socket, SECONDS, API_DEFAULT_VERSION).expect("connect");
    let docker = docker
        .negotiate_version()
        .await
        .expect("agree on a version");
    build(&docker).await;
    let request = from(json!({"Name": "back", "Labels": {"shop": "bollard"}}));
    docker.create_network(request).await.expect("network");
    database(&docker).await;
    worker(&docker).await;
    web(engine, &docker).await;
    look_inside(&docker).await;
    clean_up(&docker).await;
}

async fn build(docker: &Docker) {
    let read = |name: &str| std::fs::read(file("shop/web").join(name)).expect("a file of the shop");
    let context = TarFile::new()
        .file_mode("Dockerfile", 0o644, &read("Dockerfile"))
        .file_mode("nginx.conf", 0o644, &read("nginx.conf"))
        .finish();
    let arguments = HashMap::from([("GREETING", "hello from bollard")]);
    let options = BuildImageOptionsBuilder::default()
        .t("shop-web:1")
        .buildargs(&arguments)
        .build();
    let context = bollard::body_full(context.into());
    let steps = docker.build_image(options, None, Some(context));
    let steps: Vec<_> = steps.try_collect().await.expect("it builds");
    let text: String = steps.into_iter().filter_map(|step| step.stream).collect();
    assert!(text.contains("Successfully tagged shop-web:1"), "{text}");
}

async fn database(docker: &Docker) {
    let filters = HashMap::from([
        ("container", vec!["db"]),
        ("event", vec!["health_status: healthy"]),
    ]);
    let events = EventsOptionsBuilder::default().filters(&filters).build();
    let mut events = Box::pin(docker.events(Some(events)));
    let body = json!({
        "Image": "shop", "Cmd": ["redis-server", "--protected-mode", "no"], "Labels": {"shop": "bollard"},
        "Healthcheck": {"Test": ["CMD", "redis-cli", "ping"], "Interval": 200_000_000, "Timeout": 10_000_000_000_u64, "Retries": 50},
        "HostConfig": {"NetworkMode": "back", "Binds": ["data:/data"]},
        "NetworkingConfig": {"EndpointsConfig": {"back": {"Aliases": ["database"]}}},
    });
    start(docker, "db", body).await;
    let healthy = events.next().await.expect("an event").expect("well-formed");
    let attributes = healthy.actor.and_then(|actor| actor.attributes);
    assert_eq!(attributes.expect("it has some")["name"], "db");
}

async fn worker(docker: &Docker) {
    let binds = [
        format!("{}:/worker.sh:ro", file("shop/worker.sh").display()),
        "orders:/orders".to_owned(),
    ];
    let body = json!({
        "Image": "shop", "Cmd": ["sh", "/worker.sh"], "Labels": {"shop": "bollard"},
        "HostConfig": {"NetworkMode": "back", "Binds": binds, "Init": true},
    });
    create(docker, "worker", body).await;
    let options = AttachContainerOptionsBuilder::default()
        .stream(true)
        .stdout(true)
        .stderr(true)
        .build();
    let attached = docker.attach_container("worker", Some(options));
    let AttachContainerResults { mut output, .. } = attached.await.expect("attach");
    docker.start_container("worker", None).await.expect("start");
    let first = output.next().await.expect("output").expect("well-formed");
    assert!(first.to_string().starts_with("worker starts\n"), "{first}");
}

async fn web(engine: &Engine, docker: &Docker) {
    let body = json!({
        "Image": "shop-web:1", "Labels": {"shop": "bollard"},
        "HostConfig": {"PublishAllPorts": true, "Binds": ["orders:/orders"]},
    });
    start(docker, "web", body).await;
    let found = docker.inspect_container("web", None::<InspectContainerOptions>);
    let ports = found
        .await
        .expect("inspect")
        .network_settings
        .and_then(|s| s.ports);
    let port = ports.expect("it has ports")["80/tcp"]
        .as_ref()
        .expect("published")[0]
        .host_port
        .clone()
        .expect("a number");
    let address = format!("http://127.0.0.1:{port}");
    until(|| fetch(engine, &address) == "hello from bollard\n").await;
    let orders = format!("{address}/orders/count");
    until(|| {
        fetch(engine, &orders)
            .trim()
            .parse::<u32>()
            .is_ok_and(|count| count > 0)
    })
    .await;
}

async fn look_inside(docker: &Docker) {
    let (said, code) = exec(
        docker,
        "db",
        &["sh", "-c", "echo o; echo e >&2; exit 7"],
        false,
    )
    .await;
    assert_eq!((said.as_str(), code), ("o\ne\n", 7));
    let (said, code) = exec(docker, "db", &["tty"], true).await;
    assert_eq!((said.as_str(), code), ("/dev/pts/0\r\n", 0));
    let once = StatsOptionsBuilder::default().stream(false).build();
    let stats = docker
        .stats("db", Some(once))
        .try_next()
        .await
        .expect("stats");
    let memory = stats.and_then(|stats| stats.memory_stats?.usage);
    assert!(memory.expect("it uses memory") > 0);
    let page = DownloadFromContainerOptionsBuilder::default()
        .path("/www/index.html")
        .build();
    let page = bytes(docker.download_from_container("web", Some(page))).await;
    let there = UploadToContainerOptionsBuilder::default()
        .path("/tmp")
        .build();
    let upload = docker.upload_to_container("web", Some(there), bollard::body_full(page.into()));
    upload.await.expect("upload");
    let (said, _) = exec(docker, "web", &["cat", "/tmp/index.html"], false).await;
    assert_eq!(said, "hello from bollard\n");
    let logs = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .build();
    let logs: Vec<LogOutput> = docker
        .logs("web", Some(logs))
        .try_collect()
        .await
        .expect("logs");
    assert!(
        logs.iter()
            .any(|line| line.to_string().contains("GET / HTTP/1.1"))
    );
    create(
        docker,
        "once",
        json!({"Image": "busybox", "Cmd": ["sh", "-c", "exit 2"]}),
    )
    .await;
    let mut end = Box::pin(docker.wait_container("once", None::<WaitContainerOptions>));
    docker.start_container("once", None).await.expect("start");
    match end.next().await {
        // An exit code that is not zero is an error of this client's.
        Some(Err(Error::DockerContainerWaitError { code, .. })) => assert_eq!(code, 2),
        other => panic!("{other:?}"),
    }
    remove(docker, "once").await;
}

async fn clean_up(docker: &Docker) {
    let at_once = StopContainerOptionsBuilder::default().t(0).build();
    docker
        .stop_container("db", Some(at_once))
        .await
        .expect("stop");
    let mine = HashMap::from([("label", vec!["shop=bollard"])]);
    let list = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&mine)
        .build();
    let containers = docker.list_containers(Some(list)).await.expect("list");
    assert_eq!(containers.len(), 3);
    for container in containers {
        remove(docker, &container.id.expect("it has an id")).await;
    }
    match docker
        .inspect_container("db", None::<InspectContainerOptions>)
        .await
    {
        Err(Error::DockerResponseServerError {
            status_code: 404,
            message,
        }) => {
            assert_eq!(message, "No such container: db");
        }
        other => panic!("{other:?}"),
    }
    let networks = PruneNetworksOptionsBuilder::default()
        .filters(&mine)
        .build();
    let pruned = docker.prune_networks(Some(networks)).await.expect("prune");
    assert_eq!(pruned.networks_deleted, Some(vec!["back".to_owned()]));
    for name in ["data", "orders"] {
        let removed = docker.remove_volume(name, None::<RemoveVolumeOptions>);
        removed.await.expect("remove the volume");
    }
    let saved = bytes(docker.export_image("shop-web:1")).await;
    assert!(saved.windows(13).any(|part| part == b"manifest.json"));
    let removed = docker.remove_image("shop-web:1", None::<RemoveImageOptions>, None);
    assert!(removed.await.expect("remove the image").len() > 1);
}

/// A model of bollard's, written as the API has it.
fn from<T: serde::de::DeserializeOwned>(body: Value) -> T {
    serde_json::from_value(body).expect("bollard knows these fields")
}

async fn create(docker: &Docker, name: &str, body: Value) {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let body: ContainerCreateBody = from(body);
    docker
        .create_container(Some(options), body)
        .await
        .expect("create");
}

async fn start(docker: &Docker, name: &str, body: Value) {
    create(docker, name, body).await;
    docker.start_container(name, None).await.expect("start");
}

async fn remove(docker: &Docker, name: &str) {
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    docker
        .remove_container(name, Some(options))
        .await
        .expect("remove");
}

/// Output and exit code of a command in a container.
async fn exec(docker: &Docker, name: &str, command: &[&str], tty: bool) -> (String, i64) {
    let body = json!({"Cmd": command, "AttachStdout": true, "AttachStderr": true, "Tty": tty});
    let id = docker
        .create_exec(name, from::<ExecConfig>(body))
        .await
        .expect("create exec")
        .id;
    let options = StartExecOptions {
        tty,
        ..StartExecOptions::default()
    };
    let StartExecResults::Attached { output, .. } = docker
        .start_exec(&id, Some(options))
        .await
        .expect("start exec")
    else {
        panic!("attached, as asked for");
    };
    let output: Vec<LogOutput> = output.try_collect().await.expect("output");
    let said = output.iter().map(LogOutput::to_string).collect();
    let ended = docker.inspect_exec(&id).await.expect("inspect exec");
    (said, ended.exit_code.expect("it ended"))
}

async fn bytes<B: AsRef<[u8]>>(stream: impl Stream<Item = Result<B, Error>>) -> Vec<u8> {
    let parts: Vec<B> = stream.try_collect().await.expect("a whole stream");
    parts
        .iter()
        .flat_map(|part| part.as_ref())
        .copied()
        .collect()
}

/// What the host sees at an address; nothing if nobody answers.
fn fetch(engine: &Engine, address: &str) -> String {
    let mut curl = command(engine, Path::new("/usr/bin/curl"));
    Running::start(curl.args(["-s", address])).finish().stdout
}

/// Looks again and again; the test as a whole has a deadline.
async fn until(mut look: impl FnMut() -> bool) {
    while !look() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
