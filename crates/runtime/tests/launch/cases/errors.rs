//! What goes wrong, and how it is said.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use wharf_runtime::launch::LaunchErrorKind;
use wharf_runtime::plan::UserSpec;

use crate::bed::Bed;

pub fn exit_codes_are_the_programs() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        assert_eq!(Bed::new(&["sh", "-c", script]).run().code, code);
    }
    // PID 1 has no default actions for signals it sends itself, so a killed child's code comes through init.
    let mut bed = Bed::new(&["sh", "-c", "kill -9 $$"]);
    bed.extra.init = true;
    assert_eq!(bed.run().code, 137);
}

pub fn lookup_failures_have_gos_words() {
    for (program, kind, message) in [
        (
            "nope",
            LaunchErrorKind::NotFound,
            "exec: \"nope\": executable file not found in $PATH",
        ),
        (
            "/nope",
            LaunchErrorKind::NotFound,
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        (
            "/etc/passwd",
            LaunchErrorKind::NotExecutable,
            "exec: \"/etc/passwd\": permission denied",
        ),
        (
            "/etc",
            LaunchErrorKind::NotExecutable,
            "exec: \"/etc\": is a directory",
        ),
    ] {
        for init in [false, true] {
            let mut bed = Bed::new(&[program]);
            bed.extra.init = init;
            let error = bed.try_run().expect_err("refused");
            assert_eq!((error.kind, error.message.as_str()), (kind, message));
        }
    }
}

pub fn a_bad_format_is_the_programs_output() {
    let bed = Bed::new(&["/bad"]);
    let file = bed.lower().join("bad");
    fs::write(&file, "\x7fnot a program").expect("file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod");
    let output = bed.run();
    assert_eq!(
        (output.stderr.as_str(), output.code),
        ("exec /bad: exec format error\n", 255)
    );
}

pub fn unknown_users_have_dockers_words() {
    for (user, group, message) in [
        (
            "nobody",
            None,
            "unable to find user nobody: no matching entries in passwd file",
        ),
        (
            "worker:none",
            None,
            "unable to find group none: no matching entries in group file",
        ),
        (
            "worker",
            Some("none"),
            "unable to find group none: no matching entries in group file",
        ),
    ] {
        let mut bed = Bed::new(&["true"]);
        bed.extra.user = Some(UserSpec {
            user: user.into(),
            additional_groups: group.into_iter().map(String::from).collect(),
        });
        let error = bed.try_run().expect_err("refused");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (LaunchErrorKind::User, message)
        );
    }
}

pub fn mount_failures_name_both_ends() {
    let mut bed = Bed::new(&["true"]);
    bed.mount("/x", "bind", "/no/such/source", &["rbind"]);
    let error = bed.try_run().expect_err("refused");
    let expected = "error mounting \"/no/such/source\" to rootfs at \"/x\": open source: no such file or directory";
    assert_eq!(error.message, expected);
    let mut bed = Bed::new(&["true"]);
    bed.mount("/etc/passwd", "bind", "/tmp", &["rbind"]);
    let error = bed.try_run().expect_err("refused");
    assert!(
        error
            .message
            .contains("Are you trying to mount a directory onto a file (or vice-versa)?"),
        "{error}"
    );
}

/// CVE-2024-21626: a descriptor of the host as working directory.
pub fn a_workdir_outside_the_root_is_refused() {
    let mut bed = Bed::new(&["true"]);
    let host = fs::File::open("/").expect("open");
    let fd = rustix::io::fcntl_dupfd_cloexec(&host, 9).expect("dup");
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).expect("inheritable");
    bed.extra.create_cwd = false;
    for n in [3, 4, 5, 6, 7, 8, 9] {
        bed.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{n}"));
        let error = bed.try_run().expect_err("refused");
        assert!(
            error.message.starts_with("chdir to cwd (\"/proc/self/fd/"),
            "{error}"
        );
    }
}

pub fn failures_leave_nothing_behind() {
    let before = (open_descriptors(), mounts());
    for _ in 0..20 {
        let bed = Bed::new(&["nope"]);
        bed.try_run().expect_err("refused");
        for dir in bed.cgroup_dirs() {
            assert!(!dir.exists(), "{} is left", dir.display());
        }
        let children = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
        assert_eq!(
            children.map_err(|e| e.raw_os_error()).err(),
            Some(libc::ECHILD),
            "a child is left"
        );
    }
    assert_eq!((open_descriptors(), mounts()), before);
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("readable").count()
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo")
        .expect("readable")
        .lines()
        .count()
}
