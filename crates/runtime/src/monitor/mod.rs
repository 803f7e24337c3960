//! The monitor: parent of one container. Owns its streams, log, execs and attached clients, knows how it ended, outlives the daemon.
//!
//! One thread, one epoll loop, little memory: there is one monitor per running container, so what it keeps is what counts. It is forked
//! by the [spawner](crate::spawner) and shares that process's pages.
//!
//! Order at the end of a container: kill what is left of it, read its streams to their end, finish the log, remove the control group,
//! write the exit record, let clients have what they are owed, report to the daemon, close the clients' connections.

mod calls;
mod client;
mod control;
mod detach;
mod ending;
mod oom;
pub(crate) mod poll;
mod process;
mod starting;
mod stdio;
mod transfer;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use wharf_sys::{heap, signal};

use crate::client::{AttachRequest, MonitorEvent, SpawnRequest};
use crate::launch::{
    self, ExecLaunch, LaunchError, LaunchErrorKind, LaunchStdio, Launched, Step, hooks,
};
use crate::logfile::Log;
use crate::plan::{ContainerPlan, ExecPlan, ForeignPlan, Hooks};
use crate::protocol::{Packet, Report, SpawnMessage};
use crate::systemd::Scope;
use control::Control;
use ending::Ending;
use oom::OomWatch;
use poll::{BATCH, Poll, Source, Token};
use process::{Identity, Io, Process, now_ns};
use starting::StartingExec;

pub use control::{SOCKET_NAME, address_in, open_dir};
pub use ending::{RECORD_NAME, read_record};
pub(crate) use process::now_ns as now;

/// Size of the buffer that all streams share while something is moving.
const BUFFER: usize = 128 * 1024;

/// After this long without an event the buffers are given back.
const IDLE: Duration = Duration::from_millis(200);

/// How processes come into being. A value so that tests can watch processes that are no containers.
#[derive(Debug, Clone, Copy)]
pub struct Launcher {
    /// Starts the container's init.
    pub launch: fn(&ContainerPlan, LaunchStdio, Option<OwnedFd>) -> Result<Launched, LaunchError>,
    /// Starts a further process.
    pub begin_exec: fn(&ExecPlan, &OwnedFd, LaunchStdio) -> Result<ExecLaunch, LaunchError>,
}

impl Default for Launcher {
    fn default() -> Launcher {
        Launcher {
            launch: launch::launch,
            begin_exec: launch::begin_exec,
        }
    }
}

/// A monitor at work.
struct Monitor {
    poll: Poll,
    control: Control,
    children: Source,
    log: Log,
    /// Init first, then execs.
    processes: Vec<Process>,
    /// Execs that are not their programs yet.
    starting: Vec<StartingExec>,
    next_serial: u32,
    launcher: Launcher,
    state_dir: PathBuf,
    oom: OomWatch,
    foreign: Option<Box<ForeignPlan>>,
    /// systemd's unit around it.
    scope: Option<Box<Scope>>,
    /// To be run when it is gone, where there are any.
    poststop: Option<Box<Hooks>>,
    started_at_ns: i64,
    ending: Ending,
    /// Empty while nothing moves.
    buffer: Vec<u8>,
}

/// Becomes the monitor of one container. `fds`: the control socket, the network namespace if there is one, the clients' sockets.
pub fn run(message: SpawnMessage, fds: Vec<OwnedFd>, launcher: Launcher) -> ! {
    let code = match Monitor::start(message, fds, launcher) {
        Ok(mut monitor) => {
            monitor.serve();
            0
        }
        Err(_) => 1,
    };
    std::process::exit(code)
}

