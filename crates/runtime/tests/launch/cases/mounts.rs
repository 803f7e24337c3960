//! The root file system and what is mounted in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;
use wharf_spec::rootfs::RootfsMount;

use super::sh;
use crate::bed::{Bed, is_v2};

pub fn default_mounts_are_dockers() {
    let mut bed = Bed::new(&[]);
    let seen = sh(
        &mut bed,
        "grep -v -e ^overlay -e ' /sys/fs/cgroup' /proc/mounts | grep -v -e ' /proc/' -e ' /sys/f'",
    );
    let expected = "\
proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0
tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755 0 0
devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666 0 0
sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0
mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime 0 0
shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k 0 0";
    assert_eq!(seen.replace(",inode64", ""), expected);
    // Binds are listed where the plan has them, not where they were opened.
    bed.mount("/bound", "bind", "/etc", &["rbind"]);
    bed.mount("/last", "tmpfs", "tmpfs", &[]);
    assert_eq!(
        sh(
            &mut bed,
            "grep -o -e ' /dev/shm ' -e ' /bound ' -e ' /last ' /proc/mounts"
        ),
        "/dev/shm \n /bound \n /last"
    );
    bed.spec["mounts"].as_array_mut().expect("list").truncate(7);
    let groups = sh(
        &mut bed,
        "grep ' /sys/fs/cgroup' /proc/mounts; cat /proc/self/cgroup",
    );
    if is_v2() {
        assert!(
            groups.starts_with("cgroup /sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec,relatime"),
            "{groups}"
        );
        assert!(groups.ends_with("0::/"), "{groups}");
    } else {
        assert!(groups.contains(
            "cgroup /sys/fs/cgroup/memory cgroup ro,nosuid,nodev,noexec,relatime,memory 0 0"
        ));
        assert!(groups.contains(":memory:/\n"), "{groups}");
        assert!(
            !groups.contains("wharf-test"),
            "the cgroup namespace hides where we are: {groups}"
        );
    }
    // With the host's cgroup namespace the container's own directory is bound, and the path is the host's.
    bed.spec["linux"]["namespaces"]
        .as_array_mut()
        .expect("list")
        .retain(|n| n["type"] != "cgroup");
    let file = if is_v2() {
        "/sys/fs/cgroup/cgroup.procs"
    } else {
        "/sys/fs/cgroup/memory/cgroup.procs"
    };
    let groups = sh(
        &mut bed,
        &format!("grep -c . {file}; cat /proc/self/cgroup"),
    );
    assert!(
        groups.starts_with("2\n") && groups.contains(&bed.id),
        "{groups}"
    );
}

pub fn masked_and_readonly_paths_hold() {
    let mut bed = Bed::new(&[]);
    bed.spec["linux"]["maskedPaths"] = json!([
        "/proc/timer_list",
        "/sys/firmware",
        "/no/such/path",
        "/etc/secret/deep"
    ]);
    fs::create_dir_all(bed.lower().join("etc/secret/deep/er")).expect("dir");
    let seen = sh(
        &mut bed,
        "wc -c < /proc/timer_list; ls /sys/firmware | wc -l; ls /etc/secret/deep | wc -l; \
        touch /etc/secret/deep/x 2>/dev/null || echo refused; \
        echo 1 2>/dev/null > /proc/sys/kernel/hostname || echo refused; cat /proc/sys/kernel/hostname",
    );
    assert_eq!(
        seen.replace(
            "sh: can't create /proc/sys/kernel/hostname: Read-only file system\n",
            ""
        ),
        "0\n0\n0\nrefused\nrefused\ntesthost"
    );
    // Two masks of one kind are independent mounts of the same empty thing.
    let count = sh(
        &mut bed,
        "grep -c -e ' /sys/firmware ' -e ' /etc/secret/deep ' /proc/mounts",
    );
    assert_eq!(count, "2");
}

pub fn a_readonly_root_refuses_writes() {
    let mut bed = Bed::new(&[]);
    bed.spec["root"]["readonly"] = json!(true);
    bed.mount("/scratch", "tmpfs", "tmpfs", &["nosuid"]);
    let seen = sh(
        &mut bed,
        "touch /x 2>/dev/null || echo refused; touch /scratch/x && echo fine; grep -c ' / overlay ro' /proc/mounts",
    );
    assert_eq!(seen, "refused\nfine\n1");
}

pub fn binds_show_the_host() {
    let mut bed = Bed::new(&[]);
    let host = bed.dir.join("host");
    fs::create_dir_all(host.join("sub")).expect("dir");
    fs::write(host.join("file"), "from host\n").expect("file");
    let source = |p: &str| host.join(p).display().to_string();
    bed.mount("/made/for/it", "bind", &source(""), &["rbind", "rprivate"]);
    bed.mount(
        "/ro",
        "bind",
        &source(""),
        &["rbind", "ro", "rprivate", "nosuid"],
    );
    bed.mount(
        "/etc/one-file",
        "bind",
        &source("file"),
        &["rbind", "rprivate"],
    );
    // A path that climbs to `/` still means the host's.
    bed.mount(
        "/climbed",
        "bind",
        &format!("/tmp/..{}", source("file")),
        &["rbind"],
    );
    let seen = sh(
        &mut bed,
        "cat /climbed /made/for/it/file /etc/one-file; echo new > /made/for/it/new; \
        touch /ro/x 2>/dev/null || echo refused; grep -o ' /ro [^ ]* ro,nosuid' /proc/mounts | wc -l",
    );
    assert_eq!(seen, "from host\nfrom host\nfrom host\nrefused\n1");
    assert_eq!(
        fs::read_to_string(host.join("new")).expect("written"),
        "new\n"
    );
}

