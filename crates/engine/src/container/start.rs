//! Starting a container: three plans made side by side, one message to the spawner, one back.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use wharf_api::error::Kind;
use wharf_runtime::client::{ClientError, FilePlan, LogPlan, MonitorEvent, SpawnRequest};
use wharf_runtime::plan::{ContainerPlan, plan};

use wharf_spec::rootfs::RootfsMount;

use super::files::{self, Files};
use super::links::Linked;
use super::network::{self, Attached, Mode};
use super::record::{MountRecord, Record, State};
use super::root_view::RootView;
use super::spec::{self, Inputs, Joined};
use super::start_error::StartError;
use super::status::{Change, Status};
use super::{Container, Live, log_plan, subpath};
use crate::userns::UserNamespace;
use crate::{Engine, EngineConfig, Error, Result};

/// Who asks for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starter {
    /// A client: the restart policy starts counting anew.
    User,
    /// The restart policy.
    Policy,
}

impl Engine {
    /// `POST /containers/{id}/start`.
    pub async fn container_start(&self, name: &str) -> Result<()> {
        let container = self.containers.get(name)?;
        startable(container.status())?;
        self.finish(move |engine| async move { engine.start(&container, Starter::User).await })
            .await
    }

    /// Starts a container and tells everybody, or leaves it as it was with the reason in `State.Error`.
    pub(crate) async fn start(&self, container: &Arc<Container>, starter: Starter) -> Result<()> {
        let _lifecycle = container.lifecycle.lock().await;
        let status = container.status();
        if starter == Starter::Policy && status != Status::Restarting {
            // Called off while we waited.
            return Ok(());
        }
        if starter == Starter::User {
            startable(status)?;
            container.restart_canceled.notify_waiters();
            container.with_backoff(super::restart_policy::Backoff::reset);
        }
        match self.launch(container).await {
            Ok((started, events)) => {
                self.began(container, started, events, starter).await;
                Ok(())
            }
            Err(failure) => self.did_not_begin(container, failure).await,
        }
    }

    /// Brings the container's process into being.
    async fn launch(&self, container: &Arc<Container>) -> Result<(Begun, Events), StartError> {
        self.adopt_names(container).map_err(StartError::of)?;
        let record = container.record();
        let log = self.plan_log(&record).map_err(StartError::of)?;
        let prepared = self.prepare(record.clone()).await.map_err(StartError::of)?;
        let request = SpawnRequest {
            container_id: record.id.clone(),
            plan: prepared.plan.clone(),
            tty: record.config.tty,
            open_stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            console_size: console_size(record.host_config.console_size),
            log,
            state_dir: self.config.monitor_dir(&record.id),
        };
        let Attached {
            netns,
            endpoints,
            sandbox_id,
            resolver: _,
        } = prepared.attached;
        let held = prepared.userns;
        container.attached().await;
        let spawned = self
            .spawner
            .spawn(request, netns, container.take_pending())
            .await;
        drop(held);
        match spawned {
            Ok((monitor, started, events)) => {
                let (ended, _) = watch::channel(false);
                let live = Live {
                    monitor,
                    pid: started.pid,
                    pidfd: started.pidfd,
                    plan: prepared.plan,
                    ended,
                };
                let begun = Begun {
                    live: Arc::new(live),
                    started_ns: started.started_at_ns,
                    endpoints,
                    sandbox_id,
                };
                Ok((begun, events))
            }
            Err(error) => {
                self.release_network(&record.id, &endpoints);
                Err(StartError::of_client(error))
            }
        }
    }

    fn plan_log(&self, record: &Record) -> Result<LogPlan> {
        let log = log_plan::plan(record, &self.config.container_dir(&record.id))
            .map_err(|error| error.context("failed to create task for container"))?;
        if let LogPlan::File(FilePlan { path, .. }) = &log
            && let Some(parent) = path.parent()
        {
            std::fs::create_dir_all(parent)
                .map_err(|error| Error::caused("make the log's directory", error))?;
        }
        Ok(log)
    }

