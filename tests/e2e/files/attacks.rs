//! Containers and archives that try to reach what is outside: nothing there is read or written.

use std::fs;
use std::path::{Path, PathBuf};

use wharf_e2e::Engine;
use wharf_e2e::archive::TarFile;
use wharf_e2e::images::BUSYBOX;

const SECRET: &str = "what no container may see";

/// A directory of the host with a file that must stay as it is.
struct Outside(PathBuf);

impl Outside {
    fn make(engine: &Engine) -> Outside {
        let dir = engine.dir().join("outside");
        fs::create_dir(&dir).expect("created");
        fs::write(dir.join("precious"), SECRET).expect("written");
        Outside(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    fn assert_untouched(&self, what: &str) {
        let names: Vec<_> = fs::read_dir(&self.0)
            .expect("there")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["precious"], "{what}");
        assert_eq!(
            fs::read_to_string(self.0.join("precious")).expect("there"),
            SECRET,
            "{what}"
        );
    }
}

/// A container that makes `/d` a directory and a link to `target` by turns, as fast as it can.
fn swapper(engine: &Engine, name: &str, target: &str) {
    let script = format!(
        "mkdir /real; echo inside >/real/precious; cp -r /real /d; ln -s {target} /link; touch /ready; while :; do mv /d /was; mv -T /link /d; mv /d /link; mv /was /d; done 2>/dev/null"
    );
    engine.run_detached(
        &["--name", name, "--network", "none"],
        &["sh", "-c", &script],
    );
    engine.docker_ok(&["exec", name, "sh", "-c", "until [ -e /ready ]; do :; done"]);
}

#[test]
fn a_container_that_swaps_directories_and_links_gets_nothing() {
    let engine = Engine::start();
    let outside = Outside::make(&engine);
    let up = format!(
        "{}{}",
        "../".repeat(12),
        outside.path().trim_start_matches('/')
    );
    fs::write(engine.dir().join("payload"), "payload").expect("written");
    let payload = engine.dir().join("payload").display().to_string();
    for (name, target) in [("absolute", outside.path()), ("relative", up.as_str())] {
        swapper(&engine, name, target);
        for _ in 0..15 {
            let out = engine.docker(&["cp", &format!("{name}:/d"), "-"]);
            assert!(!out.stdout.contains(SECRET), "{name}: read from outside");
            let out = engine.docker(&["cp", &format!("{name}:/d/precious"), "-"]);
            assert!(!out.stdout.contains(SECRET), "{name}: read from outside");
            let _ = engine.docker(&["cp", &payload, &format!("{name}:/d/precious")]);
            let _ = engine.docker(&["cp", &payload, &format!("{name}:/d/")]);
            outside.assert_untouched(name);
        }
        engine.docker_ok(&["rm", "-f", name]);
    }
}

fn put(engine: &Engine, container: &str, path: &str, tar: &[u8]) -> u16 {
    let mut connection = engine.api().connect();
    let target = format!("/containers/{container}/archive?path={path}");
    connection
        .send(
            "PUT",
            &target,
            &[("Content-Type", "application/x-tar")],
            tar,
        )
        .expect("sent");
    connection.read_head().expect("an answer").status
}

#[test]
fn hostile_archives_stay_inside() {
    let engine = Engine::start();
    let outside = Outside::make(&engine);
    let target = outside.path();
    let relative = |path: &str| {
        format!(
            "{}{}/{path}",
            "../".repeat(12),
            target.trim_start_matches('/')
        )
    };
    let precious = format!("{target}/precious");
    let hostile = [
        ("dotdot", TarFile::new().file(&relative("a"), b"x")),
        (
            "absolute",
            TarFile::new().file(&format!("{target}/b"), b"x"),
        ),
        (
            "absolute link",
            TarFile::new().symlink("l", target).file("l/c", b"x"),
        ),
        (
            "relative link",
            TarFile::new().symlink("l", &relative("")).file("l/d", b"x"),
        ),
        (
            "over a link",
            TarFile::new().symlink("l", &precious).file("l", b"x"),
        ),
        (
            "hard link",
            TarFile::new()
                .hardlink("h", &relative("precious"))
                .file("h", b"x"),
        ),
        (
            "absolute hard link",
            TarFile::new().hardlink("h", &precious).file("h", b"x"),
        ),
        (
            "hard link through a link",
            TarFile::new()
                .symlink("l", target)
                .hardlink("h", "l/precious"),
        ),
        (
            "looping links",
            TarFile::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/f", b"x"),
        ),
        (
            "directory through a link",
            TarFile::new().symlink("l", target).dir("l/made"),
        ),
        ("device", TarFile::new().char_device("n", 1, 3)),
        (
            "device through a link",
            TarFile::new().symlink("l", target).char_device("l/n", 1, 3),
        ),
        ("set-user-id", TarFile::new().file_mode("s", 0o6755, b"x")),
    ];
    engine.run_detached(&["--name", "running"], &["sleep", "600"]);
    engine.docker_ok(&["create", "--name", "stopped", BUSYBOX]);
    for (what, tar) in hostile {
        let tar = tar.finish();
        for container in ["running", "stopped"] {
            let status = put(&engine, container, "/tmp", &tar);
            assert!(
                matches!(status, 200 | 400 | 403 | 404 | 500),
                "{what}: {status}"
            );
            outside.assert_untouched(what);
        }
    }
    // What is no attack is done, in the container.
    let seen = engine.docker_ok(&["exec", "running", "stat", "-c", "%a %F", "/tmp/s", "/tmp/n"]);
    assert_eq!(seen, "6755 regular file\n666 character special file");
}

#[test]
fn a_subpath_of_a_volume_never_leads_out() {
    let engine = Engine::start();
    if engine.is_reference() {
        return; // newer than it
    }
    let outside = Outside::make(&engine);
    engine.run(&["-v", "shared:/s"], &["sh", "-c", &format!("mkdir /s/good; echo fine >/s/good/precious; ln -s {} /s/bad; ln -s {}{} /s/up; ln -s good /s/inner", outside.path(), "../".repeat(12), outside.path())]);
    let mount = |sub: &str| format!("type=volume,src=shared,dst=/m,volume-subpath={sub}");
    let cat = |sub: &str| {
        engine.docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--mount",
            &mount(sub),
            BUSYBOX,
            "cat",
            "/m/precious",
        ])
    };
    assert_eq!(cat("good").stdout, "fine\n");
    assert_eq!(cat("inner").stdout, "fine\n");
    for sub in ["bad", "up", "none"] {
        let refused = cat(sub);
        assert!(
            refused.code != 0 && !refused.stdout.contains(SECRET),
            "{sub}: {refused:?}"
        );
    }
    // And while another container changes it.
    let script = format!(
        "cd /s; ln -s {} l; mv good d; while :; do mv d w; mv -T l d; mv d l; mv w d; done 2>/dev/null",
        outside.path()
    );
    engine.run_detached(
        &["--name", "swap", "-v", "shared:/s"],
        &["sh", "-c", &script],
    );
    for _ in 0..15 {
        assert!(!cat("d").stdout.contains(SECRET));
    }
    outside.assert_untouched("mounts");
}

