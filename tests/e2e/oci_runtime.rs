//! The OCI runtime by its command line, as containerd, CRI-O and podman call it.

mod engines;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use wharf_e2e::bundle::Bundle;
use wharf_e2e::deadline::wait_until;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_life_in_four_commands() {
    let bundle = Bundle::new(&["echo", "hello"]);
    bundle.create();
    assert_eq!(bundle.state("status"), "created");
    let pid = bundle.state("pid").as_u64().expect("a pid");
    assert!(fs::exists(format!("/proc/{pid}")).expect("proc"));
    assert_eq!(bundle.output(), "", "the program waits for start");
    bundle.ok(&["start"], &[]);
    bundle.wait_for("stopped");
    assert_eq!(bundle.output(), "hello\n");
    bundle.ok(&["delete"], &[]);
    assert!(bundle.fails(&["state"], &[]).contains("does not exist"));
}

#[test]
fn commands_need_the_right_status() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    for words in [&["start"][..], &["state"], &["kill"], &["delete"]] {
        assert!(
            bundle.fails(words, &[]).contains("does not exist"),
            "{words:?}"
        );
    }
    bundle.create();
    let path = bundle.dir().to_string_lossy().into_owned();
    let again = bundle.fails(&["create", "--bundle", &path], &[]);
    assert!(again.contains("already exists"), "{again}");
    bundle.ok(&["start"], &[]);
    assert!(bundle.fails(&["start"], &[]).contains("already running"));
    assert!(
        bundle
            .fails(&["delete"], &[])
            .contains("not stopped: running")
    );
    bundle.ok(&["kill"], &["KILL"]);
    bundle.wait_for("stopped");
    assert!(bundle.fails(&["kill"], &["KILL"]).contains("not running"));
    assert!(bundle.fails(&["start"], &[]).contains("has stopped"));
    bundle.ok(&["delete"], &[]);
}

#[test]
fn a_created_container_can_be_ended_and_deleted() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.create();
    bundle.ok(&["kill"], &["TERM"]);
    bundle.wait_for("stopped");
    bundle.ok(&["delete"], &[]);
    bundle.create();
    bundle.ok(&["delete"], &[]);
    bundle.ok(&["delete", "--force"], &[]);
}

#[test]
fn a_missing_program_fails_create_and_leaves_nothing() {
    let bundle = Bundle::new(&["nosuch"]);
    let path = bundle.dir().to_string_lossy().into_owned();
    let log = bundle.dir().join("log");
    let words = [
        "--log",
        &log.to_string_lossy(),
        "--log-format",
        "json",
        "create",
        "--bundle",
        &path,
    ];
    let why = bundle.fails(&words, &[]);
    assert!(why.contains("executable file not found in $PATH"), "{why}");
    let line = fs::read_to_string(&log).expect("a log");
    let entry: Value = serde_json::from_str(line.trim()).expect("JSON");
    assert_eq!(entry["level"], "error");
    assert!(entry["msg"].as_str().expect("text").contains("nosuch"));
    assert!(bundle.fails(&["state"], &[]).contains("does not exist"));
}

#[test]
fn run_stays_and_answers_with_the_exit_code() {
    let bundle = Bundle::new(&["sh", "-c", "echo out; exit 7"]);
    let path = bundle.dir().to_string_lossy().into_owned();
    let output = bundle.run(&["run", "--bundle", &path], &[]);
    assert_eq!((output.code, output.stdout.as_str()), (7, "out\n"));
    assert!(bundle.fails(&["state"], &[]).contains("does not exist"));
}

#[test]
fn exec_runs_beside_init() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.create();
    bundle.ok(&["start"], &[]);
    let id = bundle.ok(
        &["exec", "--user", "5:6", "--cwd", "/tmp", "-e", "A=b"],
        &["sh", "-c", "id -u; id -g; pwd; echo $A"],
    );
    assert_eq!(id, "5\n6\n/tmp\nb\n");
    assert_eq!(bundle.run(&["exec"], &["sh", "-c", "exit 9"]).code, 9);
    let missing = bundle.run(&["exec"], &["nosuch"]);
    assert_eq!(missing.code, 255);
    assert!(
        missing.stderr.contains("executable file not found"),
        "{missing:?}"
    );
    let file = bundle.dir().join("process.json");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["sh", "-c", "echo $$ > /tmp/pid; exec sleep 1000"]);
    fs::write(&file, process.to_string()).expect("write");
    let pid_file = bundle.dir().join("pid");
    let flags = [
        "exec",
        "--detach",
        "--process",
        &file.to_string_lossy(),
        "--pid-file",
        &pid_file.to_string_lossy(),
    ];
    // It goes on with the streams it was given.
    let mut command = bundle.command(&flags);
    let status = command
        .arg(&bundle.id)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("runs").success());
    let pid = fs::read_to_string(pid_file).expect("pid file");
    let pids: Vec<u32> =
        serde_json::from_str(&bundle.ok(&["ps", "--format", "json"], &[])).expect("JSON");
    assert!(
        pids.contains(&pid.trim().parse().expect("a number")),
        "{pid} in {pids:?}"
    );
    bundle.ok(&["delete", "--force"], &[]);
}