    /// Connects the network and, meanwhile, plans the process. Blocking work, off the async threads.
    async fn prepare(&self, record: Arc<Record>) -> Result<Prepared> {
        let engine = self
            .handle()
            .ok_or_else(|| Error::new(Kind::Unavailable, "the daemon is shutting down"))?;
        crate::blocking(move || {
            let mut userns = engine.user_namespace(&record)?;
            let given = userns.network.take();
            let links = engine.linked_ports(&record)?;
            let mut attached = network::attach(&engine.network, &record, &links, given)
                .map_err(|error| engine.name_port_holder(error))?;
            engine.tell_attachments("connect", &record.id, &attached.endpoints);
            let resolver = attached.resolver.take();
            let planned = engine
                .resolve_names(&record, &attached.endpoints, resolver)
                .and_then(|()| engine.plan_start(&record, &attached, &userns));
            match planned {
                Ok(plan) => Ok(Prepared {
                    plan,
                    attached,
                    userns,
                }),
                Err(error) => {
                    engine.release_network(&record.id, &attached.endpoints);
                    Err(error)
                }
            }
        })
        .await
    }

    /// Writes the container's files and plans its process. Errors are the daemon's own, as in moby's `createSpec`.
    fn plan_start(
        &self,
        record: &Record,
        attached: &Attached,
        userns: &UserNamespace,
    ) -> Result<ContainerPlan> {
        let linked = self.linked(record)?;
        self.write_files(record, attached, &linked)?;
        self.update_linking(&record.id, &attached.endpoints);
        make_private_dir(&self.config.monitor_dir(&record.id))?;
        self.mount_shared_memory(record)?;
        let mounts = self.ready_mounts(record)?;
        self.label_sources(record)?;
        let plan = self
            .plan_container(record, &mounts, linked, userns)
            .map_err(|error| {
                if error.kind() == Kind::NotImplemented {
                    error
                } else {
                    error.with_kind(Kind::Internal)
                }
            })?;
        self.grant_realtime(&plan)?;
        self.ensure_apparmor(&plan)?;
        Ok(plan)
    }

    /// `--cpu-rt-period` and `--cpu-rt-runtime`, of which containers' own shares are parts (v1).
    fn grant_realtime(&self, plan: &ContainerPlan) -> Result<()> {
        let (period, runtime) = (self.config.cpu_rt_period, self.config.cpu_rt_runtime);
        if (period, runtime) == (0, 0) {
            return Ok(());
        }
        plan.cgroup
            .path
            .grant_realtime(period, runtime)
            .map_err(|error| Error::caused("give realtime scheduling to the parent groups", error))
    }

    fn plan_container(
        &self,
        record: &Record,
        mounts: &[MountRecord],
        linked: Vec<Linked>,
        userns: &UserNamespace,
    ) -> Result<ContainerPlan> {
        let mut joined = self.joined_namespaces(record)?;
        joined.linked = linked
            .into_iter()
            .flat_map(|other| other.variables)
            // Secrets of a build are in no record.
            .chain(self.builds.secret_variables(&record.id))
            .collect();
        let shm = self.shared_memory(record)?;
        self.plan_with(&self.config, record, mounts, joined, shm, userns)
    }

    /// The plan of a container as far as it does not depend on others: what a daemon needs that finds it running.
    ///
    /// Devices and their descriptions, and a runtime, may be gone from the host since its start. Nothing that can still happen to a
    /// running container depends on them. Its control group is where the daemon that started it put it.
    pub(crate) fn plan_alone(&self, record: &Record, state: &State) -> Result<ContainerPlan> {
        let userns = self.user_namespace_of(record);
        let mut then = self.config.clone();
        if !state.cgroup_driver.is_empty() {
            then.cgroup_driver.clone_from(&state.cgroup_driver);
            then.cgroup_parent.clone_from(&state.cgroup_parent);
        }
        let plan = |record: &Record| {
            let none = Joined::default();
            self.plan_with(&then, record, &record.mounts, none, None, &userns)
        };
        plan(record).or_else(|error| {
            let mut rest = record.clone();
            let host = &mut rest.host_config;
            host.runtime.clear();
            (host.devices, host.device_requests) = (None, None);
            host.blkio_weight_device = None;
            (host.blkio_device_read_bps, host.blkio_device_write_bps) = (None, None);
            (host.blkio_device_read_iops, host.blkio_device_write_iops) = (None, None);
            plan(&rest).map_err(|_| error)
        })
    }

