//! Other programs on the other side of a registry, in both directions: digests are equal. And their archives.

use std::path::Path;

use wharf_e2e::registry::DockerRegistry;
use wharf_e2e::{Engine, Kind};

use super::{image, inspect, skopeo_digest};

const PORT: u16 = 5000;

fn skopeo(engine: &Engine, args: &[&str]) {
    let output = engine
        .netns()
        .command(Path::new("skopeo"))
        .args(args)
        .output()
        .expect("skopeo (skopeo) runs");
    assert!(
        output.status.success(),
        "skopeo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn dockerd_and_this_engine_take_what_the_other_pushed() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let ours = Engine::start();
    let theirs = Engine::options().kind(Kind::Reference).start();
    // Two registries over the same content, one in each network namespace.
    let home = ours.dir().join("registry");
    let here = DockerRegistry::start_at(&ours, &home, PORT);
    let there = DockerRegistry::start_at(&theirs, &home, PORT + 1);
    let (a, b) = (here.name("ours:1"), there.name("ours:1"));
    ours.docker_ok(&["tag", "busybox", &a]);
    let pushed = ours.docker_ok(&["push", &a]);
    let digest = skopeo_digest(&ours, &a);
    assert!(pushed.contains(&digest), "{pushed}");
    let pulled = theirs.docker_ok(&["pull", &b]);
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    assert_eq!(
        inspect(&theirs, &b, "{{.Id}} {{.RootFS.Layers}}"),
        inspect(&ours, &a, "{{.Id}} {{.RootFS.Layers}}")
    );
    // The other way round, with an image of several layers that dockerd compressed.
    theirs.load_bytes(&image(2, 100_000).docker_archive());
    let (b, a) = (there.name("theirs:1"), here.name("theirs:1"));
    theirs.docker_ok(&["tag", "x:latest", &b]);
    let pushed = theirs.docker_ok(&["push", &b]);
    let pulled = ours.docker_ok(&["pull", &a]);
    let digest = skopeo_digest(&ours, &a);
    assert!(pushed.contains(&digest), "{pushed}");
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    assert_eq!(inspect(&ours, &a, "{{.Id}}"), image(2, 100_000).id());
    let size = ours.docker_ok(&["run", "--rm", &a, "sh", "-c", "wc -c < /f1"]);
    assert_eq!(size.trim(), "100000");
    // What they compressed is pushed on as it is.
    let copy = here.name("copy:1");
    ours.docker_ok(&["tag", &a, &copy]);
    ours.docker_ok(&["push", "-q", &copy]);
    assert_eq!(skopeo_digest(&ours, &copy), digest);
}

#[test]
fn skopeo_copies_in_every_form_are_the_same_image() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let registry = DockerRegistry::start(&engine, "registry", PORT);
    let name = registry.name("bb:1");
    engine.docker_ok(&["tag", "busybox", &name]);
    engine.docker_ok(&["push", "-q", &name]);
    let id = inspect(&engine, &name, "{{.Id}}");
    let remote = format!("docker://{name}");
    // Out of the registry as an archive, which is loaded.
    let archive = engine.dir().join("copied.tar");
    let file = archive.to_str().expect("a plain path");
    skopeo(
        &engine,
        &[
            "copy",
            "-q",
            "--src-tls-verify=false",
            &remote,
            &format!("docker-archive:{file}:copied:1"),
        ],
    );
    engine.docker_ok(&["rmi", "-f", &name, "busybox"]);
    engine.docker_ok(&["load", "-q", "-i", file]);
    assert_eq!(inspect(&engine, "copied:1", "{{.Id}}"), id);
    // Saved here, and copied into the registry from both forms of archive.
    let saved = engine.dir().join("saved.tar");
    let file = saved.to_str().expect("a plain path");
    engine.docker_ok(&["save", "-o", file, "copied:1"]);
    for (form, extra) in [
        ("docker-archive", &[][..]),
        ("oci-archive", &[]),
        (
            "oci-archive",
            &["--dest-compress-format=zstd", "--format=oci"],
        ),
    ] {
        let target = registry.name(&format!("from-{form}-{}:1", extra.len()));
        let source = format!("{form}:{file}");
        let to = format!("docker://{target}");
        let mut args = vec!["copy", "-q", "--dest-tls-verify=false"];
        args.extend_from_slice(extra);
        args.extend([source.as_str(), to.as_str()]);
        skopeo(&engine, &args);
        let pulled = engine.docker_ok(&["pull", &target]);
        assert!(
            pulled.contains(&skopeo_digest(&engine, &target)),
            "{pulled}"
        );
        let layers = inspect(&engine, &target, "{{.RootFS.Layers}}");
        assert_eq!(layers, inspect(&engine, "copied:1", "{{.RootFS.Layers}}"));
        let said = engine.docker_ok(&["run", "--rm", &target, "echo", "hi"]);
        assert_eq!(said.trim(), "hi");
    }
}