/// Mount points that the image has turned into links out of its root.
pub fn links_in_the_image_stay_inside() {
    let mut bed = Bed::new(&[]);
    let host = bed.dir.join("host");
    fs::create_dir_all(&host).expect("dir");
    let outside = bed.dir.join("outside");
    symlink(&outside, bed.lower().join("escape")).expect("link");
    symlink(
        format!("../../../..{}", outside.display()),
        bed.lower().join("climb"),
    )
    .expect("link");
    bed.mount("/escape/a", "bind", &host.display().to_string(), &["rbind"]);
    bed.mount("/climb", "tmpfs", "tmpfs", &[]);
    sh(&mut bed, "true");
    assert!(!outside.exists(), "a mount point was made on the host");
    assert!(
        bed.dir
            .join("upper")
            .join(outside.strip_prefix("/").expect("absolute"))
            .join("a")
            .exists()
    );
    // For the kernel's own file systems no link is followed at all.
    let bed = Bed::new(&["true"]);
    symlink("/tmp", bed.lower().join("proc")).expect("link");
    let error = bed.try_run().expect_err("refused");
    assert!(
        error
            .message
            .starts_with("error mounting \"proc\" to rootfs at \"/proc\""),
        "{error}"
    );
}

pub fn tmpfs_keeps_the_mode_it_covers() {
    let mut bed = Bed::new(&[]);
    fs::set_permissions(bed.lower().join("tmp"), fs::Permissions::from_mode(0o1777))
        .expect("chmod");
    bed.mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "size=1m"]);
    bed.mount("/given", "tmpfs", "tmpfs", &["mode=700"]);
    assert_eq!(sh(&mut bed, "stat -c %a /tmp /given"), "1777\n700");
}

pub fn shared_binds_travel_to_the_host() {
    let mut bed = Bed::new(&[]);
    let host = bed.dir.join("host");
    fs::create_dir_all(host.join("point")).expect("dir");
    // A mount of its own, shared.
    rustix::mount::mount_bind(&host, &host).expect("bind");
    rustix::mount::mount_change(&host, rustix::mount::MountPropagationFlags::SHARED)
        .expect("shared");
    bed.spec["linux"]["rootfsPropagation"] = json!("rshared");
    bed.mount(
        "/shared",
        "bind",
        &host.display().to_string(),
        &["rbind", "rshared"],
    );
    let all: Vec<String> = wharf_runtime::plan::capability::NAMES
        .iter()
        .map(|n| format!("CAP_{n}"))
        .collect();
    for set in ["bounding", "permitted", "effective"] {
        bed.spec["process"]["capabilities"][set] = json!(all);
    }
    sh(
        &mut bed,
        "mount -t tmpfs x /shared/point && touch /shared/point/here",
    );
    assert!(
        host.join("point/here").exists(),
        "the container's mount did not arrive"
    );
    rustix::mount::unmount(host.join("point"), rustix::mount::UnmountFlags::DETACH)
        .expect("unmount");
    rustix::mount::unmount(&host, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    // Nothing else of the container's did.
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    assert!(!mounts.contains(&bed.id), "left on the host: {mounts}");
}

fn with_layers(bed: &mut Bed, count: usize, parent: &str) {
    let base = bed.dir.join(parent);
    let mut layers = Vec::new();
    for n in 0..count {
        let layer = base.join(format!("layer-{n}"));
        fs::create_dir_all(layer.join("layers")).expect("layer");
        fs::write(layer.join(format!("layers/{n}")), "").expect("file");
        layers.push(layer);
    }
    layers.push(bed.lower());
    let RootfsMount::Overlay { lower, .. } = &mut bed.extra.rootfs else {
        unreachable!("Bed::new makes an overlay")
    };
    *lower = layers;
}

pub fn two_hundred_layers_mount() {
    let mut bed = Bed::new(&[]);
    with_layers(&mut bed, 200, "many");
    assert_eq!(sh(&mut bed, "ls /layers | wc -l"), "200");
}

/// Too long for `fsconfig`, and together too long for mount(2): each layer is then named by descriptor.
pub fn long_layer_paths_mount() {
    let mut bed = Bed::new(&[]);
    let long = format!("{0}/{0}", "d".repeat(200));
    with_layers(&mut bed, 3, &long);
    assert_eq!(sh(&mut bed, "ls /layers | wc -l"), "3");
    with_layers(&mut bed, 30, &long);
    assert_eq!(sh(&mut bed, "ls /layers | wc -l"), "30");
}

pub fn a_directory_can_be_the_root() {
    let mut bed = Bed::new(&[]);
    bed.extra.rootfs = RootfsMount::Directory { path: bed.lower() };
    assert_eq!(sh(&mut bed, "touch /direct; hostname"), "testhost");
    assert!(bed.lower().join("direct").exists());
}

pub fn a_missing_workdir_is_made() {
    let mut bed = Bed::new(&[]);
    bed.spec["process"]["cwd"] = json!("/made/up/place");
    assert_eq!(
        sh(&mut bed, "pwd; stat -c %u:%g:%a ."),
        "/made/up/place\n0:0:755"
    );
}