#[test]
fn pause_and_resume() {
    let bundle = Bundle::new(&["sh", "-c", "while :; do echo x; sleep 0.01; done"]);
    bundle.create();
    bundle.ok(&["start"], &[]);
    bundle.ok(&["pause"], &[]);
    assert_eq!(bundle.state("status"), "paused");
    let before = bundle.output().len();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(bundle.output().len(), before);
    assert!(bundle.fails(&["exec"], &["true"]).contains("paused"));
    bundle.ok(&["resume"], &[]);
    wait_until("output again", SOON, || bundle.output().len() > before);
    assert!(bundle.fails(&["resume"], &[]).contains("not paused"));
    bundle.ok(&["pause"], &[]);
    bundle.ok(&["delete", "--force"], &[]);
}

/// All kinds, in the specification's order, each told the state.
#[test]
fn hooks_run_in_order() {
    let mut bundle = Bundle::new(&["sh", "-c", "echo program >> /tmp/order"]);
    let order = bundle
        .rootfs()
        .join("tmp/order")
        .to_string_lossy()
        .into_owned();
    let hook = |name: &str, file: &str| {
        let script = format!(
            "s=$(/bin/busybox cat); echo {name} $(echo \"$s\" | /bin/busybox grep -o '\"status\":\"[a-z]*\"') >> {file}"
        );
        json!([{"path": "/bin/busybox", "args": ["busybox", "sh", "-c", script]}])
    };
    bundle.config["root"]["readonly"] = false.into();
    bundle.config["hooks"] = json!({
        "prestart": hook("prestart", &order),
        "createRuntime": hook("createRuntime", &order),
        "createContainer": hook("createContainer", &order),
        "startContainer": hook("startContainer", "/tmp/order"),
        "poststart": hook("poststart", &order),
        "poststop": hook("poststop", &order),
    });
    // The program must not be faster than the hook that follows its start.
    bundle.config["process"]["args"] =
        json!(["sh", "-c", "echo program >> /tmp/order; sleep 1000"]);
    bundle.create();
    bundle.ok(&["start"], &[]);
    let program = || {
        fs::read_to_string(&order)
            .unwrap_or_default()
            .contains("program")
    };
    wait_until("the program", SOON, program);
    bundle.ok(&["kill"], &["KILL"]);
    bundle.wait_for("stopped");
    bundle.ok(&["delete"], &[]);
    let text = fs::read_to_string(&order).expect("hooks ran");
    let mut lines: Vec<&str> = text.lines().collect();
    // The program and the hook after its start run side by side.
    let program = lines.iter().position(|l| *l == "program").expect("ran");
    lines.remove(program);
    assert_eq!(
        lines,
        [
            "prestart \"status\":\"created\"",
            "createRuntime \"status\":\"creating\"",
            "createContainer \"status\":\"creating\"",
            "startContainer \"status\":\"created\"",
            "poststart \"status\":\"running\"",
            "poststop \"status\":\"stopped\"",
        ]
    );
}

#[test]
fn a_failing_hook_stops_the_creation() {
    let mut bundle = Bundle::new(&["true"]);
    bundle.config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/busybox", "args": ["busybox", "sh", "-c", "echo why >&2; exit 3"]}
    ]});
    let path = bundle.dir().to_string_lossy().into_owned();
    let why = bundle.fails(&["create", "--bundle", &path], &[]);
    assert!(
        why.contains("createRuntime hook #0") && why.contains("why"),
        "{why}"
    );
    assert!(bundle.fails(&["state"], &[]).contains("does not exist"));
}

