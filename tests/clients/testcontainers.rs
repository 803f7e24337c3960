//! Testcontainers for Python and for Node, with the reaper they start.

use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};

use crate::shop::{engine, node, python, run};

#[test]
fn testcontainers_for_python_run_a_shop() {
    let engine = engine();
    let mut command = python(&engine, "throwaway.py");
    command.env("RYUK_RECONNECTION_TIMEOUT", "1s");
    run(command);
    assert_reaped(&engine);
}

#[test]
fn testcontainers_for_node_run_a_shop() {
    let engine = engine();
    let mut command = node(&engine, "throwaway.cjs");
    command.env("TESTCONTAINERS_RYUK_RECONNECTION_TIMEOUT", "1s");
    run(command);
    assert_reaped(&engine);
}

/// What the scripts leave behind on purpose is gone, and so is the reaper.
fn assert_reaped(engine: &Engine) {
    wait_until("the reaper's work", LONG, || {
        engine.container_ids().is_empty()
    });
    assert_eq!(
        engine.docker_ok(&["network", "ls", "-q", "--filter", "type=custom"]),
        ""
    );
    assert_eq!(engine.docker_ok(&["volume", "ls", "-q"]), "");
}
