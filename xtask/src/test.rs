//! `test` and `bench`: build the program once, make the images, and hand both to whoever needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, images_dir, output, run, target_dir};
use crate::{clients, dist, images, packages, suite};

/// One profile for the program and the tests, so that each crate is compiled once.
pub(crate) const TEST_PROFILE: &str = "ci";

/// Everything from missing packages to the last test. `extra` goes to `cargo test`.
pub(crate) fn test(extra: &[String]) -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    packages::ensure(packages::TESTS)?;
    let docker = packages::docker_cli()?;
    images::ensure(&images_dir())?;
    let clients = clients::ensure()?;
    let program = build(TEST_PROFILE)?;
    let package = dist::deb(&program, &target_dir().join("dist"))?;
    // Of each target; longer on demand.
    let fuzz = std::env::var("WHARF_FUZZ_SECONDS").unwrap_or_else(|_| "60".to_owned());
    let path = packages::path_with_engines()?;
    suite::run(
        |behind| {
            let mut test = cargo();
            test.args(["test", "--workspace", "--no-fail-fast"])
                .args(["--profile", TEST_PROFILE])
                .args(extra)
                .args(if behind.is_empty() { None } else { Some("--") })
                .args(behind);
            test.env("PATH", &path)
                .env("WHARF_BIN", &program)
                .env("WHARF_DEB", &package)
                .env("WHARF_CLIENTS", &clients)
                .env("WHARF_IMAGES", images_dir())
                .env("WHARF_DOCKER_CLI", &docker)
                .env("WHARF_FUZZ_SECONDS", &fuzz);
            test
        },
        std::io::stdout(),
    )?;
    if extra.is_empty() {
        let with_iptables = |behind: &[&str]| with_iptables(&program, &docker, behind);
        suite::run(with_iptables, std::io::stdout())?;
    }
    // A filter asks for part of the tests; the guest's are those of the whole.
    match extra.is_empty() && cfg!(target_arch = "x86_64") {
        true => crate::guest::guest(),
        false => Ok(()),
    }
}

/// The end-to-end tests of networks once more, with the back end that is not chosen by itself. Those of the crate try both.
fn with_iptables(program: &Path, docker: &Path, behind: &[&str]) -> Command {
    let mut test = cargo();
    test.args(["test", "--package", "wharf-e2e", "--test", "e2e"])
        .args(["--profile", TEST_PROFILE, "--"])
        .args(match behind.is_empty() {
            true => &["network", "ports::", "dns::"][..],
            false => behind,
        })
        .env("WHARF_E2E_FIREWALL", "iptables")
        .env("WHARF_BIN", program)
        .env("WHARF_IMAGES", images_dir())
        .env("WHARF_DOCKER_CLI", docker);
    test
}

/// Times the release build. `extra` goes to the benchmark program.
pub(crate) fn bench(extra: &[String]) -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    packages::ensure(packages::BENCH)?;
    images::ensure(&images_dir())?;
    let program = build("release")?;
    let mut bench = cargo();
    bench
        .args([
            "run",
            "--quiet",
            "--profile",
            "release",
            "--package",
            "wharf-bench",
            "--",
        ])
        .args(extra);
    bench
        .env("WHARF_BIN", program)
        .env("WHARF_IMAGES", images_dir())
        .env("WHARF_BENCH_DIR", target_dir().join("bench"));
    bench.env("WHARF_DOCKER_CLI", packages::docker_cli()?);
    run(&mut bench)
}

/// Builds the `wharf` program and says where it is.
pub(crate) fn build(profile: &str) -> Result<PathBuf> {
    run(cargo().args(["build", "--package", "wharf", "--profile", profile]))?;
    let program = target_dir().join(host_tuple()?).join(profile).join("wharf");
    ensure!(program.exists(), "{} was not built", program.display());
    Ok(program)
}

/// The target that the work tree's cargo configuration names `host-tuple`.
fn host_tuple() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names the host")
}
