//! How the kernel schedules the program: policy, I/O priority, processors, execution domain.

use serde::{Deserialize, Serialize};
use wharf_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality,
    LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType, Scheduler,
};

use super::PlanError;

/// How the program is scheduled; `None` inherits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// CPU scheduling.
    pub scheduler: Option<SchedulerPlan>,
    /// `ioprio_set(2)`'s number: class and level.
    pub io_priority: Option<u16>,
    /// `personality(2)`'s number.
    pub personality: Option<u32>,
    /// From which NUMA nodes it gets memory.
    pub memory: Option<MemoryPolicy>,
    /// Of an exec: processors while it is being set up, and when the program begins.
    pub cpus: ExecCpus,
}

/// `struct sched_attr` without its size, sched_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerPlan {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, likewise.
    pub deadline: u64,
    /// Nanoseconds, likewise.
    pub period: u64,
}

/// What set_mempolicy(2) is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*`, with `MPOL_F_*`.
    pub mode: u32,
    /// Nodes by number.
    pub nodes: Vec<u32>,
}

/// Processors by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCpus {
    /// From the first moment, before the container's group is joined.
    pub initial: Vec<u32>,
    /// From the moment the group is joined.
    pub last: Vec<u32>,
}

/// Plans all of it.
pub(super) fn plan_scheduling(
    scheduler: Option<&Scheduler>,
    io: Option<&LinuxIOPriority>,
    personality: Option<&LinuxPersonality>,
) -> Result<Scheduling, PlanError> {
    Ok(Scheduling {
        scheduler: scheduler.map(plan_scheduler).transpose()?,
        io_priority: io.map(plan_io).transpose()?,
        personality: personality.map(plan_personality).transpose()?,
        memory: None,
        cpus: ExecCpus::default(),
    })
}

/// Numbers of `linux/mempolicy.h`.
pub(super) fn plan_memory_policy(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy, PlanError> {
    use MemoryPolicyFlagType as F;
    use MemoryPolicyModeType as M;
    let mode = match policy.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().map(|flag| match flag {
        F::MpolFNumaBalancing => 1 << 13,
        F::MpolFRelativeNodes => 1 << 14,
        F::MpolFStaticNodes => 1 << 15,
    });
    let text = policy.nodes().as_deref();
    let nodes = parse_cpus(text).map_err(|_| invalid("NUMA node list", text.unwrap_or("")))?;
    Ok(MemoryPolicy {
        mode: flags.fold(mode, |mode, flag| mode | flag),
        nodes,
    })
}

fn invalid(what: &'static str, value: impl ToString) -> PlanError {
    PlanError::Invalid {
        what,
        value: value.to_string(),
    }
}

fn plan_scheduler(s: &Scheduler) -> Result<SchedulerPlan, PlanError> {
    use LinuxSchedulerPolicy as P;
    // `linux/sched.h`
    let policy = match s.policy() {
        P::SchedOther => 0,
        P::SchedFifo => 1,
        P::SchedRr => 2,
        P::SchedBatch => 3,
        P::SchedIso => 4,
        P::SchedIdle => 5,
        P::SchedDeadline => 6,
    };
    let nice = s.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(invalid("scheduler nice value", nice));
    }
    let priority = s.priority().unwrap_or(0);
    if priority != 0 && !matches!(s.policy(), P::SchedFifo | P::SchedRr) {
        return Err(PlanError::Unsupported(
            "a scheduler priority with a policy other than SCHED_FIFO or SCHED_RR".into(),
        ));
    }
    let (runtime, deadline, period) = (
        s.runtime().unwrap_or(0),
        s.deadline().unwrap_or(0),
        s.period().unwrap_or(0),
    );
    if (runtime, deadline, period) != (0, 0, 0) && *s.policy() != P::SchedDeadline {
        return Err(PlanError::Unsupported(
            "a scheduler runtime, deadline or period with a policy other than SCHED_DEADLINE"
                .into(),
        ));
    }
    Ok(SchedulerPlan {
        policy,
        flags: s.flags().iter().flatten().fold(0, |m, f| m | flag(*f)),
        nice,
        priority: u32::try_from(priority).map_err(|_| invalid("scheduler priority", priority))?,
        runtime,
        deadline,
        period,
    })
}

