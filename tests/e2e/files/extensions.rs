//! What is newer than the reference, and what Docker does not have: image mounts, volumes renamed, cloned, exported.

use std::fs;

use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind};

fn engine() -> Option<Engine> {
    (Kind::from_env() == Kind::Wharf).then(Engine::start)
}

fn wharf_ok(engine: &Engine, args: &[&str]) -> String {
    let output = engine.wharf(args);
    assert_eq!(output.code, 0, "wharf {args:?}: {output:?}");
    output.stdout.trim_end().to_owned()
}

fn in_volume(engine: &Engine, volume: &str, script: &str) -> String {
    engine.run(&["-v", &format!("{volume}:/v")], &["sh", "-c", script])
}

#[test]
fn images_can_be_mounted_whole_or_in_part() {
    let Some(engine) = engine() else { return };
    engine.docker_ok(&[
        "run",
        "--name",
        "maker",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "mkdir -p /data/sub; echo content >/data/sub/file; ln -s / /data/out",
    ]);
    engine.docker_ok(&["commit", "maker", "data"]);
    let mount = |rest: &str| format!("type=image,source=data,target=/m{rest}");
    let run =
        |rest: &str, script: &str| engine.run(&["--mount", &mount(rest)], &["sh", "-c", script]);
    assert_eq!(
        run("", "cat /m/data/sub/file; ls -d /m/bin"),
        "content\n/m/bin"
    );
    assert_eq!(run(",image-subpath=data/sub", "ls /m"), "file");
    assert_eq!(run(",image-subpath=data/sub/file", "cat /m"), "content");
    assert_eq!(
        run(",readonly", "touch /m/x 2>&1 || true"),
        "touch: /m/x: Read-only file system"
    );
    // What is written goes with the container.
    assert_eq!(run("", "touch /m/new; ls /m/new"), "/m/new");
    assert_eq!(
        run("", "ls /m/new 2>&1 || true"),
        "ls: /m/new: No such file or directory"
    );
    let message = |sub: &str| {
        let args = [
            "run",
            "--rm",
            "--mount",
            &mount(&format!(",image-subpath={sub}")),
            BUSYBOX,
            "true",
        ];
        engine.docker(&args).stderr
    };
    assert!(message("data/none").contains("cannot access path"));
    assert!(message("data/out").contains("path concatenation escapes the base directory"));
    for bad in ["none", "data/out", "../x"] {
        let output = engine.docker(&[
            "run",
            "--rm",
            "--mount",
            &mount(&format!(",image-subpath={bad}")),
            BUSYBOX,
            "true",
        ]);
        assert_ne!(output.code, 0, "{bad}");
    }
    engine.docker_ok(&["create", "--name", "shown", "--mount", &mount(""), BUSYBOX]);
    assert_eq!(
        engine.inspect(
            "shown",
            "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end}}"
        ),
        "image /m true"
    );
}

#[test]
fn volumes_are_renamed_cloned_and_snapshotted() {
    let Some(engine) = engine() else { return };
    engine.docker_ok(&["volume", "create", "--label", "kind=test", "one"]);
    in_volume(
        &engine,
        "one",
        "echo text >/v/f; ln /v/f /v/g; chown 5:6 /v/f; chmod 4711 /v/f",
    );
    engine.docker_ok(&["create", "--name", "user", "-v", "one:/v", BUSYBOX]);
    let refused = engine.wharf(&["volume", "rename", "one", "two"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("volume is in use"),
        "{refused:?}"
    );
    engine.docker_ok(&["rm", "user"]);
    wharf_ok(&engine, &["volume", "rename", "one", "two"]);
    assert_eq!(engine.docker_ok(&["volume", "ls", "-q"]), "two");
    assert_eq!(
        wharf_ok(&engine, &["volume", "clone", "two", "three"]),
        "three"
    );
    assert_eq!(
        in_volume(&engine, "three", "cat /v/f; stat -c '%a %u %g %h' /v/f"),
        "text\n4711 5 6 2"
    );
    in_volume(&engine, "three", "echo other >/v/f");
    assert_eq!(in_volume(&engine, "two", "cat /v/f"), "text");
    let snapshot = wharf_ok(&engine, &["volume", "snapshot", "two"]);
    assert!(snapshot.starts_with("two-2"), "{snapshot}");
    let labels = engine.docker_ok(&["volume", "inspect", "-f", "{{json .Labels}}", &snapshot]);
    assert_eq!(labels, r#"{"kind":"test","wharf.snapshot.of":"two"}"#);
    for args in [["clone", "two", "three"], ["rename", "two", "three"]] {
        let refused = engine.wharf(&[&["volume"], &args[..]].concat());
        assert!(
            refused.code == 1 && refused.stderr.contains("exists already"),
            "{refused:?}"
        );
    }
    assert_eq!(engine.wharf(&["volume", "clone", "none", "four"]).code, 1);
}

#[test]
fn volumes_are_exported_and_imported() {
    let Some(engine) = engine() else { return };
    in_volume(
        &engine,
        "from",
        "mkdir /v/d; echo text >/v/d/f; ln -s d/f /v/l; chown 7:8 /v/d/f",
    );
    let archive = engine.dir().join("volume.tar").display().to_string();
    wharf_ok(&engine, &["volume", "export", "-o", &archive, "from"]);
    assert!(fs::metadata(&archive).expect("there").len() > 2048);
    assert_eq!(
        wharf_ok(&engine, &["volume", "import", "to", &archive]),
        "to"
    );
    assert_eq!(
        in_volume(&engine, "to", "cat /v/l; stat -c '%u %g' /v/d/f"),
        "text\n7 8"
    );
    fs::write(&archive, "nonsense".repeat(100)).expect("written");
    assert_eq!(engine.wharf(&["volume", "import", "to", &archive]).code, 1);
}