    fn plan_with(
        &self,
        engine: &EngineConfig,
        record: &Record,
        mounts: &[MountRecord],
        joined: Joined,
        shm: Option<PathBuf>,
        userns: &UserNamespace,
    ) -> Result<ContainerPlan> {
        let files = Files::in_dir(&self.files_dir(record));
        let apparmor = self.host.features.apparmor;
        let inputs = Inputs {
            record,
            engine,
            apparmor,
            files: &files,
            joined,
            shm,
            mounts,
            userns,
        };
        let (spec, groups) = spec::make(&inputs)?;
        let mut rootfs = self.store.rootfs(&record.id)?;
        if let (RootfsMount::Overlay { options, .. }, false) =
            (&mut rootfs, record.mount_label.is_empty())
        {
            options.push(format!("context={}", record.mount_label));
        }
        let extra = spec::extra(&inputs, &spec, rootfs, &groups)?;
        let foreign = self.foreign_runtime(record, &spec, &extra, &engine.cgroup_driver)?;
        if foreign.is_some() && userns.path.is_some() {
            return Err(Error::not_implemented(
                "user namespaces with another runtime are not supported yet",
            ));
        }
        if foreign.is_some() && record.mounts.iter().any(|mount| !mount.idmap.is_empty()) {
            return Err(Error::not_implemented(
                "mounts with their ids mapped are not supported yet with another runtime",
            ));
        }
        let plan = plan(&spec, extra, &self.host).map_err(plan_error)?;
        if foreign.is_none() && spec.hooks().is_some() {
            write_bundle(&spec::bundle_of(&inputs), &spec)?;
        }
        Ok(ContainerPlan { foreign, ..plan })
    }

    fn write_files(&self, record: &Record, attached: &Attached, linked: &[Linked]) -> Result<()> {
        let host_network = match Mode::of(&record.host_config) {
            // Its network's owner has written them.
            Mode::Container(_) => return Ok(()),
            mode => mode == Mode::Host,
        };
        let files = Files::in_dir(&self.files_dir(record));
        let addresses: Vec<_> = attached
            .endpoints
            .iter()
            .flat_map(wharf_network::Endpoint::addresses)
            .collect();
        let texts = [
            (&files.hostname, files::hostname(&record.config)),
            (
                &files.hosts,
                if host_network {
                    let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
                    files::hosts_of_host(&own, &record.host_config, self.host_gateway())
                } else {
                    let gateway = self.host_gateway();
                    files::hosts(
                        &record.config,
                        &record.host_config,
                        &addresses,
                        gateway,
                        linked,
                    )
                },
            ),
            (
                &files.resolv_conf,
                self.resolv_conf(record, super::dns::kind(record, &attached.endpoints)),
            ),
        ];
        for (path, text) in texts {
            files::write(path, &text)
                .map_err(|error| Error::caused(&format!("write {}", path.display()), error))?;
        }
        Ok(())
    }

    /// Where a container's `hosts`, `hostname` and `resolv.conf` are: with a shared network, its owner's.
    pub(crate) fn files_dir(&self, record: &Record) -> PathBuf {
        let owner = match Mode::of(&record.host_config) {
            Mode::Container(owner) => self
                .containers
                .get(&owner)
                .ok()
                .map(|owner| owner.id.clone()),
            _ => None,
        };
        self.config
            .container_dir(owner.as_deref().unwrap_or(&record.id))
    }

    /// A container that shares a network is called what its owner is called.
    fn adopt_names(&self, container: &Container) -> Result<()> {
        let Mode::Container(owner) = Mode::of(&container.record().host_config) else {
            return Ok(());
        };
        let owner = self.containers.get(&owner)?.record();
        let own = container.record();
        if (&own.config.hostname, &own.config.domainname)
            == (&owner.config.hostname, &owner.config.domainname)
        {
            return Ok(());
        }
        container.edit_record(&self.database, |record| {
            record.config.hostname.clone_from(&owner.config.hostname);
            record
                .config
                .domainname
                .clone_from(&owner.config.domainname);
        })
    }

    /// What `host-gateway` stands for.
    pub(crate) fn host_gateway(&self) -> Option<std::net::IpAddr> {
        if let Some(address) = self
            .config
            .host_gateway
            .iter()
            .find_map(|text| text.parse().ok())
        {
            return Some(address);
        }
        let bridge = self.network.network("bridge").ok()?;
        bridge.gateway().parse().ok()
    }

