//! An engine with the shop's images, and clients that are run against it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;
use wharf_e2e::Engine;
use wharf_e2e::archive::{Image, TarFile};
use wharf_e2e::cli::{Running, docker_program};

/// Names under which Testcontainers asks for its reaper: Python's and Node's.
const REAPERS: [&str; 2] = ["testcontainers/ryuk:0.8.1", "testcontainers/ryuk:0.14.0"];

/// A file of these tests.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

/// Where `cargo xtask test` put the clients.
pub fn installed(name: &str) -> PathBuf {
    let dir = std::env::var_os("WHARF_CLIENTS");
    let dir = dir.expect("WHARF_CLIENTS names the installed clients; `cargo xtask test` sets this");
    Path::new(&dir).join(name)
}

/// An engine with `busybox`, `shop` and the reaper.
pub fn engine() -> Engine {
    let engine = Engine::start();
    engine.load_bytes(image());
    engine.load_bytes(&reaper().docker_archive());
    engine
}

/// The image that all parts of the shop are run from, built once, by a build with the stock CLI.
fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let engine = Engine::start();
        engine.load("debian.tar");
        let dockerfile = file("shop/Dockerfile").display().to_string();
        let context = installed("packages").display().to_string();
        let mut build =
            engine.docker_command(&["build", "-t", "shop", "-f", &dockerfile, &context]);
        let output = Running::start(build.env("DOCKER_BUILDKIT", "0")).finish();
        assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
        engine.api().get("/images/shop/get").expect(200).body
    })
}

/// The reaper, one static program.
fn reaper() -> Image {
    let program = std::fs::read(env!("CARGO_BIN_EXE_reaper")).expect("cargo built the reaper");
    let layer = TarFile::new().file_mode("reaper", 0o755, &program).finish();
    let mut image = Image::new(REAPERS[0], vec![layer]).with("Cmd", json!(["/reaper"]));
    image.tags = REAPERS.map(str::to_owned).to_vec();
    image
}

/// A command beside the engine, so that it reaches published ports, with what clients look for in their environment.
pub fn command(engine: &Engine, program: &Path) -> Command {
    let docker = docker_program();
    let mut path = docker
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
        .into_os_string();
    path.push(":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    let mut command = engine.netns().command(program);
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", engine.dir())
        .env("LANG", "C.UTF-8")
        .env("DOCKER_HOST", engine.host())
        .env("SHOP", file("shop"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NODE_PATH", installed("node/node_modules"))
        .env("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
        .current_dir(engine.dir());
    command
}

/// Runs a script to its `done`.
pub fn run(mut command: Command) {
    let output = Running::start(&mut command).finish();
    assert!(
        output.code == 0 && output.stdout.ends_with("done\n"),
        "{command:?} ended with {}\n{}\n{}",
        output.code,
        output.stdout,
        output.stderr
    );
}

/// A Python script with the installed packages.
pub fn python(engine: &Engine, script: &str) -> Command {
    let mut command = command(engine, &installed("python/bin/python"));
    command.arg(file("python").join(script));
    command
}

/// A Node script with the installed packages.
pub fn node(engine: &Engine, script: &str) -> Command {
    let mut command = command(engine, Path::new("node"));
    command.arg(file("node").join(script));
    command
}
