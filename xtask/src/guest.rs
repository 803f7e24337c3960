//! `guest`: the launch tests in a small virtual machine with Debian's stock kernel: cgroup v2 with all controllers and a
//! kernel older than overlay's `lowerdir+`, whatever the build machine has. Software emulation, about twenty seconds.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::packages;
use crate::run::{cargo, output, run, target_dir};

const APPLETS: [&str; 10] = [
    "sh",
    "mount",
    "mkdir",
    "cat",
    "cp",
    "insmod",
    "poweroff",
    "switch_root",
    "sync",
    "tr",
];

/// The kernel starts in a file system that cannot be left with `pivot_root`, so everything moves to a tmpfs first.
const INIT: &str = "#!/bin/sh
export PATH=/bin
mount -t tmpfs -o size=900m root /new
cp -a /bin /etc /launch /overlay.ko /main /new/
mkdir -p /new/proc /new/sys /new/dev /new/tmp
exec switch_root /new /bin/sh /main
";

/// Says how the tests ended in a line that [`guest`] looks for.
const MAIN: &str = "export PATH=/bin RUST_BACKTRACE=0 CI=true
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
insmod /overlay.ko
cat /proc/version
/launch
echo guest: exit code $?
poweroff -f
";

/// Builds the tests, boots them, and fails if they did.
pub(crate) fn guest() -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    packages::ensure(packages::GUEST)?;
    let work = target_dir().join("guest");
    let kernel = find_kernel()?;
    let initrd = pack(&work, &build_tests()?, &kernel)?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-m", "2048", "-smp", "2", "-nographic", "-no-reboot"])
        .args(["-append", "console=ttyS0 quiet panic=1"])
        .arg("-kernel")
        .arg(format!("/boot/vmlinuz-{kernel}"))
        .arg("-initrd")
        .arg(&initrd)
        .stdin(Stdio::null());
    let seen = output(&mut qemu)?;
    println!("{seen}");
    ensure!(
        seen.lines().any(|l| l.trim() == "guest: exit code 0"),
        "the tests failed in the guest"
    );
    Ok(())
}

/// Release of an installed Debian cloud kernel, the smallest that has all we need.
fn find_kernel() -> Result<String> {
    let mut releases: Vec<String> = fs::read_dir("/boot")?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
        .filter(|release| release.contains("cloud"))
        .collect();
    releases.sort();
    releases.pop().context("no cloud kernel in /boot")
}

/// The static test program.
fn build_tests() -> Result<PathBuf> {
    let mut build = cargo();
    build.args([
        "test",
        "--package",
        "wharf-runtime",
        "--test",
        "launch",
        "--no-run",
    ]);
    let messages = output(build.arg("--message-format=json"))?;
    let path = messages
        .lines()
        .filter_map(|line| line.split("\"executable\":\"").nth(1))
        .filter_map(|rest| rest.split('"').next())
        .find(|path| path.contains("/launch-"));
    path.map(PathBuf::from)
        .context("cargo names the test program")
}

/// An initial file system: busybox, the tests, the one module they need.
fn pack(work: &Path, tests: &Path, kernel: &str) -> Result<PathBuf> {
    let root = work.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for dir in ["bin", "etc", "new", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let module = format!("/lib/modules/{kernel}/kernel/fs/overlayfs/overlay.ko");
    fs::copy(&module, root.join("overlay.ko")).with_context(|| format!("copy {module}"))?;
    fs::copy(tests, root.join("launch"))?;
    fs::write(root.join("main"), MAIN)?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let initrd = work.join("initrd.gz");
    let script = format!(
        "find . | cpio --quiet --create --format=newc | gzip -1 > {}",
        initrd.display()
    );
    run(Command::new("sh").args(["-c", &script]).current_dir(&root))?;
    Ok(initrd)
}