    /// Makes missing bind sources, checks that volumes exist.
    pub(crate) fn ready_mounts(&self, record: &Record) -> Result<Vec<MountRecord>> {
        let mut mounts = record.mounts.clone();
        for mount in &mut mounts {
            match mount.kind.as_str() {
                "bind" => ready_bind(mount)?,
                "volume" => {
                    let path = self.volumes.access(&mount.name, &record.id)?;
                    if !mount.subpath.is_empty() {
                        let whole = open_path(&path)?;
                        subpath::check(&whole, &path, &mount.subpath)?;
                    }
                    mount.source = path.display().to_string();
                }
                "image" => mount.overlay = Some(self.image_mount(mount)?),
                _ => {}
            }
        }
        Ok(mounts)
    }

    fn image_mount(&self, mount: &MountRecord) -> Result<RootfsMount> {
        if !self.host.features.overlay_lowerdir_append {
            return Err(Error::not_implemented(
                "mounts of images need Linux 6.8 or later",
            ));
        }
        let rootfs = self.store.rootfs(&mount.image_layer)?;
        if let (false, RootfsMount::Overlay { upper, .. }) = (mount.subpath.is_empty(), &rootfs) {
            let failed = |error| Error::caused("mount the image", error);
            let view = RootView::read_only(&rootfs).map_err(failed)?;
            let root = view.open("/").map_err(failed)?;
            subpath::check(&root, &upper.with_file_name("merged"), &mount.subpath)?;
        }
        Ok(rootfs)
    }

    /// Gives back what [`Engine::ready_mounts`] made accessible.
    pub(crate) fn release_volumes(&self, record: &Record) {
        let volumes = record.mounts.iter().filter(|mount| mount.kind == "volume");
        let names: std::collections::BTreeSet<&str> =
            volumes.map(|mount| mount.name.as_str()).collect();
        for name in names {
            self.release_volume(name, &record.id);
        }
    }

    /// Namespaces of other containers that this one joins.
    fn joined_namespaces(&self, record: &Record) -> Result<Joined> {
        let host = &record.host_config;
        let join = |mode: &str, kind: &str| match mode.strip_prefix("container:") {
            Some(name) => self.namespace_of(name, kind).map(Some),
            None => Ok(None),
        };
        Ok(Joined {
            net: self.shared_network(record)?,
            ipc: join(&host.ipc_mode, "ipc")
                .map_err(|error| error.context("failed to join IPC namespace"))?,
            pid: join(&host.pid_mode, "pid")
                .map_err(|error| error.context("failed to join PID namespace"))?,
            linked: Vec::new(),
        })
    }

    /// Path of a running container's namespace.
    pub(crate) fn namespace_of(&self, name: &str, kind: &str) -> Result<PathBuf> {
        let live = self.containers.get(name)?.running()?;
        Ok(PathBuf::from(format!("/proc/{}/ns/{kind}", live.pid)))
    }

    async fn began(
        &self,
        container: &Arc<Container>,
        begun: Begun,
        events: Events,
        starter: Starter,
    ) {
        let Begun {
            live,
            started_ns,
            endpoints,
            sandbox_id,
        } = begun;
        let latecomers = container.set_live(live.clone());
        let watched = self
            .network
            .watch(&container.id, &endpoints, live.pidfd.as_fd());
        if let Err(error) = watched {
            tracing::warn!(container = container.id, %error, "end of the process is not watched");
        }
        container.set_manually_restarted(false);
        let recorded = container.take(&self.database, Change::Started, |state: &mut State| {
            state.pid = live.pid;
            state.exit_code = 0;
            state.error.clear();
            state.oom_killed = false;
            state.started_ns = Some(started_ns);
            state.started_before = true;
            state.endpoints = endpoints;
            state.sandbox_id = sandbox_id;
            state.cgroup_driver.clone_from(&self.config.cgroup_driver);
            state.cgroup_parent.clone_from(&self.config.cgroup_parent);
            if starter == Starter::User {
                state.manually_stopped = false;
                state.restart_count = 0;
            }
        });
        if let Err(error) = recorded {
            // It runs; a full disk does not change that.
            tracing::error!(container = container.id, %error, "start not recorded");
        }
        self.tell_mounts("mount", &container.record());
        self.tell(container, "start", &[]);
        for (request, client) in latecomers {
            // They attached while another client's start was with the spawner. A run that is over already has no more to give.
            let _ = live.monitor.attach(request, client).await;
        }
        // After the event: a run can be over at once.
        self.watch(container, live, events);
    }

