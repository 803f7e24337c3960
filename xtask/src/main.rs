//! `cargo xtask <verb>`: what a developer of Wharf runs.

#![forbid(unsafe_code)]

mod clients;
mod dist;
mod guest;
mod images;
mod lint;
mod packages;
mod run;
mod suite;
mod test;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <verb>

  test [ARGS]    install what the tests need, build, make the images, run all tests (ARGS go to `cargo test`)
  images         make the test images in target/images; `--toolchains`: those of compilers too
  bench [ARGS]   time Wharf, against a reference daemon if asked (`cargo xtask bench --help`)
  guest          launch tests and an engine under Debian's stock kernel with cgroup v2 and AppArmor, in a virtual machine
  dist [PROGRAM] a tarball and a Debian package of the release build (or of PROGRAM), in target/dist
  lint           formatting, clippy and documentation";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let verb = args.next();
    let rest: Vec<String> = args.collect();
    match verb.as_deref() {
        Some("test") => test::test(&rest),
        Some("images") => {
            packages::ensure(packages::IMAGES)?;
            images::ensure(&run::images_dir())?;
            if rest.iter().any(|word| word == "--toolchains") {
                images::ensure_toolchains(&run::images_dir())?;
            }
            Ok(())
        }
        Some("bench") => test::bench(&rest),
        Some("guest") => guest::guest(),
        Some("dist") => match rest.first() {
            Some(program) => dist::dist(program.as_ref()),
            None => dist::dist(&test::build("release")?),
        },
        Some("lint") => lint::lint(),
        _ => bail!("{USAGE}"),
    }
}