fn with_user_namespace(bundle: &mut Bundle) {
    let linux = &mut bundle.config["linux"];
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let namespaces = linux["namespaces"].as_array_mut().expect("a list");
    namespaces.push(json!({"type": "user"}));
    bundle.config["root"]["readonly"] = false.into();
}

#[test]
fn a_user_namespace_of_its_own() {
    let mut bundle = Bundle::new(&[
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; echo x > /dev/null; hostname new && hostname",
    ]);
    with_user_namespace(&mut bundle);
    bundle.config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]});
    let output = bundle.whole_life();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "new"], "{output}");
}

/// Files of the host appear as the container's own.
#[test]
fn idmapped_mounts() {
    let mut bundle = Bundle::new(&[
        "sh",
        "-c",
        "stat -c %u:%g /data /data/file; touch /data/new",
    ]);
    with_user_namespace(&mut bundle);
    let data = bundle.dir().join("data");
    fs::create_dir(&data).expect("mkdir");
    // Where the root belongs to the host's root, the container's cannot make it.
    fs::create_dir(bundle.rootfs().join("data")).expect("mkdir");
    fs::write(data.join("file"), "").expect("write");
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let mounts = bundle.config["mounts"].as_array_mut().expect("a list");
    mounts.push(json!({
        "destination": "/data", "type": "bind", "source": data, "options": ["bind"], "uidMappings": ids, "gidMappings": ids,
    }));
    assert_eq!(bundle.whole_life(), "0:0\n0:0\n");
    let new = std::os::unix::fs::MetadataExt::uid(&fs::metadata(data.join("new")).expect("made"));
    assert_eq!(new, 0, "the file is the host root's on disk");
}

#[test]
fn clocks_of_its_own() {
    let mut bundle = Bundle::new(&["sh", "-c", "cat /proc/uptime /proc/self/timens_offsets"]);
    let namespaces = bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("a list");
    namespaces.push(json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000_000}});
    let output = bundle.whole_life();
    let uptime: f64 = output
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(uptime > 1e9, "{output}");
}

#[test]
fn a_tmpfs_with_what_it_covers() {
    let mut bundle = Bundle::new(&["sh", "-c", "cat /etc/kept; echo more > /etc/made; ls /etc"]);
    fs::write(bundle.rootfs().join("etc/kept"), "kept\n").expect("write");
    let mounts = bundle.config["mounts"].as_array_mut().expect("a list");
    mounts.push(json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    assert_eq!(bundle.whole_life(), "kept\nkept\nmade\n");
    assert!(!bundle.rootfs().join("etc/made").exists());
}

#[test]
fn priorities_are_set() {
    let mut bundle = Bundle::new(&["sh", "-c", "cat /proc/self/stat /proc/self/personality"]);
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7});
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.config["process"]["args"] = json!([
        "sh",
        "-c",
        "cat /proc/self/stat; cat /proc/self/personality"
    ]);
    let output = bundle.whole_life();
    let (stat, personality) = output.trim().rsplit_once('\n').expect("two lines");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .collect();
    // proc(5): nice is field 19, the policy field 41; the first here is field 3.
    assert_eq!((fields[16], fields[38]), ("5", "3"), "{stat}");
    assert_eq!(personality, "00000008");
}

/// A user who is not root, with nothing but their own id.
#[test]
fn rootless() {
    let mut bundle = Bundle::new(&["sh", "-c", "id -u; cat /proc/self/uid_map; cat"]);
    bundle.make_rootless(65534);
    let create = bundle.dir().to_string_lossy().into_owned();
    let output = bundle
        .command(&["run", "--bundle", &create, &bundle.id])
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "65534", "1"], "{text}");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.create();
    bundle.ok(&["start"], &[]);
    assert_eq!(bundle.ok(&["exec"], &["id", "-u"]), "0\n");
    bundle.ok(&["kill"], &["KILL"]);
    bundle.wait_for("stopped");
    bundle.ok(&["delete"], &[]);
}

/// Mounts of a container in the host's mount namespace go with it.
#[test]
fn without_a_mount_namespace() {
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    let namespaces = bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("a list");
    namespaces.retain(|ns| ns["type"] != "mount");
    bundle.create();
    bundle.ok(&["start"], &[]);
    let root = bundle.rootfs().to_string_lossy().into_owned();
    let mounts = || {
        fs::read_to_string("/proc/self/mounts")
            .expect("readable")
            .matches(&root)
            .count()
    };
    assert!(mounts() > 0);
    assert_eq!(bundle.ok(&["exec"], &["ls", "/"]).lines().count(), 6);
    bundle.ok(&["delete", "--force"], &[]);
    assert_eq!(mounts(), 0);
}