impl Monitor {
    /// Launches the container and answers the daemon, well or ill.
    fn start(message: SpawnMessage, fds: Vec<OwnedFd>, launcher: Launcher) -> io::Result<Monitor> {
        let SpawnMessage {
            request,
            netns,
            clients,
        } = message;
        let mut fds = fds.into_iter();
        let connection = fds.next().ok_or(io::ErrorKind::InvalidData)?;
        let netns = if netns { fds.next() } else { None };
        // The loop's end is non-blocking, but nothing can be in the way of the first report.
        let answer = connection.try_clone()?;
        match Monitor::launch(request, connection, netns, launcher) {
            Ok(mut monitor) => {
                monitor.report_started(0);
                for (request, socket) in clients.into_iter().zip(fds) {
                    monitor.attach(0, &request, socket);
                }
                heap::trim();
                Ok(monitor)
            }
            Err(error) => {
                Packet::new(&Report::Failed { id: 0, error })?.send(answer, &[])?;
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn launch(
        request: SpawnRequest,
        connection: OwnedFd,
        netns: Option<OwnedFd>,
        launcher: Launcher,
    ) -> Result<Monitor, LaunchError> {
        let children = become_parent().step("prepare the monitor")?;
        ending::forget_record(&request.state_dir);
        let log = Log::open(&request.log).map_err(|error| LaunchError {
            kind: LaunchErrorKind::Log,
            message: format!("failed to initialize logging driver: {error}"),
        })?;
        let mut control =
            Control::new(connection, &request.state_dir).step("listen in the state directory")?;
        let poll = Poll::new().step("epoll")?;
        let streams = Streams {
            tty: request.tty,
            open_stdin: request.open_stdin,
            size: request.console_size,
        };
        let (launched, ends) = streams
            .launch(|stdio| (launcher.launch)(&request.plan, stdio, netns))
            .inspect_err(|_| control.close_door(&request.state_dir, &poll))?;
        let started_at_ns = now_ns();
        let is_ours = request.plan.foreign.is_none();
        let hooks = own_hooks(&request.plan);
        if let Some(hooks) = &hooks {
            // Their complaints change nothing any more (runtime-spec, "Lifecycle").
            let status = hooks::Status::Running;
            let (list, state) = (&hooks.poststart, &hooks.state);
            let _ = hooks::run_all("poststart", list, state, status, launched.pid);
        }
        let identity = Identity {
            serial: 0,
            exec_id: None,
            pid: launched.pid,
            pidfd: launched.pidfd,
            tty: request.tty,
            stdin_once: request.stdin_once,
        };
        let init = Process::new(identity, ends, &poll);
        let mut monitor = Monitor {
            control,
            children: Source::new(children, Token::Children),
            log,
            processes: vec![init],
            starting: Vec::new(),
            next_serial: 1,
            launcher,
            state_dir: request.state_dir,
            oom: OomWatch::new(&request.plan.cgroup, &poll),
            scope: request.plan.cgroup.scope.filter(|_| is_ours),
            foreign: request.plan.foreign,
            poststop: hooks.filter(|hooks| !hooks.poststop.is_empty()),
            started_at_ns,
            ending: Ending::NotYet,
            buffer: Vec::new(),
            poll,
        };
        monitor.control.watch(&monitor.poll);
        monitor.children.watch(&monitor.poll, Some(EventFlags::IN));
        Ok(monitor)
    }

    /// Works until the container is gone and everybody who wanted to know has been told.
    fn serve(&mut self) {
        // Children that ended during the launch left no signal.
        self.reap();
        let mut ready = [(Token::Control, EventFlags::empty()); BATCH];
        while !self.advance() {
            self.log.watch(&self.poll);
            let timeout = self.timeout();
            let Ok(n) = self.poll.wait(timeout, &mut ready) else {
                return;
            };
            if n == 0 && timeout == Some(IDLE) {
                self.release_memory();
            }
            for &(token, flags) in &ready[..n] {
                self.dispatch(token, flags);
            }
        }
    }

    fn dispatch(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Control => self.control_ready(),
            Token::Listener => self.control.accept(&self.poll),
            Token::Children => self.reap(),
            Token::Oom => self.oom_notice(),
            Token::Log => {
                self.log.room();
                self.with_process(0, |process, io| process.settle(io));
            }
            Token::Starting(serial) => self.proceed(serial),
            Token::Stdin(serial) => {
                self.with_process(serial, |process, io| process.input_ready(io))
            }
            Token::Output(serial, stream) => {
                self.with_process(serial, |process, io| process.output_ready(stream, io))
            }
            Token::Client(serial, client) => {
                let mut detached = None;
                self.with_process(serial, |process, io| {
                    if process.client_ready(client, flags, io) {
                        detached = Some(process.identity.exec_id.clone());
                    }
                });
                if let Some(exec_id) = detached {
                    self.control
                        .event(MonitorEvent::Detached { exec_id }, &self.poll);
                }
            }
        }
    }

    /// Joins a client to a process's streams.
    fn attach(&mut self, serial: u32, request: &AttachRequest, socket: OwnedFd) {
        let mut detached = None;
        self.with_process(serial, |process, io| {
            if process.add_client(request, socket, io) {
                detached = Some(process.identity.exec_id.clone());
            }
        });
        if let Some(exec_id) = detached {
            self.control
                .event(MonitorEvent::Detached { exec_id }, &self.poll);
        }
    }

    fn with_process(&mut self, serial: u32, action: impl FnOnce(&mut Process, &mut Io<'_>)) {
        let Some(process) = self
            .processes
            .iter_mut()
            .find(|process| process.identity.serial == serial)
        else {
            return;
        };
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        let mut io = Io {
            poll: &self.poll,
            buffer: &mut self.buffer,
            log: &mut self.log,
        };
        action(process, &mut io);
    }

    fn report_started(&mut self, id: u64) {
        let init = &self.processes[0];
        let report = Report::Started {
            id,
            pid: init.identity.pid,
            started_at_ns: self.started_at_ns,
        };
        let pidfd = init.identity.pidfd.try_clone().ok();
        self.control.report(&report, pidfd, &self.poll);
    }

    /// Until the next deadline; while buffers are held, until they are due to go.
    fn timeout(&self) -> Option<Duration> {
        let deadlines = self
            .processes
            .iter()
            .filter_map(|process| process.deadline)
            .chain(self.starting.iter().filter_map(StartingExec::deadline))
            .chain(self.ending.deadline())
            .chain(self.oom.deadline())
            .chain(self.log.deadline());
        let until = deadlines
            .min()
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match until {
            None if !self.buffer.is_empty() => Some(IDLE),
            other => other,
        }
    }

    fn release_memory(&mut self) {
        self.buffer = Vec::new();
        self.log.release_memory();
        heap::trim();
    }
}

/// Hooks around a container's life. Another runtime runs them itself.
fn own_hooks(plan: &ContainerPlan) -> Option<Box<Hooks>> {
    let hooks = &plan.hooks;
    let has_any = !hooks.poststart.is_empty() || !hooks.poststop.is_empty();
    (has_any && plan.foreign.is_none()).then(|| Box::new(hooks.clone()))
}

/// How a process's streams are made.
struct Streams {
    tty: bool,
    open_stdin: bool,
    size: (u16, u16),
}

impl Streams {
    /// Makes them, launches, and keeps our ends.
    fn launch(
        &self,
        launch: impl FnOnce(LaunchStdio) -> Result<Launched, LaunchError>,
    ) -> Result<(Launched, stdio::Ends), LaunchError> {
        let (stdio, ends) = if self.tty {
            (
                LaunchStdio::Tty {
                    rows: self.size.0,
                    cols: self.size.1,
                },
                stdio::Ends::default(),
            )
        } else {
            stdio::pipes(self.open_stdin).step("make pipes")?
        };
        let launched = signal::with_child_signals_open(|| launch(stdio)).step("signal mask")??;
        let ends = keep_console(launched.console, ends)?;
        Ok((
            Launched {
                console: None,
                ..launched
            },
            ends,
        ))
    }
}

/// Our end of a terminal, where there is one, instead of those of pipes.
fn keep_console(console: Option<OwnedFd>, ends: stdio::Ends) -> Result<stdio::Ends, LaunchError> {
    match console {
        Some(master) => stdio::console(master).step("terminal"),
        None => Ok(ends),
    }
}

/// Turns the forked process into one that keeps children and survives whoever started it.
fn become_parent() -> io::Result<OwnedFd> {
    rustix::thread::set_name(c"wharf-monitor")?;
    rustix::process::setsid()?;
    // The daemon's standard error may be a pipe whose reader waits for its end.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stderr(&null)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    signal::survive_hangups()?;
    signal::keep_children()?;
    signal::child_signals()
}

/// Sends a signal to the process behind a pidfd.
fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    signal::pidfd_send_signal(pidfd.as_fd(), signal)
}
