//! `dist`: what is given to users. A tarball and a Debian package, both of the one static binary and what belongs around it.
//!
//! ```text
//! target/dist/wharf-<version>-<arch>.tar.gz     wharf-<version>/{bin,systemd,completions,man,…}
//! target/dist/wharf_<version>_<arch>.deb        /usr/bin/wharf, units, completions, manual, /etc/wharf/daemon.json
//! ```
//!
//! Both are the same bytes for the same binary and `SOURCE_DATE_EPOCH`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{output, root, target_dir};

/// Shells whose completions are packed: name for `wharf completion`, file below `usr/share`.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/wharf"),
    ("zsh", "zsh/vendor-completions/_wharf"),
    ("fish", "fish/vendor_completions.d/wharf.fish"),
];

/// One file of the package: its place, its content, whether it is a program.
struct Piece {
    path: String,
    content: Vec<u8>,
    program: bool,
}

/// The tarball and the package of `program`.
pub(crate) fn dist(program: &Path) -> Result<()> {
    let dir = target_dir().join("dist");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let made = [tarball(program, &dir)?, deb(program, &dir)?];
    for file in made {
        println!("{}", file.display());
    }
    Ok(())
}

fn tarball(program: &Path, dir: &Path) -> Result<PathBuf> {
    let name = format!("wharf-{}", version());
    let tree = dir.join(&name);
    let mut pieces = vec![piece("bin/wharf", fs::read(program)?, true)];
    for file in ["README.md", "CHANGELOG.md", "LICENSE"] {
        pieces.push(piece(file, fs::read(root().join(file))?, false));
    }
    for file in ["wharf.service", "wharf.socket", "daemon.json"] {
        let content = fs::read(root().join("contrib").join(file))?;
        pieces.push(piece(&format!("contrib/{file}"), content, false));
    }
    pieces.extend(shared(program, "share")?);
    write(&tree, pieces)?;
    let file = dir.join(format!("{name}-{}.tar.gz", std::env::consts::ARCH));
    let tar = Command::new("tar")
        .args([
            "--create",
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
        ])
        .args([
            &format!("--mtime=@{}", epoch()),
            "--use-compress-program=gzip -n -9",
        ])
        .arg("--file")
        .arg(&file)
        .arg("--directory")
        .args([dir, Path::new(&name)])
        .status()?;
    ensure!(tar.success(), "tar: {tar}");
    fs::remove_dir_all(&tree)?;
    Ok(file)
}

/// The Debian package alone, of any build; where it is.
pub(crate) fn deb(program: &Path, dir: &Path) -> Result<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no name for the architecture {other} in Debian"),
    };
    fs::create_dir_all(dir)?;
    let tree = dir.join("deb");
    let _ = fs::remove_dir_all(&tree);
    let contrib = |file: &str| {
        fs::read_to_string(root().join("contrib").join(file))
            .with_context(|| format!("read contrib/{file}"))
    };
    let mut pieces = vec![piece("usr/bin/wharf", fs::read(program)?, true)];
    for unit in ["wharf.service", "wharf.socket"] {
        let content = contrib(unit)?.replace("/usr/local/bin/", "/usr/bin/");
        pieces.push(piece(
            &format!("lib/systemd/system/{unit}"),
            content.into(),
            false,
        ));
    }
    pieces.push(piece(
        "etc/wharf/daemon.json",
        contrib("daemon.json")?.into(),
        false,
    ));
    pieces.push(piece(
        "usr/share/doc/wharf/copyright",
        copyright().into(),
        false,
    ));
    pieces.push(piece(
        "DEBIAN/conffiles",
        b"/etc/wharf/daemon.json\n".to_vec(),
        false,
    ));
    for script in ["postinst", "prerm", "postrm"] {
        pieces.push(piece(
            &format!("DEBIAN/{script}"),
            contrib(&format!("deb/{script}"))?.into(),
            true,
        ));
    }
    pieces.extend(shared(program, "usr/share")?);
    let size: usize = pieces.iter().map(|piece| piece.content.len()).sum();
    pieces.push(piece(
        "DEBIAN/control",
        control(arch, size / 1024).into(),
        false,
    ));
    write(&tree, pieces)?;
    let file = dir.join(format!("wharf_{}_{arch}.deb", version()));
    output(
        Command::new("dpkg-deb")
            .env("SOURCE_DATE_EPOCH", epoch())
            .args(["--root-owner-group", "-Zgzip", "--build"])
            .args([&tree, &file]),
    )?;
    fs::remove_dir_all(&tree)?;
    Ok(file)
}

/// Completions and the manual, below `share`.
fn shared(program: &Path, share: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (shell, place) in SHELLS {
        let script = output(Command::new(program).args(["completion", shell]))?;
        pieces.push(piece(&format!("{share}/{place}"), script.into(), false));
    }
    pieces.extend(manual(program, share)?);
    Ok(pieces)
}

/// Every page of the manual, as `wharf man` writes them.
fn manual(program: &Path, share: &str) -> Result<Vec<Piece>> {
    let pages = tempfile::tempdir()?;
    output(Command::new(program).arg("man").arg(pages.path()))?;
    let mut pieces = Vec::new();
    for entry in fs::read_dir(pages.path())? {
        let entry = entry?;
        let name = entry.file_name();
        let path = format!("{share}/man/man1/{}", name.to_string_lossy());
        pieces.push(piece(&path, fs::read(entry.path())?, false));
    }
    pieces.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(pieces)
}

fn piece(path: &str, content: Vec<u8>, program: bool) -> Piece {
    Piece {
        path: path.to_owned(),
        content,
        program,
    }
}

fn write(tree: &Path, pieces: Vec<Piece>) -> Result<()> {
    for piece in pieces {
        let path = tree.join(&piece.path);
        fs::create_dir_all(path.parent().context("below the tree")?)?;
        fs::write(&path, &piece.content).with_context(|| format!("write {}", path.display()))?;
        let mode = if piece.program { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// When the packed files were made, as far as anybody can see.
fn epoch() -> String {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let committed = || {
        let mut git = Command::new("git");
        git.current_dir(root()).args(["log", "-1", "--format=%ct"]);
        output(&mut git).ok().map(|text| text.trim().to_owned())
    };
    given
        .or_else(committed)
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "0".into())
}

fn control(arch: &str, kib: usize) -> String {
    format!(
        "Package: wharf\nVersion: {}\nArchitecture: {arch}\nSection: admin\nPriority: optional\nMaintainer: The Wharf project\n\
         Installed-Size: {kib}\nRecommends: nftables | iptables, ca-certificates\nSuggests: fuse-overlayfs, btrfs-progs\n\
         Description: container engine that Docker's clients cannot tell from Docker\n \
         One static binary: daemon with the Docker Engine API, command line, OCI runtime.\n \
         Containers start in milliseconds and outlive their daemon.\n",
        version()
    )
}

fn copyright() -> String {
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
     Files: *\nCopyright: the authors of Wharf\nLicense: Apache-2.0\n \
     On Debian systems the licence is in /usr/share/common-licenses/Apache-2.0.\n"
        .into()
}
