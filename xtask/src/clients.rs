//! What the tests of real clients need (`tests/clients`): the clients themselves, of exact versions, and Debian packages for their images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages::{self, Need};
use crate::run::{output, root, run, target_dir};

/// Programs of Debian's.
const NEEDS: &[Need] = &[
    ("/usr/bin/docker-compose", "docker-compose"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// Packages whose programs run in the shop that the clients operate, with libraries that a minimal Debian does not have.
const SHOP: [&str; 10] = [
    "redis-server",
    "redis-tools",
    "nginx",
    "libatomic1",
    "libjemalloc2",
    "liblua5.1-0",
    "liblzf1",
    "libpcre2-8-0",
    "libssl3",
    "lua-bitop",
];

/// Installs what is not there yet and says where.
pub(crate) fn ensure() -> Result<PathBuf> {
    packages::ensure(NEEDS)?;
    let dir = target_dir().join("clients");
    let wanted = root().join("tests/clients");
    python(&dir.join("python"), &wanted.join("python"))?;
    node(&dir.join("node"), &wanted.join("node"))?;
    debian(&dir.join("packages"))?;
    Ok(dir)
}

/// Makes `dir` anew by `fill` unless it was made from the same `list`. The copy of the list is written last.
fn cached(dir: &Path, list: &Path, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = fs::read(list).with_context(|| format!("read {}", list.display()))?;
    let made_from = dir.with_extension("list");
    if fs::read(&made_from).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    fill()?;
    Ok(fs::write(made_from, wanted)?)
}

fn python(dir: &Path, wanted: &Path) -> Result<()> {
    let list = wanted.join("requirements.txt");
    cached(dir, &list, || {
        let mut pip = Command::new("python3");
        if output(pip.args(["-c", "import ensurepip"])).is_err() {
            packages::ensure(&[("/usr/share/doc/python3-venv", "python3-venv")])?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        run(Command::new(dir.join("bin/pip"))
            .args(["install", "--quiet", "--no-deps", "--requirement"])
            .arg(&list))
    })
}

fn node(dir: &Path, wanted: &Path) -> Result<()> {
    cached(dir, &wanted.join("package-lock.json"), || {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(wanted.join(file), dir.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        run(npm.current_dir(dir))
    })
}

/// The newest of each package: what is fetched once is kept.
fn debian(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let have: Vec<String> = fs::read_dir(dir)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let is_missing = |name: &&str| {
        !have
            .iter()
            .any(|file| file.starts_with(&format!("{name}_")))
    };
    let missing: Vec<&str> = SHOP.into_iter().filter(|name| is_missing(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    run(packages::apt_get().arg("update"))?;
    run(packages::apt_get()
        .arg("download")
        .args(&missing)
        .current_dir(dir))?;
    ensure!(
        fs::read_dir(dir)?.count() >= SHOP.len(),
        "packages are missing in {}",
        dir.display()
    );
    Ok(())
}
