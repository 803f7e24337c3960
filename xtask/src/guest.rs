//! `guest`: the launch tests, and an engine with its containers, in a small virtual machine with Debian's stock kernel: cgroup v2 with
//! all controllers, AppArmor, and a kernel older than overlay's `lowerdir+`, whatever the build machine has. Software emulation, about
//! a minute.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, images_dir, output, run, target_dir};
use crate::{images, packages, test};

/// Modules in the order in which they are loaded: overlay for layers, nftables, interfaces, a block device to be throttled, quotas, NFS, file
/// systems and the device mapper of storage drivers.
const MODULES: [&str; 36] = [
    "fs/overlayfs/overlay.ko",
    "crypto/crc32c_generic.ko",
    "lib/libcrc32c.ko",
    "net/netfilter/nfnetlink.ko",
    "net/netfilter/nf_tables.ko",
    "net/llc/llc.ko",
    "net/802/stp.ko",
    "net/802/garp.ko",
    "net/802/mrp.ko",
    "net/8021q/8021q.ko",
    "drivers/net/dummy.ko",
    "drivers/net/macvlan.ko",
    "drivers/net/ipvlan/ipvlan.ko",
    "fs/configfs/configfs.ko",
    // Depends on the one before.
    "drivers/block/null_blk/null_blk.ko",
    "drivers/block/loop.ko",
    "fs/quota/quota_tree.ko",
    "fs/quota/quota_v2.ko",
    "net/sunrpc/sunrpc.ko",
    "net/sunrpc/auth_gss/auth_rpcgss.ko",
    "fs/nfs_common/grace.ko",
    "fs/nfs_common/nfs_acl.ko",
    "fs/lockd/lockd.ko",
    "fs/netfs/netfs.ko",
    "fs/fscache/fscache.ko",
    "fs/nfs/nfs.ko",
    "net/dns_resolver/dns_resolver.ko",
    "fs/nfs/nfsv4.ko",
    "fs/nfsd/nfsd.ko",
    "fs/xfs/xfs.ko",
    "fs/erofs/erofs.ko",
    "drivers/md/dm-mod.ko",
    "drivers/md/dm-bufio.ko",
    "drivers/md/persistent-data/dm-persistent-data.ko",
    "drivers/md/dm-bio-prison.ko",
    // Depends on the three before.
    "drivers/md/dm-thin-pool.ko",
];

/// A systemd that is tried in a container of the guest: programs, and files besides their libraries.
const SYSTEMD: [&str; 6] = [
    "/lib/systemd/systemd",
    "/lib/systemd/systemd-journald",
    "/usr/bin/systemctl",
    "/usr/bin/journalctl",
    "/usr/bin/busctl",
    "/usr/bin/dbus-daemon",
];
const SYSTEMD_FILES: [&str; 2] = [
    "/usr/share/dbus-1/system.conf",
    "/usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf",
];

/// Programs that make and grow file systems; their libraries come with them.
const TOOLS: [&str; 4] = [
    "/usr/sbin/mkfs.ext4",
    "/usr/sbin/mkfs.xfs",
    "/usr/sbin/resize2fs",
    "/usr/sbin/xfs_growfs",
];