#[test]
fn what_cannot_be_done_is_said() {
    for (part, value, word) in [
        // No machine of ours has the hardware.
        ("intelRdt", json!({"closID": "x"}), "intelRdt"),
        ("netDevices", json!({"eth0": {}}), "netDevices"),
    ] {
        let mut bundle = Bundle::new(&["true"]);
        bundle.config["linux"][part] = value;
        let path = bundle.dir().to_string_lossy().into_owned();
        let why = bundle.fails(&["create", "--bundle", &path], &[]);
        assert!(why.contains(word) && why.contains("not supported"), "{why}");
    }
}

#[test]
fn memory_comes_from_the_nodes_asked_for() {
    let script = "while read line; do case $line in *' bind'*|*' default'*) echo $line;; esac; done < /proc/self/numa_maps";
    let mut bundle = Bundle::new(&["sh", "-c", script]);
    bundle.config["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    let path = bundle.dir().to_string_lossy().into_owned();
    let output = bundle.run(&["run", "--bundle", &path], &[]);
    if !fs::exists("/proc/self/numa_maps").expect("proc") {
        // A kernel without NUMA has no such call.
        assert!(output.stderr.contains("memory policy"), "{output:?}");
        return;
    }
    assert!(output.stdout.contains(" bind=static:0 "), "{output:?}");
    assert!(!output.stdout.contains(" default "), "{output:?}");
}

#[test]
fn what_only_a_label_knows_is_left_without_selinux() {
    let mut bundle = Bundle::new(&["true"]);
    bundle.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2".into();
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    let path = bundle.dir().to_string_lossy().into_owned();
    let output = bundle.run(&["run", "--bundle", &path], &[]);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    let mut bundle = Bundle::new(&["sh", "-c", "tty; read line; echo got $line"]);
    bundle.config["process"]["terminal"] = true.into();
    let path = bundle.dir().to_string_lossy().into_owned();
    assert!(
        bundle
            .fails(&["create", "--bundle", &path], &[])
            .contains("console socket")
    );
    let socket = bundle.dir().join("console.sock");
    let listener = UnixListener::bind(&socket).expect("bind");
    let flags = [
        "create",
        "--bundle",
        &path,
        "--console-socket",
        &socket.to_string_lossy(),
    ];
    bundle.ok(&flags, &[]);
    let (connection, _) = listener.accept().expect("the runtime connected");
    let master = receive_fd(&connection);
    bundle.ok(&["start"], &[]);
    rustix::io::write(&master, b"typed\n").expect("write");
    let mut text = String::new();
    let mut terminal = fs::File::from(master);
    let mut buffer = [0; 256];
    // The end of a terminal is an error.
    while let Ok(n) = terminal.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        if n == 0 || text.contains("got typed") {
            break;
        }
    }
    assert!(
        text.contains("/dev/pts/0") && text.contains("got typed"),
        "{text}"
    );
}

fn receive_fd(connection: &std::os::unix::net::UnixStream) -> std::os::fd::OwnedFd {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    recvmsg(
        connection,
        &mut parts,
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("a message");
    let rights = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    rights.expect("a descriptor")
}

/// CVE-2019-5736: the runtime that starts an image's `/proc/self/exe` must not be the host's file.
#[test]
fn the_hosts_runtime_is_out_of_reach() {
    let before = fs::metadata(wharf_e2e::engine::wharf_program())
        .expect("there")
        .len();
    let mut bundle = Bundle::new(&["/script"]);
    bundle.config["root"]["readonly"] = false.into();
    let script = bundle.rootfs().join("script");
    fs::write(&script, "#!/proc/self/exe\n").expect("write");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("mode");
    let path = bundle.dir().to_string_lossy().into_owned();
    let _ = bundle.run(&["run", "--bundle", &path], &[]);
    assert_eq!(
        fs::metadata(wharf_e2e::engine::wharf_program())
            .expect("there")
            .len(),
        before
    );
    // And what a waiting init runs from is no file of the host's.
    let bundle = Bundle::new(&["true"]);
    bundle.create();
    let pid = bundle.state("pid");
    let exe = fs::File::options()
        .write(true)
        .open(format!("/proc/{pid}/exe"));
    let reason = exe.expect_err("not writable").raw_os_error();
    // ETXTBSY would be the host's file, kept only for as long as it runs.
    assert_eq!(reason, Some(30), "EROFS");
}

#[test]
fn features_and_version_are_told() {
    let bundle = Bundle::new(&["true"]);
    let output = bundle.command(&["features"]).output().expect("runs");
    let features: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(
        features["linux"]["mountExtensions"]["idmap"]["enabled"],
        true
    );
    for (part, key) in [
        ("cgroup", "systemd"),
        ("apparmor", "enabled"),
        ("selinux", "enabled"),
    ] {
        assert_eq!(features["linux"][part][key], true, "{part}");
    }
    assert_eq!(features["linux"]["intelRdt"]["enabled"], true);
    let output = bundle.command(&["--version"]).output().expect("runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\nspec: 1.2"));
}

