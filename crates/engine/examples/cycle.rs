//! Times the life of a container through the engine alone, without HTTP: create, start, wait, remove of `true`.
//!
//! `cycle <directory> <rootfs.tar> [runs] [network]`, as root. The tar needs a static `/bin/true`.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_api::container::{Config, CreateRequest, HostConfig};
use wharf_engine::container::remove::Removal;
use wharf_engine::container::wait::Condition;
use wharf_engine::{Engine, EngineConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "spawner") {
        wharf_runtime::spawner::main();
    }
    let [_, directory, tar, rest @ ..] = args.as_slice() else {
        return Err("usage: cycle <directory> <rootfs.tar> [runs] [network]".into());
    };
    let runs: usize = rest.first().map_or(Ok(100), |text| text.parse())?;
    let network = rest.get(1).cloned().unwrap_or_else(|| "bridge".into());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let root = PathBuf::from(directory);
        let begun = Instant::now();
        let config = EngineConfig::new(
            root.join("data"),
            root.join("exec"),
            std::env::current_exe()?,
        );
        let engine = Engine::open(config).await?;
        println!("open {:?}", begun.elapsed());
        let archive = std::fs::File::open(tar)?;
        engine
            .image_import(archive, "busybox", "latest", "", Vec::new(), "")
            .await?;
        let mut times = Times::default();
        for _ in 0..runs {
            cycle(&engine, &network, &mut times).await?;
        }
        times.print();
        Ok(())
    })
}

#[derive(Default)]
struct Times {
    create: Vec<Duration>,
    start: Vec<Duration>,
    wait: Vec<Duration>,
    remove: Vec<Duration>,
    total: Vec<Duration>,
}

async fn cycle(
    engine: &Arc<Engine>,
    network: &str,
    times: &mut Times,
) -> Result<(), Box<dyn Error>> {
    let request = CreateRequest {
        config: Config {
            image: "busybox".into(),
            cmd: Some(vec!["/bin/true".into()]),
            ..Config::default()
        },
        host_config: Some(HostConfig {
            network_mode: network.into(),
            ..HostConfig::default()
        }),
        networking_config: None,
    };
    let begun = Instant::now();
    let id = engine.container_create("", None, request).await?.id;
    let created = Instant::now();
    let wait = engine.container_wait(&id, Condition::NextExit).await?;
    engine.container_start(&id).await?;
    let started = Instant::now();
    let code = wait.finish().await.status_code;
    let waited = Instant::now();
    engine.container_remove(&id, Removal::default()).await?;
    let removed = Instant::now();
    if code != 0 {
        return Err(format!("exit code {code}").into());
    }
    times.create.push(created - begun);
    times.start.push(started - created);
    times.wait.push(waited - started);
    times.remove.push(removed - waited);
    times.total.push(removed - begun);
    Ok(())
}

impl Times {
    fn print(&mut self) {
        let rows = [
            ("create", &mut self.create),
            ("start", &mut self.start),
            ("wait", &mut self.wait),
            ("remove", &mut self.remove),
            ("total", &mut self.total),
        ];
        for (name, times) in rows {
            times.sort();
            let at = |part: usize| {
                times
                    .get(times.len() * part / 100)
                    .copied()
                    .unwrap_or_default()
            };
            println!("{name:8} median {:?}  p90 {:?}", at(50), at(90));
        }
    }
}
