//! Volumes with a size. Where there are project quotas they are tested in the virtual machine (`cargo xtask guest`).

use wharf_e2e::Engine;

#[test]
fn without_quotas_a_size_is_refused() {
    let engine = Engine::start();
    let message = engine.docker_fails(&["volume", "create", "-o", "size=1g", "limited"], 1);
    assert!(
        message.contains("quota size requested but no quota support"),
        "{message}"
    );
    assert_eq!(engine.docker_ok(&["volume", "ls", "-q"]), "");
}
