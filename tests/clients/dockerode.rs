//! dockerode, the client of Node.

use crate::shop::{engine, node, run};

#[test]
fn dockerode_runs_a_shop() {
    let engine = engine();
    run(node(&engine, "shop.cjs"));
}