#[test]
fn mount_points_that_are_swapped_lead_nowhere() {
    let engine = Engine::start();
    let outside = Outside::make(&engine);
    let script = format!(
        "cd /s; mkdir d; ln -s {} l; touch ready; while :; do mv d w; mv -T l d; mv d l; mv w d; done 2>/dev/null",
        outside.path()
    );
    engine.run_detached(
        &["--name", "swap", "-v", "shared:/s"],
        &["sh", "-c", &script],
    );
    engine.docker_ok(&[
        "exec",
        "swap",
        "sh",
        "-c",
        "until [ -e /s/ready ]; do :; done",
    ]);
    // The mount point is below what is swapped: it is made, or the start fails, but nothing outside is touched.
    for _ in 0..20 {
        let _ = engine.docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            "shared:/s",
            "-v",
            "inner:/s/d/point",
            "--tmpfs",
            "/s/d/memory",
            BUSYBOX,
            "sh",
            "-c",
            "echo x >/s/d/point/f; echo x >/s/d/memory/f",
        ]);
        outside.assert_untouched("mount points");
    }
}

#[test]
fn archives_unpacked_while_directories_move_stay_inside() {
    let engine = Engine::start();
    let outside = Outside::make(&engine);
    swapper(&engine, "mover", outside.path());
    let mut tar = TarFile::new();
    for n in 0..200 {
        tar = tar
            .file(&format!("d/f{n}"), b"x")
            .symlink(&format!("d/l{n}"), "/etc/passwd");
    }
    let tar = tar.finish();
    for _ in 0..10 {
        put(&engine, "mover", "/", &tar);
        outside.assert_untouched("an archive of many entries");
    }
}

#[test]
fn devices_and_pipes_are_not_opened_by_copies() {
    let engine = Engine::start();
    engine.run_detached(&["--name", "odd"], &["sh", "-c", "mkdir /o; mkfifo /o/pipe; mknod /o/null c 1 3; mknod /o/mem c 1 1; touch /ready; sleep 600"]);
    engine.docker_ok(&["exec", "odd", "sh", "-c", "until [ -e /ready ]; do :; done"]);
    // A pipe that nobody writes to would hold a reader for ever.
    let out = engine.dir().join("out");
    engine.docker_ok(&["cp", "odd:/o", out.to_str().expect("plain")]);
    use std::os::unix::fs::FileTypeExt;
    let kind = |name: &str| {
        fs::symlink_metadata(Path::new(&out).join(name))
            .expect("there")
            .file_type()
    };
    assert!(
        kind("pipe").is_fifo() && kind("null").is_char_device() && kind("mem").is_char_device()
    );
}
