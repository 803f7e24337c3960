//! Containers: what they are, how they fare, and everything that can be asked of one.
//!
//! Reading order: [`status`] (the life of a container) → [`record`] (what is stored) → [`Container`] (in memory) → [`registry`]
//! (finding one) → [`create`] → [`start`] → [`exit`] → [`remove`]; the other modules are one request each.

pub mod names;
pub mod record;
pub mod registry;
pub mod signals;
pub mod status;

pub mod abilities;
pub mod attach;
pub mod create;
pub mod detach_keys;
pub mod disposition;
pub mod dns;
pub mod exit;
pub mod file_system;
pub mod files;
pub mod idmap;
pub mod image_config;
pub mod limits;
pub mod links;
pub mod log_driver;
pub mod log_options;
pub mod log_plan;
pub mod log_service;
pub mod log_tag;
pub mod mounts;
pub mod network;
pub mod normalise;
pub mod remove;
pub mod resolv_conf;
pub mod restart_policy;
pub mod restore;
pub mod root_view;
pub mod runtimes;
pub mod shared_memory;
pub mod spec;
pub mod start;
pub mod start_error;
pub mod stop;
pub mod storage;
pub mod validate;
pub mod wait;

pub mod changes;
pub mod commit;
pub mod copy;
pub mod events;
pub mod export;
pub mod health;
pub mod health_check;
pub mod inspect;
pub mod list;
pub mod list_filters;
pub mod logs;
pub mod path_stat;
pub mod pause;
pub mod prune;
pub mod rename;
pub mod resize;
pub mod stats;
pub mod subpath;
pub mod top;
pub mod update;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use wharf_runtime::client::{AttachRequest, Monitor};
use wharf_runtime::plan::ContainerPlan;

use crate::state::Database;
use crate::{Error, Result};
use record::{Record, State};
use restart_policy::Backoff;
use spec::environment::key as environment_key;
use status::{Change, Status};
use wait::Waiter;

/// One container in memory.
#[derive(Debug)]
pub struct Container {
    /// 64 hex.
    pub id: String,
    record: RwLock<Arc<Record>>,
    inner: Mutex<Inner>,
    /// Held by the one operation that starts or removes the container.
    pub(crate) lifecycle: Arc<tokio::sync::Mutex<()>>,
    /// Calls off a waiting restart.
    pub(crate) restart_canceled: Notify,
    /// Clients whose attach was granted but whose socket is still on its way.
    pub(crate) attaching: watch::Sender<usize>,
}

/// What changes together.
#[derive(Debug, Default)]
struct Inner {
    state: State,
    live: Option<Arc<Live>>,
    waiters: Vec<Waiter>,
    pending: Vec<(AttachRequest, OwnedFd)>,
    backoff: Backoff,
    execs: BTreeSet<String>,
    /// The present stop belongs to a restart: no auto-remove, no policy.
    manually_restarted: bool,
    /// The present run was told to end: no policy starts another after it (moby `RestartManager.Cancel`).
    exit_on_next: bool,
    /// Ends the present health checks; `None`: there are none.
    health_checks: Option<watch::Sender<()>>,
}

/// A running container's handles.
#[derive(Debug)]
pub struct Live {
    /// Its monitor.
    pub monitor: Monitor,
    /// Init's pid on the host.
    pub pid: i32,
    /// Init.
    pub pidfd: OwnedFd,
    /// What it was started from; execs and limits derive from it.
    pub plan: ContainerPlan,
    /// Turns true when init is gone and its output complete.
    pub ended: watch::Sender<bool>,
}

impl Container {
    /// A container as created or as loaded.
    pub fn new(record: Record, state: State) -> Container {
        Container {
            id: record.id.clone(),
            record: RwLock::new(Arc::new(record)),
            inner: Mutex::new(Inner {
                state,
                ..Inner::default()
            }),
            lifecycle: Arc::default(),
            restart_canceled: Notify::new(),
            attaching: watch::Sender::new(0),
        }
    }

    /// What it is, at this moment.
    pub fn record(&self) -> Arc<Record> {
        self.record.read().clone()
    }

    /// Its name without slash.
    pub fn name(&self) -> String {
        self.record.read().name.clone()
    }

    /// How it fares, at this moment.
    pub fn state(&self) -> State {
        self.inner.lock().state.clone()
    }

    /// Its status, at this moment.
    pub fn status(&self) -> Status {
        self.inner.lock().state.status
    }

    /// Handles of the present run.
    pub fn live(&self) -> Option<Arc<Live>> {
        self.inner.lock().live.clone()
    }

    /// Handles of the present run, or Docker's refusal.
    pub fn running(&self) -> Result<Arc<Live>> {
        let inner = self.inner.lock();
        match (&inner.live, inner.state.status) {
            (_, Status::Restarting) => Err(Error::restarting(&self.id)),
            (Some(live), _) => Ok(live.clone()),
            (None, _) => Err(Error::not_running(&self.id)),
        }
    }