/// `SCHED_FLAG_*` of `linux/sched.h`.
fn flag(flag: LinuxSchedulerFlag) -> u64 {
    use LinuxSchedulerFlag as F;
    match flag {
        F::SchedResetOnFork => 0x01,
        F::SchedFlagReclaim => 0x02,
        F::SchedFlagDLOverrun => 0x04,
        F::SchedFlagKeepPolicy => 0x08,
        F::SchedFlagKeepParams => 0x10,
        F::SchedFlagUtilClampMin => 0x20,
        F::SchedFlagUtilClampMax => 0x40,
    }
}

/// Class in the upper three bits, level below (`linux/ioprio.h`).
fn plan_io(io: &LinuxIOPriority) -> Result<u16, PlanError> {
    let class = match io.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = u16::try_from(io.priority()).ok().filter(|l| *l <= 7);
    let level = level.ok_or_else(|| invalid("I/O priority", io.priority()))?;
    Ok(class << 13 | level)
}

fn plan_personality(p: &LinuxPersonality) -> Result<u32, PlanError> {
    // The specification defines no flag yet.
    if let Some(flag) = p.flags().iter().flatten().next() {
        return Err(PlanError::Unsupported(format!("personality flag {flag}")));
    }
    Ok(match p.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

/// Plans `process.execCPUAffinity`.
pub(super) fn plan_exec_cpus(affinity: Option<&ExecCPUAffinity>) -> Result<ExecCpus, PlanError> {
    let Some(affinity) = affinity else {
        return Ok(ExecCpus::default());
    };
    Ok(ExecCpus {
        initial: parse_cpus(affinity.initial().as_deref())?,
        last: parse_cpus(affinity.cpu_affinity_final().as_deref())?,
    })
}

/// Most processors the kernel can be built for.
const MAX_CPU: u32 = 8191;

/// `0-3,7` → `0 1 2 3 7`.
fn parse_cpus(text: Option<&str>) -> Result<Vec<u32>, PlanError> {
    let text = text.unwrap_or("");
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |t: &str| t.trim().parse::<u32>().ok().filter(|n| *n <= MAX_CPU);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
            _ => return Err(invalid("CPU list", text)),
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        for (text, cpus) in [
            (Some("0-2,7"), vec![0, 1, 2, 7]),
            (Some("3"), vec![3]),
            (None, vec![]),
        ] {
            assert_eq!(parse_cpus(text).expect("valid"), cpus);
        }
        for text in ["x", "3-1", "0-99999999"] {
            assert!(parse_cpus(Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_policies_are_the_kernels() {
        let policy = r#"{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_STATIC_NODES"]}"#;
        let policy = serde_json::from_str(policy).expect("valid");
        let planned = plan_memory_policy(&policy).expect("valid");
        assert_eq!((planned.mode, planned.nodes), (2 | 1 << 15, vec![0, 1]));
        let policy = r#"{"mode":"MPOL_BIND","nodes":"x"}"#;
        let policy = serde_json::from_str(policy).expect("valid JSON");
        assert!(plan_memory_policy(&policy).is_err());
    }

    #[test]
    fn numbers_are_the_kernels() {
        let io: LinuxIOPriority =
            serde_json::from_str(r#"{"class":"IOPRIO_CLASS_IDLE","priority":7}"#).expect("valid");
        assert_eq!(plan_io(&io).expect("valid"), 3 << 13 | 7);
        let s: Scheduler =
            serde_json::from_str(r#"{"policy":"SCHED_BATCH","nice":19}"#).expect("valid");
        let plan = plan_scheduler(&s).expect("valid");
        assert_eq!((plan.policy, plan.nice), (3, 19));
        let s: Scheduler =
            serde_json::from_str(r#"{"policy":"SCHED_OTHER","priority":5}"#).expect("valid");
        assert!(plan_scheduler(&s).is_err());
    }
}
