//! Images that go by themselves, because they are old or too many.

use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::registry::TestRegistry;
use wharf_e2e::{Engine, Kind};

use super::{assert_clean, image};

/// An engine with `flags` that pulls three images; a container has the first.
fn with_three(flags: &[&str]) -> Option<(Engine, [String; 3])> {
    if Kind::from_env() != Kind::Wharf {
        return None;
    }
    let mut options = Engine::options();
    for flag in flags {
        options = options.flag(flag);
    }
    let engine = options.start();
    let registry = TestRegistry::start(&engine);
    let names = [1, 2, 3].map(|n| {
        registry.add("bb", &n.to_string(), &image(n, 300_000));
        registry.name(&format!("bb:{n}"))
    });
    for (n, name) in names.iter().enumerate() {
        engine.docker_ok(&["pull", "-q", name]);
        if n == 0 {
            engine.docker_ok(&["create", "--network", "none", name]);
        }
    }
    Some((engine, names))
}

fn has(engine: &Engine, name: &str) -> bool {
    !engine.docker_ok(&["images", "-q", name]).is_empty()
}

#[test]
fn old_images_go_unless_a_container_has_them() {
    let Some((engine, [used, second, third])) = with_three(&["--image-gc-max-age=3s"]) else {
        return;
    };
    wait_until("the unused images to go", LONG, || {
        !has(&engine, &second) && !has(&engine, &third)
    });
    assert!(has(&engine, &used));
    assert_clean(&engine);
}

#[test]
fn unused_images_go_while_all_are_too_large() {
    // Busybox once, and one, two and three layers of 300 kB above it.
    let Some((engine, [used, second, third])) = with_three(&["--image-gc-max-size=2700k"]) else {
        return;
    };
    wait_until("an unused image to go", LONG, || {
        !has(&engine, &second) || !has(&engine, &third)
    });
    assert!(has(&engine, &used));
    assert_clean(&engine);
}
