//! A spawner, requests for it, and ways to look at what came of them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use wharf_runtime::cgroup::CgroupPath;
use wharf_runtime::client::{
    AttachRequest, ClientError, Events, ExecRequest, ExitStatus, FilePlan, LogPlan, Monitor,
    MonitorEvent, SpawnRequest, Spawner, Started,
};
use wharf_runtime::plan::{
    CapSets, CgroupPlan, ContainerPlan, ExecPlan, Hooks, Mappings, NamespaceSource, Namespaces,
    ProcessPlan, Scheduling, UserPlan, UserSpec,
};
use wharf_spec::rootfs::RootfsMount;

/// A directory and a spawner.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub spawner: Spawner,
}

/// A container that runs.
pub struct Container {
    pub monitor: Monitor,
    pub started: Started,
    pub events: Events,
    pub dir: PathBuf,
}

impl Fixture {
    pub async fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("tempdir");
        let spawner = Spawner::start(&std::env::current_exe().expect("own path"))
            .await
            .expect("spawner");
        Fixture { dir, spawner }
    }

    /// A request to run `script` in a shell, logging to `<name>/log`.
    pub fn request(&self, name: &str, script: &str) -> SpawnRequest {
        let state_dir = self.dir.path().join(name);
        std::fs::create_dir_all(&state_dir).expect("state directory");
        SpawnRequest {
            container_id: name.into(),
            plan: plan(&["/bin/busybox", "sh", "-c", script]),
            tty: false,
            open_stdin: false,
            stdin_once: false,
            console_size: (0, 0),
            log: LogPlan::File(FilePlan {
                path: state_dir.join("log"),
                max_size: None,
                max_file: 1,
                compress: false,
                attrs: vec![],
            }),
            state_dir,
        }
    }

    pub async fn run(
        &self,
        request: SpawnRequest,
        attach: Vec<(AttachRequest, OwnedFd)>,
    ) -> Container {
        self.try_run(request, attach).await.expect("spawn")
    }

    pub async fn try_run(
        &self,
        request: SpawnRequest,
        attach: Vec<(AttachRequest, OwnedFd)>,
    ) -> Result<Container, ClientError> {
        let dir = request.state_dir.clone();
        let (monitor, started, events) = self.spawner.spawn(request, None, attach).await?;
        Ok(Container {
            monitor,
            started,
            events,
            dir,
        })
    }
}

impl Container {
    /// Waits for the end of the container.
    pub async fn exit(&mut self) -> ExitStatus {
        loop {
            match self.events.recv().await.expect("an event") {
                MonitorEvent::Exited(status) => return status,
                MonitorEvent::Lost => panic!("the monitor was lost"),
                _ => {}
            }
        }
    }

    /// `(stream, text)` of every logged line.
    pub fn log(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.dir.join("log")).expect("log");
        let parse = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
            (
                value["stream"].as_str().expect("stream").to_owned(),
                value["log"].as_str().expect("log").to_owned(),
            )
        };
        text.lines().map(parse).collect()
    }

    /// Waits until the log has a line with this text.
    pub async fn logged(&self, text: &str) {
        while !self.log().iter().any(|(_, line)| line.contains(text)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub fn out(text: &str) -> (String, String) {
    ("stdout".into(), text.into())
}

pub fn err(text: &str) -> (String, String) {
    ("stderr".into(), text.into())
}

pub fn attach_all() -> AttachRequest {
    AttachRequest {
        stdin: true,
        stdout: true,
        stderr: true,
        raw: false,
        detach_keys: vec![],
        early_input: vec![],
    }
}

pub fn exec(id: &str, script: &str) -> ExecRequest {
    ExecRequest {
        exec_id: id.into(),
        plan: ExecPlan {
            foreign: None,
            cgroup: nowhere(),
            namespaces: plan(&[]).namespaces,
            cgroup_optional: false,
            process: process(&["/bin/busybox", "sh", "-c", script]),
        },
        tty: false,
        open_stdin: true,
        console_size: (0, 0),
    }
}

/// Everything the monitor sends until it closes, per stream.
pub async fn frames(socket: &mut UnixStream) -> [String; 2] {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.expect("read");
    let mut streams = [String::new(), String::new()];
    let mut rest = bytes.as_slice();
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let len = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        streams[usize::from(header[0]) - 1]
            .push_str(std::str::from_utf8(&after[..len]).expect("text"));
        rest = &after[len..];
    }
    assert!(rest.is_empty(), "half a header");
    streams
}

fn nowhere() -> CgroupPath {
    CgroupPath::V1(Vec::new())
}

pub fn plan(args: &[&str]) -> ContainerPlan {
    let host = || NamespaceSource::Host;
    ContainerPlan {
        foreign: None,
        resctrl: None,
        rootfs: RootfsMount::Directory {
            path: Path::new("/").into(),
        },
        layers_one_by_one: false,
        rootfs_readonly: false,
        rootfs_propagation: None,
        namespaces: Namespaces {
            mount: host(),
            pid: host(),
            net: host(),
            ipc: host(),
            uts: host(),
            cgroup: host(),
            user: host(),
            time: host(),
        },
        mounts: vec![],
        devices: vec![],
        links: vec![],
        masked_paths: vec![],
        readonly_paths: vec![],
        cgroup: CgroupPlan {
            path: nowhere(),
            writes: vec![],
            device_program: vec![],
            scope: None,
        },
        sysctls: vec![],
        hostname: None,
        domainname: None,
        create_cwd: false,
        init: false,
        mappings: Mappings::default(),
        rootfs_mappings: Mappings::default(),
        time_offsets: vec![],
        hooks: Hooks::default(),
        no_pivot: false,
        cgroup_optional: false,
        process: process(args),
    }
}

fn process(args: &[&str]) -> ProcessPlan {
    ProcessPlan {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec!["PATH=/bin:/usr/bin".into()],
        cwd: "/".into(),
        user: UserPlan::Lookup(UserSpec::default()),
        caps: CapSets::default(),
        rlimits: vec![],
        no_new_privs: false,
        seccomp: None,
        apparmor: None,
        oom_score_adj: None,
        umask: 0o022,
        selinux: None,
        scheduling: Scheduling::default(),
        preserve_fds: 0,
        keep_keyring: false,
    }
}