/// The kernel starts in a file system that cannot be left with `pivot_root`, so everything moves to a tmpfs first.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t tmpfs -o size=1500m root /new
for f in /*; do case $f in /new) ;; *) cp -a $f /new/ ;; esac; done
mkdir -p /new/proc /new/sys /new/dev /new/tmp
exec switch_root /new /bin/sh /main
";

/// What the tests do.
const MAIN: &str = include_str!("../guest/main.sh");
const VOLUMES: &str = include_str!("../guest/volumes.sh");

/// Their part about storage drivers.
const DRIVERS: &str = include_str!("../guest/drivers.sh");

/// A bundle whose root holds a systemd.
fn pack_systemd(bundle: &Path) -> Result<()> {
    let root = bundle.join("merged");
    for dir in ["etc", "bin", "var/log", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    std::os::unix::fs::symlink("/run", root.join("var/run"))?;
    SYSTEMD
        .iter()
        .try_for_each(|program| copy_program(program, &root))?;
    SYSTEMD_FILES
        .iter()
        .try_for_each(|file| copy_to(file, &root))?;
    copy_to("/bin/busybox", &root)?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\nmessagebus:x:7:7::/:/bin/sh\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nmessagebus:x:7:\n")?;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/systemd");
    run(Command::new("cp")
        .arg("-r")
        .arg(tests.join("."))
        .arg(bundle))
}

/// A program with the libraries it is linked with, at their places below `root`.
fn copy_program(program: &str, root: &Path) -> Result<()> {
    let linked = output(Command::new("ldd").arg(program))?;
    let libraries = linked
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    libraries
        .chain([program])
        .try_for_each(|file| copy_to(file, root))
}

fn copy_to(file: &str, root: &Path) -> Result<()> {
    let to = root.join(file.trim_start_matches('/'));
    fs::create_dir_all(to.parent().context("a path with a directory")?)?;
    fs::copy(file, &to).with_context(|| format!("copy {file}"))?;
    Ok(())
}

/// Builds the tests, boots them, and fails if they did.
pub(crate) fn guest() -> Result<()> {
    packages::ensure(packages::IMAGES)?;
    packages::ensure(packages::GUEST)?;
    images::ensure(&images_dir())?;
    let program = match std::env::var_os("WHARF_BIN") {
        Some(program) => program.into(),
        None => test::build(test::TEST_PROFILE)?,
    };
    let programs = Programs {
        tests: build_tests()?,
        wharf: program,
    };
    let kernel = find_kernel()?;
    let initrd = pack(&target_dir().join("guest"), &programs, &kernel)?;
    let mut qemu = Command::new("qemu-system-x86_64");
    // All that the emulation has, random numbers among it: nothing waits for them.
    qemu.args(["-cpu", "max"]);
    qemu.args(["-m", "3072", "-smp", "2", "-nographic", "-no-reboot"])
        .args(["-accel", "tcg,thread=multi"])
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

/// What is run in the guest.
struct Programs {
    tests: PathBuf,
    wharf: PathBuf,
}

/// An initial file system: busybox, the programs, an image, the modules and AppArmor's parser.
fn pack(work: &Path, programs: &Programs, kernel: &str) -> Result<PathBuf> {
    let root = work.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for dir in [
        "bin", "etc", "cdi", "modules", "new", "proc", "sys", "dev", "tmp",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    for (position, module) in MODULES.iter().enumerate() {
        let from = Path::new("/lib/modules")
            .join(kernel)
            .join("kernel")
            .join(module);
        // What is built in has no file.
        if from.exists() {
            let name = from
                .file_name()
                .context("a module's name")?
                .to_string_lossy();
            // The shell lists them by their text.
            fs::copy(&from, root.join(format!("modules/{position:02}-{name}")))?;
        }
    }
    copy_program("/sbin/apparmor_parser", &root)?;
    pack_systemd(&root.join("systemd"))?;
    TOOLS
        .iter()
        .try_for_each(|tool| copy_program(tool, &root))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    fs::copy(images_dir().join("busybox.tar"), root.join("busybox.tar"))?;
    fs::copy(&programs.tests, root.join("launch"))?;
    fs::copy(&programs.wharf, root.join("wharf"))?;
    run(Command::new("strip")
        .arg(root.join("wharf"))
        .arg(root.join("launch")))?;
    fs::write(root.join("main"), MAIN)?;
    fs::write(root.join("volumes"), VOLUMES)?;
    make_quota_disk(&root.join("quota.img"))?;
    fs::write(root.join("drivers"), DRIVERS)?;
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

/// A small file system that counts by project.
fn make_quota_disk(image: &Path) -> Result<()> {
    fs::File::create(image)?.set_len(96 << 20)?;
    let options = [
        "-q",
        "-F",
        "-O",
        "project,quota",
        "-E",
        "quotatype=prjquota",
    ];
    run(Command::new("/sbin/mkfs.ext4").args(options).arg(image))
}
