//! Clients in Python: docker-py, and python-on-whales, which drives a command line: the stock one and ours.

use wharf_e2e::engine::wharf_program;

use crate::shop::{engine, python, run};

#[test]
fn docker_py_runs_a_shop() {
    let engine = engine();
    run(python(&engine, "shop.py"));
}

#[test]
fn docker_py_finds_the_whole_api() {
    let engine = engine();
    run(python(&engine, "api.py"));
}

#[test]
fn docker_py_speaks_old_versions() {
    let engine = engine();
    for version in ["1.24", "1.32", "1.41", "1.43", "1.51"] {
        let mut command = python(&engine, "versions.py");
        command.arg(version);
        run(command);
    }
}

#[test]
fn python_on_whales_runs_a_shop_with_the_stock_client() {
    let engine = engine();
    let mut command = python(&engine, "whales.py");
    command.arg("docker");
    run(command);
}

#[test]
fn python_on_whales_runs_a_shop_with_our_client() {
    let engine = engine();
    let mut command = python(&engine, "whales.py");
    command.arg(wharf_program());
    run(command);
}
