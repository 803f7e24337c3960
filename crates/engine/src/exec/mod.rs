//! Execs: further processes in running containers. Kept in memory only, as in Docker: they end with their container.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use wharf_api::container::{ExecCreateRequest, ExecInspect, ExecProcessConfig, ExecStartRequest};
use wharf_runtime::client::{AttachRequest, ExecRequest, Target};
use wharf_runtime::plan::{ExecOptions, plan_exec};

use crate::container::spec::environment;
use crate::container::start::plan_error;
use crate::container::start_error::{StartError, of_exec};
use crate::container::status::Status;
use crate::container::{Container, Live, detach_keys};
use crate::{Engine, Error, Result, ids};

/// How long an ended exec can be inspected at least.
const KEPT: Duration = Duration::from_secs(300);
/// Exit code of an exec that did not start, where nothing better is known.
const NOT_STARTED: i32 = 126;

/// All execs of one engine.
#[derive(Debug, Default)]
pub struct Execs {
    table: Mutex<HashMap<String, Exec>>,
}

/// One exec.
#[derive(Debug, Clone)]
struct Exec {
    container_id: String,
    request: ExecCreateRequest,
    keys: Vec<u8>,
    user: String,
    running: bool,
    pid: i32,
    exit_code: Option<i32>,
    ended: Option<Instant>,
    done: Arc<watch::Sender<Option<i32>>>,
}

/// A checked wish to start an exec: the server answers the client's upgrade, then hands over the socket.
#[derive(Debug)]
pub struct ExecStart {
    id: String,
    container: Arc<Container>,
    live: Arc<Live>,
    exec: Exec,
    console: Option<[u64; 2]>,
}

impl ExecStart {
    /// Whether the bytes are a terminal's, without frames.
    pub fn is_raw(&self) -> bool {
        self.exec.request.tty
    }
}

impl Engine {
    /// `POST /containers/{id}/exec`: registers an exec and gives its id.
    pub async fn exec_create(&self, name: &str, request: ExecCreateRequest) -> Result<String> {
        let container = self.containers.get(name)?;
        self.usable(&container, name)?;
        if request.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        let keys = if request.detach_keys.is_empty() {
            detach_keys::parse(None)?
        } else {
            detach_keys::parse(Some(&request.detach_keys)).map_err(|_| {
                Error::invalid(format!(
                    "Invalid escape keys ({}) provided",
                    request.detach_keys
                ))
            })?
        };
        let id = ids::random();
        let record = container.record();
        let user = if request.user.is_empty() {
            record.config.user.clone()
        } else {
            request.user.clone()
        };
        let action = format!("exec_create: {}", words(&request));
        let exec = Exec {
            container_id: container.id.clone(),
            request,
            keys,
            user,
            running: false,
            pid: 0,
            exit_code: None,
            ended: None,
            done: Arc::new(watch::channel(None).0),
        };
        self.execs.add(id.clone(), exec);
        self.tell(&container, &action, &[("execID", &id)]);
        Ok(id)
    }

    /// Checks a `POST /exec/{id}/start` before the connection is taken over, and marks the exec as running.
    pub async fn exec_prepare(&self, id: &str, request: &ExecStartRequest) -> Result<ExecStart> {
        let exec = self.execs.get(id).ok_or_else(|| Error::no_such_exec(id))?;
        let container = self
            .containers
            .by_id(&exec.container_id)
            .ok_or_else(|| Error::no_such_container(id))?;
        let live = self.usable(&container, &container.id)?;
        self.execs.begin(id)?;
        container.add_exec(id);
        let action = format!("exec_start: {}", words(&exec.request));
        self.tell(&container, &action, &[("execID", id)]);
        let console = request.console_size.or(exec.request.console_size);
        Ok(ExecStart {
            id: id.to_owned(),
            container,
            live,
            exec,
            console,
        })
    }

    /// Starts a prepared exec. With `client`, its socket is joined to the streams; the monitor closes it at the end.
    pub async fn exec_start(
        &self,
        start: ExecStart,
        client: Option<(OwnedFd, Vec<u8>)>,
    ) -> Result<()> {
        self.finish(move |engine| async move {
            match engine.launch_exec(&start, client).await {
                Ok(pid) => {
                    engine.execs.started(&start.id, pid);
                    Ok(())
                }
                Err(failure) => {
                    start.container.drop_exec(&start.id);
                    let code = if failure.exit_code == 128 {
                        NOT_STARTED
                    } else {
                        failure.exit_code
                    };
                    engine.execs.end(&start.id, code);
                    Err(failure.error)
                }
            }
        })
        .await
    }

    async fn launch_exec(
        &self,
        start: &ExecStart,
        client: Option<(OwnedFd, Vec<u8>)>,
    ) -> Result<i32, StartError> {
        let ExecStart {
            id,
            container,
            live,
            exec,
            console,
        } = start;
        let plan = plan_exec(&live.plan, options(container, exec), &self.host)
            .map_err(|error| StartError::of(plan_error(error)))?;
        let request = ExecRequest {
            exec_id: id.clone(),
            plan,
            tty: exec.request.tty,
            open_stdin: exec.request.attach_stdin && client.is_some(),
            console_size: console.map_or((0, 0), |size| (narrow(size[0]), narrow(size[1]))),
        };
        let attach = client.map(|(socket, early_input)| {
            let attach = AttachRequest {
                stdin: exec.request.attach_stdin,
                stdout: exec.request.attach_stdout,
                stderr: exec.request.attach_stderr,
                raw: exec.request.tty,
                detach_keys: exec.keys.clone(),
                early_input,
            };
            (attach, socket)
        });
        live.monitor.exec(request, attach).await.map_err(of_exec)
    }

