//! Small services as people write them, in `services/`: built with the stock client, run, asked over HTTP, and built again from the cache.
//!
//! The images they begin with are Debian with the language's packages. Those of compiled languages are large:
//! `cargo xtask images --toolchains` fetches them, and their services are tried besides where that was done.

use std::path::Path;

use wharf_e2e::Engine;
use wharf_e2e::cli::Running;
use wharf_e2e::deadline::{LONG, wait_for};
use wharf_e2e::images;

use super::directory;

/// A language.
struct Service {
    /// Its directory.
    name: &'static str,
    /// The image that its Dockerfile begins with.
    base: &'static str,
    /// What it says.
    answer: &'static str,
}

const INTERPRETED: [Service; 2] = [
    Service {
        name: "python",
        base: "python:3.11",
        answer: "python as 10001\n",
    },
    Service {
        name: "node",
        base: "node:18",
        answer: "node 1.0.0 as 10002\n",
    },
];

const COMPILED: [Service; 2] = [
    Service {
        name: "go",
        base: "golang:1.19",
        answer: "go as 10003\n",
    },
    Service {
        name: "rust",
        base: "rust:1.63",
        answer: "rust as 10004\n",
    },
];

#[test]
fn services_answer() {
    serve("service-debs.tar", &INTERPRETED);
    if images::directory().join("toolchain-debs.tar").exists() {
        serve("toolchain-debs.tar", &COMPILED);
    }
}

fn serve(packages: &str, services: &[Service]) {
    let engine = Engine::empty();
    // Mounts and `--chmod` need BuildKit in the reference.
    if engine.is_reference() {
        return;
    }
    engine.load("debian.tar");
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/build/services");
    let dockerfile = std::fs::read_to_string(files.join("base/Dockerfile")).expect("is there");
    let base = directory(&engine, "base", &[("Dockerfile", &dockerfile)]);
    tar::Archive::new(images::archive(packages).as_slice())
        .unpack(&base)
        .expect("packages");
    let mut arguments = vec!["build"];
    for service in services {
        arguments.extend(["-t", service.base]);
    }
    arguments.push(&base);
    let _ = build(&engine, &arguments);
    for (number, service) in services.iter().enumerate() {
        let context = files.join(service.name).display().to_string();
        let arguments = ["build", "-t", service.name, &context];
        let _ = build(&engine, &arguments);
        let port = 8000 + number;
        let published = format!("{port}:8000");
        let _ = engine.docker_ok(&[
            "run",
            "-d",
            "--name",
            service.name,
            "-p",
            &published,
            service.name,
        ]);
        assert_eq!(ask(&engine, port), service.answer);
        let again = build(&engine, &arguments);
        let steps = again.matches("Step ").count();
        let begun = again.matches(" : FROM ").count() + again.matches(" : ARG NODE").count();
        assert_eq!(
            again.matches("Using cache").count(),
            steps - begun,
            "{again}"
        );
        let _ = engine.docker_ok(&["stop", "-t", "0", service.name]);
    }
}

fn build(engine: &Engine, arguments: &[&str]) -> String {
    let mut command = engine.docker_command(arguments);
    let output = Running::start(command.env("DOCKER_BUILDKIT", "0")).finish();
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    output.stdout
}

/// What a service says once it is up.
fn ask(engine: &Engine, port: usize) -> String {
    wait_for("the service", LONG, || {
        let output = engine
            .netns()
            .command("curl".as_ref())
            .args(["--silent", &format!("http://127.0.0.1:{port}/")])
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned()).filter(|text| !text.is_empty())
    })
}
