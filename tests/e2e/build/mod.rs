//! Building images with `POST /build`, `docker build` and `wharf build`.

mod case;
mod cli;
mod faults;
mod golden;
mod nginx;
mod outputs;
mod remote;
mod secrets;
mod services;
mod sources;

use std::path::Path;

use wharf_e2e::Engine;
use wharf_e2e::cli::Output;

/// A directory of that name with files.
fn directory(engine: &Engine, name: &str, files: &[(&str, &str)]) -> String {
    let dir = engine.dir().join(name);
    for (name, content) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }
    dir.display().to_string()
}

/// `wharf build …` that must succeed: what it says.
fn wharf_build(engine: &Engine, args: &[&str]) -> String {
    let output = wharf_build_ends(engine, args);
    assert_eq!(output.code, 0, "{}\n{}", output.stderr, engine.log_tail());
    output.stderr
}

/// `wharf build …` that must fail: what it says.
fn wharf_build_fails(engine: &Engine, args: &[&str]) -> String {
    let output = wharf_build_ends(engine, args);
    assert_ne!(output.code, 0, "{}", output.stderr);
    output.stderr
}

fn wharf_build_ends(engine: &Engine, args: &[&str]) -> Output {
    let mut all = vec!["build", "--progress", "plain"];
    all.extend_from_slice(args);
    engine.wharf(&all)
}

/// What `cat` says in a container of an image.
fn cat(engine: &Engine, image: &str, path: &str) -> String {
    engine.docker_ok(&["run", "--rm", "--network", "none", image, "cat", path])
}

/// Whether bytes are in a file below a directory.
fn is_below(directory: &Path, needle: &[u8]) -> Option<String> {
    let entries = std::fs::read_dir(directory).ok()?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            if let Some(found) = is_below(&path, needle) {
                return Some(found);
            }
        } else if kind.is_file()
            && std::fs::read(&path)
                .is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle))
        {
            return Some(path.display().to_string());
        }
    }
    None
}
