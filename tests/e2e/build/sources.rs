//! Where files come from: named contexts, repositories, mounts; and `--squash`.

use std::path::Path;
use std::process::Command;

use wharf_e2e::Engine;
use wharf_e2e::file_server::FileServer;

use super::{cat, directory, wharf_build, wharf_build_fails};

#[test]
fn named_contexts_take_the_place_of_images_and_stages() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let file = "FROM base AS one\nCOPY --from=files f /f\nRUN --mount=from=files,target=/m cat /m/f > /mounted\n\
                FROM replaced AS two\nRUN false\nFROM scratch AS from-files\nFROM files\nCOPY --from=one /bin /bin\nCOPY --from=one /f /mounted /\n\
                COPY --from=two /bin/busybox /two\n";
    let dir = directory(&engine, "context", &[("Dockerfile", file)]);
    let files = directory(
        &engine,
        "files",
        &[
            ("f", "content\n"),
            ("own", "own\n"),
            ("left", "x"),
            (".dockerignore", "left\n"),
        ],
    );
    let said = wharf_build(
        &engine,
        &[
            "--build-context",
            &format!("files={files}"),
            "--build-context",
            "base=docker-image://busybox",
            "--build-context",
            "two=docker-image://busybox:latest",
            "-t",
            "named",
            &dir,
        ],
    );
    assert!(!said.contains("RUN false"), "{said}");
    for (path, expected) in [("/f", "content"), ("/mounted", "content"), ("/own", "own")] {
        assert_eq!(cat(&engine, "named", path), expected);
    }
    let gone = engine.docker(&["run", "--rm", "--network", "none", "named", "cat", "/left"]);
    assert_eq!(gone.code, 1);
    let again = wharf_build(
        &engine,
        &[
            "--build-context",
            &format!("files={files}"),
            "--build-context",
            "base=docker-image://busybox",
            "--build-context",
            "two=docker-image://busybox:latest",
            &dir,
        ],
    );
    assert_eq!(again.matches("CACHED").count(), 5, "{again}");
    let wrong = wharf_build_fails(&engine, &["--build-context", "x=/not/there", &dir]);
    assert!(wrong.contains("no such directory"), "{wrong}");
}

#[test]
fn a_layout_can_be_a_context() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let dir = directory(
        &engine,
        "context",
        &[("Dockerfile", "FROM busybox\nRUN echo one > /one\n")],
    );
    let layout = engine.dir().join("layout").display().to_string();
    let output = format!("type=oci,dest={layout},tar=false");
    let _ = wharf_build(&engine, &["-t", "one:first", "--output", &output, &dir]);
    let dir = directory(
        &engine,
        "second",
        &[("Dockerfile", "FROM base\nRUN cat /one > /two\n")],
    );
    for name in [format!("{layout}:first"), layout.clone()] {
        let context = format!("base=oci-layout://{name}");
        let _ = wharf_build(
            &engine,
            &["--no-cache", "--build-context", &context, "-t", "two", &dir],
        );
        assert_eq!(cat(&engine, "two", "/two"), "one");
    }
    let wrong = format!("base=oci-layout://{layout}:other");
    let said = wharf_build_fails(&engine, &["--build-context", &wrong, &dir]);
    assert!(said.contains("no image"), "{said}");
}