    /// Changes what it is, in memory and in the database.
    pub(crate) fn edit_record(
        &self,
        database: &Database,
        edit: impl FnOnce(&mut Record),
    ) -> Result<()> {
        let mut record = self.record.write();
        let mut edited = Record::clone(&record);
        edit(&mut edited);
        database.save_config(&self.id, &edited)?;
        *record = Arc::new(edited);
        Ok(())
    }

    /// Changes how it fares without changing its status.
    pub(crate) fn edit_state(
        &self,
        database: &Database,
        edit: impl FnOnce(&mut State),
    ) -> Result<()> {
        let mut inner = self.inner.lock();
        edit(&mut inner.state);
        database.save_state(&self.id, &inner.state)?;
        Ok(())
    }

    /// Takes a change: the status moves, `edit` fills in the rest, the row is written, then waiters are told. When the row
    /// cannot be written the change has happened all the same: waiters are told, and the error is returned.
    pub(crate) fn take(
        &self,
        database: &Database,
        change: Change,
        edit: impl FnOnce(&mut State),
    ) -> Result<State> {
        let mut inner = self.inner.lock();
        let next = inner
            .state
            .status
            .after(change)
            .map_err(|error| Error::conflict(error.to_string()))?;
        inner.state.status = next;
        edit(&mut inner.state);
        if !matches!(next, Status::Running | Status::Paused) {
            inner.state.pid = 0;
            inner.live = None;
            inner.execs.clear();
        }
        let saved = database.save_state(&self.id, &inner.state);
        let state = inner.state.clone();
        wait::tell(&mut inner.waiters, change, &state);
        match saved {
            // An end has happened whether or not a full disk takes a note of it, and a removal is what makes room again. A
            // daemon killed now leaves the monitor's own record, or files without a container.
            Err(error) if matches!(change, Change::Exited | Change::RemoveBegun) => {
                tracing::error!(container = self.id, %error, ?change, "change not recorded");
            }
            other => other?,
        }
        Ok(state)
    }

    /// Remembers the handles of a run that begins. Gives the clients that came while the start was under way: the run is
    /// theirs too.
    #[must_use]
    pub(crate) fn set_live(&self, live: Arc<Live>) -> Vec<(AttachRequest, OwnedFd)> {
        let mut inner = self.inner.lock();
        inner.live = Some(live);
        inner.exit_on_next = false;
        std::mem::take(&mut inner.pending)
    }

    /// Ids of execs that run.
    pub fn exec_ids(&self) -> Vec<String> {
        self.inner.lock().execs.iter().cloned().collect()
    }

    pub(crate) fn add_exec(&self, id: &str) {
        self.inner.lock().execs.insert(id.to_owned());
    }

    pub(crate) fn drop_exec(&self, id: &str) {
        self.inner.lock().execs.remove(id);
    }

    /// Keeps a client until the next start, or gives it back with the handles of the run that has begun: one lock decides, so
    /// that no client waits beside a running container.
    pub(crate) fn add_pending(
        &self,
        request: AttachRequest,
        client: OwnedFd,
    ) -> Option<(Arc<Live>, AttachRequest, OwnedFd)> {
        let mut inner = self.inner.lock();
        if let Some(live) = inner.live.clone() {
            return Some((live, request, client));
        }
        inner.pending.retain(|(_, fd)| !attach::has_hung_up(fd));
        inner.pending.push((request, client));
        None
    }

    /// Hands over the clients that attached before the start.
    pub(crate) fn take_pending(&self) -> Vec<(AttachRequest, OwnedFd)> {
        std::mem::take(&mut self.inner.lock().pending)
    }

    /// Runs `f` with state and waiters locked together.
    pub(crate) fn with_waiters<T>(&self, f: impl FnOnce(&State, &mut Vec<Waiter>) -> T) -> T {
        let mut inner = self.inner.lock();
        let Inner { state, waiters, .. } = &mut *inner;
        f(state, waiters)
    }

    pub(crate) fn with_backoff<T>(&self, f: impl FnOnce(&mut Backoff) -> T) -> T {
        f(&mut self.inner.lock().backoff)
    }

    pub(crate) fn set_manually_restarted(&self, value: bool) {
        self.inner.lock().manually_restarted = value;
    }

    pub(crate) fn is_manually_restarted(&self) -> bool {
        self.inner.lock().manually_restarted
    }

    /// Notes that health checks begin, ending others. They end when what is returned changes or closes.
    pub(crate) fn new_health_checks(&self) -> watch::Receiver<()> {
        let (sender, receiver) = watch::channel(());
        self.inner.lock().health_checks = Some(sender);
        receiver
    }

    /// Ends the health checks. False: there were none.
    pub(crate) fn drop_health_checks(&self) -> bool {
        self.inner.lock().health_checks.take().is_some()
    }

    /// From now on the end of this run is the end.
    pub(crate) fn set_exit_on_next(&self) {
        self.inner.lock().exit_on_next = true;
    }

    pub(crate) fn exits_on_next(&self) -> bool {
        self.inner.lock().exit_on_next
    }
}
