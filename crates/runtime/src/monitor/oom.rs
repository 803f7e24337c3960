//! Noticing that the kernel killed for memory.
//!
//! v1 signals an eventfd registered with `memory.oom_control` (kernel: cgroup-v1/memory.rst, section 10); v2 wakes whoever polls
//! `memory.events` (cgroup-v2.rst). Both only say that something happened; the counter of kills says what. Watched for every container:
//! a limit may come later (`docker update`), or be that of a group above.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

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
}

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
        }
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
        news
    }

    /// The kernel has killed something at some time.
    pub fn ever(&self) -> bool {
        self.told > 0
    }

    /// Takes the notice, so that it is not given again.
    pub fn acknowledge(&mut self) {
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