    /// `GET /exec/{id}/json`.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        let exec = self.execs.get(id).ok_or_else(|| Error::no_such_exec(id))?;
        let command = exec.request.cmd.clone().unwrap_or_default();
        let (entrypoint, arguments) = command
            .split_first()
            .map_or((String::new(), Vec::new()), |(first, rest)| {
                (first.clone(), rest.to_vec())
            });
        Ok(ExecInspect {
            id: id.to_owned(),
            running: exec.running,
            exit_code: exec.exit_code.map(i64::from),
            process_config: ExecProcessConfig {
                tty: exec.request.tty,
                entrypoint,
                arguments,
                privileged: Some(exec.request.privileged),
                user: exec.user.clone(),
            },
            open_stdin: exec.request.attach_stdin,
            open_stderr: exec.request.attach_stderr,
            open_stdout: exec.request.attach_stdout,
            can_remove: exec.ended.is_some_and(|ended| ended.elapsed() > KEPT),
            container_id: exec.container_id,
            detach_keys: Some(base64_of(&exec.request.detach_keys, &exec.keys)),
            pid: i64::from(exec.pid),
        })
    }

    /// `POST /exec/{id}/resize`.
    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        let exec = self.execs.get(id).ok_or_else(|| Error::no_such_exec(id))?;
        let container = self
            .containers
            .by_id(&exec.container_id)
            .ok_or_else(|| Error::no_such_exec(id))?;
        let live = self.usable(&container, &container.id)?;
        live.monitor
            .resize(Target::Exec(id.to_owned()), rows, cols)
            .await
            .map_err(|error| Error::caused("resize exec", error))
    }

    /// The container's handles, or why no exec is possible.
    fn usable(&self, container: &Container, name: &str) -> Result<Arc<Live>> {
        match container.status() {
            Status::Paused => Err(Error::exec_paused(name)),
            _ => container.running(),
        }
    }

    /// The monitor says that an exec is over.
    pub(crate) fn exec_exited(&self, container: &Container, id: &str, code: i32) {
        container.drop_exec(id);
        self.execs.end(id, code);
        self.tell(
            container,
            "exec_die",
            &[("execID", id), ("exitCode", &code.to_string())],
        );
    }

    /// The container is over, and with it its execs.
    pub(crate) fn end_execs(&self, container: &Container) {
        for id in container.exec_ids() {
            // Whatever ran in the container's pid namespace was killed with its init.
            self.exec_exited(container, &id, 137);
        }
    }
}

impl Execs {
    fn get(&self, id: &str) -> Option<Exec> {
        self.table.lock().get(id).cloned()
    }

    /// Adds one, and forgets those that ended long ago.
    fn add(&self, id: String, exec: Exec) {
        let mut table = self.table.lock();
        table.retain(|_, exec| exec.ended.is_none_or(|ended| ended.elapsed() < 2 * KEPT));
        table.insert(id, exec);
    }

    fn begin(&self, id: &str) -> Result<()> {
        let mut table = self.table.lock();
        let exec = table.get_mut(id).ok_or_else(|| Error::no_such_exec(id))?;
        if exec.exit_code.is_some() {
            return Err(Error::conflict(format!(
                "exec command {id} has already run"
            )));
        }
        if exec.running {
            return Err(Error::conflict(format!(
                "exec command {id} is already running"
            )));
        }
        exec.running = true;
        Ok(())
    }

    fn started(&self, id: &str, pid: i32) {
        if let Some(exec) = self.table.lock().get_mut(id) {
            exec.pid = pid;
        }
    }

    fn end(&self, id: &str, code: i32) {
        if let Some(exec) = self.table.lock().get_mut(id) {
            exec.running = false;
            exec.exit_code = Some(code);
            exec.ended = Some(Instant::now());
            exec.done.send_replace(Some(code));
        }
    }

    /// Waits for the end of an exec. `None`: there is no such exec.
    pub(crate) async fn exit_code(&self, id: &str) -> Option<i32> {
        let mut done = self.get(id)?.done.subscribe();
        *done.wait_for(Option::is_some).await.ok()?
    }

    /// Forgets the execs of a container that is deleted.
    pub(crate) fn forget_container(&self, container_id: &str) {
        self.table
            .lock()
            .retain(|_, exec| exec.container_id != container_id);
    }
}

fn options(container: &Container, exec: &Exec) -> ExecOptions {
    let record = container.record();
    let request = &exec.request;
    let mut env = environment::of_terminal(&record.config, request.tty, &[]);
    environment::override_with(&mut env, request.env.iter().flatten());
    ExecOptions {
        args: request.cmd.clone().unwrap_or_default(),
        env,
        user: (!request.user.is_empty()).then(|| request.user.clone()),
        cwd: (!request.working_dir.is_empty()).then(|| request.working_dir.clone()),
        privileged: request.privileged,
    }
}

fn words(request: &ExecCreateRequest) -> String {
    let command = request.cmd.as_deref().unwrap_or_default();
    // Docker puts a space after the program even when nothing follows.
    match command.split_first() {
        Some((first, rest)) => format!("{first} {}", rest.join(" ")),
        None => String::new(),
    }
}

fn narrow(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Go marshals byte slices as base64; keys the client did not choose are shown as none.
fn base64_of(given: &str, keys: &[u8]) -> String {
    use base64::Engine as _;
    if given.is_empty() {
        String::new()
    } else {
        base64::engine::general_purpose::STANDARD.encode(keys)
    }
}
