//! Binds and volumes whose files have other owners inside than on disk.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind};

const LOOK: &str = "stat -c '%u %g' /m/f; echo x >/m/new; stat -c '%u %g' /m/new";

#[test]
fn owners_of_binds_and_volumes_are_mapped() {
    if Kind::from_env() == Kind::Reference {
        return; // not in Docker
    }
    let engine = Engine::start();
    let dir = engine.dir().join("mapped");
    fs::create_dir(&dir).expect("created");
    fs::set_permissions(
        engine.dir(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("mode");
    fs::write(dir.join("f"), "").expect("written");
    for path in [&dir, &dir.join("f")] {
        chown(path, Some(7), Some(8)).expect("owned");
    }
    let map = "uids=7-1000-1;gids=8-2000-1";
    let owner = |name: &str| {
        let found = fs::metadata(dir.join(name)).expect("there");
        (found.uid(), found.gid())
    };
    // The stock CLI passes the mode of `-v` on; ours knows the key of `--mount`.
    let bind = format!("{}:/m:idmap={map}", dir.display());
    let user = ["--user", "1000:2000"];
    let seen = engine.run(&[&user[..], &["-v", &bind]].concat(), &["sh", "-c", LOOK]);
    assert_eq!(seen, "1000 2000\n1000 2000");
    assert_eq!(owner("new"), (7, 8));
    fs::remove_file(dir.join("new")).expect("removed");
    let mount = format!("type=bind,src={},dst=/m,idmap={map}", dir.display());
    let ours = engine.wharf(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "1000:2000",
        "--mount",
        &mount,
        BUSYBOX,
        "sh",
        "-c",
        LOOK,
    ]);
    assert_eq!(
        (ours.code, ours.stdout.as_str()),
        (0, "1000 2000\n1000 2000\n"),
        "{ours:?}"
    );
    assert_eq!(owner("new"), (7, 8));
    // A copy sees what the container would.
    let listed = |name: &str| engine.docker_ok(&["cp", &format!("{name}:/m/f"), "-"]);
    engine.docker_ok(&["create", "--name", "stopped", "-v", &bind, BUSYBOX]);
    let tar = listed("stopped");
    assert_eq!(
        &tar[108..115],
        "0001750",
        "the owner in the archive, in octal"
    );
    // Volumes, too.
    engine.run(
        &["-v", "vol:/m"],
        &["sh", "-c", "touch /m/f; chown 7:8 /m /m/f"],
    );
    let volume = format!("vol:/m:idmap={map}");
    let seen = engine.run(&[&user[..], &["-v", &volume]].concat(), &["sh", "-c", LOOK]);
    assert_eq!(seen, "1000 2000\n1000 2000");
    for (mode, message) in [
        (
            "idmap",
            "idmap without ranges needs a container with a user namespace",
        ),
        ("idmap=uids=1", "invalid idmap"),
    ] {
        let bind = format!("{}:/m:{mode}", dir.display());
        let refused = engine.docker(&["run", "--rm", "-v", &bind, BUSYBOX, "true"]);
        assert!(
            refused.code != 0 && refused.stderr.contains(message),
            "{refused:?}"
        );
    }
}

#[test]
fn a_container_with_ids_of_its_own_can_own_a_bind() {
    if Kind::from_env() == Kind::Reference {
        return;
    }
    let engine = Engine::start();
    let dir = engine.dir().join("own");
    fs::create_dir(&dir).expect("created");
    fs::write(dir.join("f"), "").expect("written");
    let run = |mode: &str| {
        let bind = format!("{}:/m:{mode}", dir.display());
        let args = [
            "run",
            "--rm",
            "--network",
            "none",
            "--userns",
            "auto",
            "-v",
            &bind,
            BUSYBOX,
            "stat",
            "-c",
            "%u",
            "/m/f",
        ];
        let output = engine.wharf(&args);
        assert_eq!(output.code, 0, "{output:?}");
        output.stdout.trim_end().to_owned()
    };
    // Copies and exports speak of the container's ids, whether it runs or not.
    let name = [
        "run",
        "-d",
        "--name",
        "ids",
        "--network",
        "none",
        "--userns",
        "auto",
        BUSYBOX,
        "sleep",
        "600",
    ];
    assert_eq!(engine.wharf(&name).code, 0);
    chown(dir.join("f"), Some(5), Some(6)).expect("owned");
    let file = dir.join("f").display().to_string();
    let owner = |path: &str| {
        let tar = engine.docker_ok(&["cp", &format!("ids:{path}"), "-"]);
        tar[108..123].replace('\0', " ")
    };
    for (path, running) in [("/one", true), ("/two", false)] {
        if !running {
            engine.docker_ok(&["kill", "ids"]);
            engine.docker_ok(&["wait", "ids"]);
        }
        engine.docker_ok(&["cp", "-a", &file, &format!("ids:{path}")]);
        assert_eq!(owner(path), "0000005 0000006", "{path}");
        assert_eq!(owner("/one"), "0000005 0000006");
    }
    chown(dir.join("f"), Some(0), Some(0)).expect("owned");
    assert_eq!(run("rw"), "65534");
    assert_eq!(run("idmap"), "0");
    assert_eq!(run("idmap=uids=@0-5-1"), "5");
}
