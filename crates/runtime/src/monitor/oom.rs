//! Noticing that the kernel killed for memory.
//!
//! v1 signals an eventfd registered with `memory.oom_control` (kernel: cgroup-v1/memory.rst, section 10); v2 wakes whoever polls
//! `memory.events` (cgroup-v2.rst). Both only say that something happened; the counter of kills says what. Watched for every container:
//! a limit may come later (`docker update`), or be that of a group above.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::event::{EventfdFlags, eventfd};

use super::poll::{Poll, Source, Token};
use crate::cgroup::CgroupPath;
use crate::plan::CgroupPlan;

/// Watches one container's group.
#[derive(Debug)]
pub struct OomWatch {
    group: CgroupPath,
    source: Option<Source>,
    /// Kills told so far.
    told: u64,
    /// When to look again, and how long to wait after that.
    again: Option<(Instant, Duration)>,
}

/// First pause before the counter is looked at again.
const FIRST: Duration = Duration::from_millis(1);

/// Pauses double up to this; afterwards the notice is taken for one without a kill (memory was found, or killing is off).
const LAST: Duration = Duration::from_millis(500);

impl OomWatch {
    /// Begins to watch. Where the kernel offers no notice, kills are found by [`OomWatch::news`] alone.
    pub fn new(plan: &CgroupPlan, poll: &Poll) -> OomWatch {
        let group = plan.path.clone();
        let notice = group.dir("memory").and_then(|dir| match group {
            CgroupPath::V1(_) => register_v1(dir).ok().map(|fd| (fd, EventFlags::IN)),
            CgroupPath::V2(_) => File::open(dir.join("memory.events"))
                .ok()
                .map(|file| (file.into(), EventFlags::PRI)),
        });
        let source = notice.map(|(fd, flags)| {
            let mut source = Source::new(fd, Token::Oom);
            source.watch(poll, Some(flags));
            source
        });
        OomWatch {
            group,
            source,
            told: 0,
            // What happened before anybody watched.
            again: Some((Instant::now(), FIRST)),
        }
    }

    /// The kernel gave notice. On v1 it does so before it kills: the counter says nothing yet, and no second notice comes.
    pub fn noticed(&mut self) {
        self.acknowledge();
        self.again = Some((Instant::now(), FIRST));
    }

    /// When [`OomWatch::is_due`] will be.
    pub fn deadline(&self) -> Option<Instant> {
        self.again.map(|(at, _)| at)
    }

    /// Whether to ask for [`OomWatch::news`] now; plans the next time.
    pub fn is_due(&mut self) -> bool {
        let Some((at, pause)) = self.again else {
            return false;
        };
        let now = Instant::now();
        if now < at {
            return false;
        }
        self.again = (pause <= LAST).then(|| (now + pause, pause * 2));
        true
    }

    /// The container's control group.
    pub fn group(&self) -> &CgroupPath {
        &self.group
    }

    /// The kernel has killed something since the last time this was asked.
    pub fn news(&mut self) -> bool {
        let kills = self.group.oom_kills();
        let news = kills > self.told;
        self.told = kills;
        if news {
            self.again = None;
        }
        news
    }

    /// The kernel has killed something at some time.
    pub fn ever(&self) -> bool {
        self.told > 0
    }

    /// Takes the notice, so that it is not given again.
    fn acknowledge(&mut self) {
        let Some(source) = &self.source else { return };
        // An eventfd gives its counter; a file is quiet once it was read from the start.
        if let Ok(fd) = rustix::io::dup(source) {
            let mut file = File::from(fd);
            let _ = file.rewind();
            let _ = file.read(&mut [0; 512]);
        }
    }

    /// The group is about to go.
    pub fn stop(&mut self, poll: &Poll) {
        self.again = None;
        if let Some(mut source) = self.source.take() {
            source.watch(poll, None);
        }
    }
}

fn register_v1(dir: &Path) -> io::Result<OwnedFd> {
    let notice = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = File::open(dir.join("memory.oom_control"))?;
    fs::write(
        dir.join("cgroup.event_control"),
        format!("{} {}", notice.as_raw_fd(), control.as_raw_fd()),
    )?;
    Ok(notice)
}