#[test]
fn limits_are_set_updated_and_read() {
    let mut bundle = Bundle::new(&["sleep", "1000"]);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    bundle.create();
    bundle.ok(&["start"], &[]);
    let stats = |bundle: &Bundle| -> Value {
        serde_json::from_str(&bundle.ok(&["events", "--stats"], &[])).expect("JSON")
    };
    assert_eq!(stats(&bundle)["data"]["memory"]["usage"]["limit"], 64 << 20);
    bundle.ok(&["update", "--memory", "128m"], &[]);
    assert_eq!(
        stats(&bundle)["data"]["memory"]["usage"]["limit"],
        128 << 20
    );
    assert_eq!(stats(&bundle)["data"]["pids"]["current"], 1);
}

/// Descriptors from 3 on reach the program only when they are to.
#[test]
fn descriptors_are_kept_when_asked_for() {
    let bundle = Bundle::new(&["sh", "-c", "cat <&3; cat <&4"]);
    let dir = bundle.dir();
    fs::write(dir.join("three"), "three\n").expect("write");
    fs::write(dir.join("four"), "four\n").expect("write");
    let path = dir.to_string_lossy().into_owned();
    let run = |count: &str| {
        let words = [
            "run",
            "--bundle",
            &path,
            "--preserve-fds",
            count,
            &bundle.id,
        ];
        let inner = bundle.command(&words);
        let output = std::process::Command::new("sh")
            .args(["-c", "exec \"$@\" 3<three 4<four", "sh"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(dir)
            .output()
            .expect("sh runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(run("2"), "three\nfour\n");
    assert_eq!(run("1"), "three\n");
    assert_eq!(run("0"), "");
}

#[test]
fn the_root_can_be_entered_without_pivot_root() {
    let bundle = Bundle::new(&["sh", "-c", "ls /; cd ..; ls -d /bin/busybox"]);
    let path = bundle.dir().to_string_lossy().into_owned();
    let output = bundle.run(&["run", "--no-pivot", "--bundle", &path], &[]);
    assert_eq!(
        output.stdout, "bin\ndev\netc\nproc\nsys\ntmp\n/bin/busybox\n",
        "{output:?}"
    );
}

/// A service manager hears of the program's readiness, and which process it is.
#[test]
fn readiness_is_passed_on() {
    // busybox's logger sends a datagram to /dev/log; only its last line is of the kind that is waited for.
    let script = "ln -s $NOTIFY_SOCKET /dev/log; busybox logger 'x
READY=1'; sleep 1000";
    let bundle = Bundle::new(&["sh", "-c", script]);
    let manager = bundle.dir().join("manager.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&manager).expect("bind");
    socket.set_read_timeout(Some(SOON)).expect("a limit");
    let path = bundle.dir().to_string_lossy().into_owned();
    let status = bundle
        .command(&["create", "--bundle", &path, &bundle.id])
        .env("NOTIFY_SOCKET", &manager)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("runs").success());
    let pid = bundle.state("pid");
    let status = bundle
        .command(&["start", &bundle.id])
        .env("NOTIFY_SOCKET", &manager)
        .status();
    assert!(status.expect("runs").success());
    let mut bytes = [0; 256];
    let n = socket.recv(&mut bytes).expect("a message");
    assert_eq!(
        String::from_utf8_lossy(&bytes[..n]),
        format!("MAINPID={pid}\nREADY=1\n")
    );
    bundle.ok(&["delete", "--force"], &[]);
}