    async fn did_not_begin(&self, container: &Arc<Container>, failure: StartError) -> Result<()> {
        let StartError { error, exit_code } = failure;
        let message = error.to_string();
        self.unmount_shared_memory(&container.record());
        self.release_volumes(&container.record());
        container.take(&self.database, Change::StartFailed, |state| {
            state.error = message;
            state.exit_code = exit_code;
            state.endpoints.clear();
            state.sandbox_id.clear();
        })?;
        // Their streams are those of the failed run.
        drop(container.take_pending());
        if container.record().host_config.auto_remove {
            let (engine, id) = (self.handle(), container.id.clone());
            // Apart: removing takes the lifecycle that is held here.
            tokio::spawn(async move {
                if let Some(engine) = engine {
                    engine.auto_remove(&id).await;
                }
            });
        }
        Err(error)
    }
}

type Events = mpsc::UnboundedReceiver<MonitorEvent>;

struct Begun {
    live: Arc<Live>,
    started_ns: i64,
    endpoints: Vec<wharf_network::Endpoint>,
    sandbox_id: String,
}

struct Prepared {
    plan: ContainerPlan,
    attached: Attached,
    /// Holds what the plan names until the spawner has it.
    userns: UserNamespace,
}

/// Whether a client may start it (moby `validateState`).
fn startable(status: Status) -> Result<()> {
    match status {
        Status::Paused => Err(Error::conflict(
            "cannot start a paused container, try unpause instead",
        )),
        Status::Running | Status::Restarting => {
            Err(Error::not_modified("container is already running"))
        }
        Status::Removing | Status::Dead => Err(Error::conflict(
            "container is marked for removal and cannot be started",
        )),
        Status::Created | Status::Exited => Ok(()),
    }
}

/// A bind's source must exist; `-v` makes a directory of what is missing.
fn open_path(path: &std::path::Path) -> Result<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        Error::caused(
            &format!("open {}", path.display()),
            std::io::Error::from(errno),
        )
    })
}

fn ready_bind(mount: &MountRecord) -> Result<()> {
    let source = std::path::Path::new(&mount.source);
    if source.exists() {
        return Ok(());
    }
    if !mount.create_source {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            mount.source
        )));
    }
    std::fs::create_dir_all(source).map_err(|error| {
        Error::caused(
            &format!(
                "error while creating mount source path '{}': mkdir {0}",
                mount.source
            ),
            error,
        )
    })
}

/// Hooks of devices look for the root in `config.json` of the bundle. While they run, before the container's root is entered, it is
/// mounted over `/`, so that the way there is `/..`.
fn write_bundle(dir: &std::path::Path, spec: &wharf_spec::runtime::Spec) -> Result<()> {
    let failed = |error: std::io::Error| Error::caused("write the bundle for hooks", error);
    let mut config = serde_json::to_value(spec).map_err(|error| failed(error.into()))?;
    config["root"]["path"] = "/..".into();
    std::fs::create_dir_all(dir).map_err(failed)?;
    std::fs::write(dir.join("config.json"), config.to_string()).map_err(failed)
}

/// Makes the directory a monitor keeps its socket and exit record in: for root alone.
fn make_private_dir(dir: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .map_err(|error| Error::caused(&format!("create {}", dir.display()), error))
}

fn console_size(size: [u64; 2]) -> (u16, u16) {
    let part = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    (part(size[0]), part(size[1]))
}

pub(crate) fn plan_error(error: wharf_runtime::plan::PlanError) -> Error {
    use wharf_runtime::plan::PlanError;
    let kind = match &error {
        PlanError::Unsupported(_) => Kind::NotImplemented,
        PlanError::Invalid { .. } | PlanError::Seccomp(_) => Kind::Invalid,
        _ => Kind::Internal,
    };
    Error::new(kind, crate::error::chain(&error))
}

/// Whether an error from a monitor means that there is none any more.
pub(crate) fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::Gone)
}