/// A repository with two commits, as files of a web server that knows nothing of git.
pub(super) fn repository(engine: &Engine) -> (FileServer, String) {
    let dir = engine.dir().join("repository");
    std::fs::create_dir_all(dir.join("sub")).expect("a directory");
    git(&dir, &["init", "-q", "-b", "main", "."]);
    std::fs::write(dir.join("Dockerfile"), "FROM busybox\nCOPY . /src\n").expect("a file");
    std::fs::write(dir.join("sub/Dockerfile"), "FROM busybox\nCOPY . /sub\n").expect("a file");
    std::fs::write(dir.join("version"), "one\n").expect("a file");
    git(&dir, &["add", "-A"]);
    git(&dir, &["commit", "-q", "-m", "one"]);
    git(&dir, &["tag", "v1"]);
    std::fs::write(dir.join("version"), "two\n").expect("a file");
    git(&dir, &["commit", "-q", "-a", "-m", "two"]);
    let commit = git(&dir, &["rev-parse", "HEAD"]);
    let served = engine.dir().join("served");
    std::fs::create_dir_all(&served).expect("a directory");
    let bare = served.join("r.git").display().to_string();
    git(&dir, &["clone", "-q", "--bare", ".", &bare]);
    git(Path::new(&bare), &["update-server-info"]);
    (FileServer::directory(engine, &served), commit)
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args([
            "-c",
            "user.name=somebody",
            "-c",
            "user.email=somebody@example.com",
        ])
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", dir)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn add_takes_repositories_and_archives_from_elsewhere() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let (server, commit) = repository(&engine);
    let address = &server.address;
    let tar = wharf_e2e::archive::gzip(
        &wharf_e2e::archive::TarFile::new()
            .file("in", b"in\n")
            .finish(),
    );
    let web = FileServer::start(&engine, &[("/a.tgz", "application/gzip", &tar)]);
    let file = format!(
        "FROM busybox\nADD {address}/r.git /a/\nADD --keep-git-dir=true --checksum={} {address}/r.git#main /b/\n\
         ADD {address}/r.git#v1:sub /c\nADD --unpack=true {}/a.tgz /u\nADD {}/a.tgz /plain\nRUN ls -a /a /b /c > /list\n",
        &commit[..12],
        web.address,
        web.address
    );
    let dir = directory(&engine, "context", &[("Dockerfile", &file)]);
    let _ = wharf_build(&engine, &["-t", "added", &dir]);
    assert_eq!(cat(&engine, "added", "/a/version"), "two");
    assert_eq!(cat(&engine, "added", "/u/in"), "in");
    let list = cat(&engine, "added", "/list");
    assert_eq!(list.matches(".git").count(), 1, "{list}");
    let again = wharf_build(&engine, &[&dir]);
    assert_eq!(again.matches("CACHED").count(), 6, "{again}");
    let wrong = file.replace("--checksum=", "--checksum=f00");
    let dir = directory(&engine, "wrong", &[("Dockerfile", &wrong)]);
    let said = wharf_build_fails(&engine, &[&dir]);
    assert!(said.contains("expected checksum to match f00"), "{said}");
    let trash = engine.data_root().join("trash");
    let left: Vec<_> = std::fs::read_dir(trash).expect("a directory").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn squashing_makes_one_layer() {
    let engine = Engine::options().flag("--experimental").start();
    engine.load("busybox.tar");
    let file = "FROM busybox\nRUN mkdir /d && echo one > /d/one && rm /bin/awk && chmod 700 /tmp\nCOPY a /d/two\n\
                RUN rm /d/one && ln /d/two /d/three\nENV A=b\n";
    let dir = directory(&engine, "context", &[("Dockerfile", file), ("a", "two\n")]);
    let mut command = engine.docker_command(&["build", "--squash", "-t", "squashed", &dir]);
    let output = wharf_e2e::cli::Running::start(command.env("DOCKER_BUILDKIT", "0")).finish();
    assert_eq!(output.code, 0, "{}", output.stderr);
    let layers = engine.inspect("squashed", "{{len .RootFS.Layers}} {{.Config.Env}}");
    assert!(
        layers.starts_with("2 ") && layers.contains("A=b"),
        "{layers}"
    );
    let history = engine.docker_ok(&["history", "--no-trunc", "squashed"]);
    assert!(history.contains("merge sha256:"), "{history}");
    let script = "ls /d; cat /d/three; ls /bin/awk; stat -c %a /tmp; stat -c %h /d/two";
    let output = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "squashed",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(
        output.stdout, "three\ntwo\ntwo\n700\n2\n",
        "{}",
        output.stderr
    );
    let plain = Engine::start();
    let said = plain.docker_fails(&["build", "--squash", &dir], 1);
    assert!(
        said.contains("squash") && said.contains("experimental"),
        "{said}"
    );
}
