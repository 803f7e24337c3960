//! The program and what it runs with.

use wharf_spec::runtime::{Linux, PosixRlimitType, Process};

use super::{
    ExecOptions, PlanError, PlanExtra, ProcessPlan, Rlimit, UserPlan, UserSpec, capability,
    scheduling,
};
use crate::seccomp::SeccompProgram;

/// runc's default file mode creation mask.
const DEFAULT_UMASK: u32 = 0o022;

/// Plans the container's own program.
pub(super) fn plan_process(
    process: &Process,
    linux: &Linux,
    extra: &PlanExtra,
    cap_available: u64,
    seccomp: Option<SeccompProgram>,
) -> Result<ProcessPlan, PlanError> {
    let mut planned = plan_oci(process, cap_available, seccomp)?;
    planned.scheduling = scheduling::plan_scheduling(
        process.scheduler().as_ref(),
        process.io_priority().as_ref(),
        linux.personality().as_ref(),
    )?;
    let policy = linux.memory_policy().as_ref();
    planned.scheduling.memory = policy.map(scheduling::plan_memory_policy).transpose()?;
    planned.scheduling.cpus = scheduling::plan_exec_cpus(process.exec_cpu_affinity().as_ref())?;
    planned.preserve_fds = extra.oci.preserve_fds;
    planned.keep_keyring = extra.oci.keep_keyring;
    if let Some(spec) = &extra.user {
        planned.user = UserPlan::Lookup(spec.clone());
    }
    Ok(planned)
}

/// Plans a further process as the OCI describes it. From the container's own it has what belongs to the container.
pub(super) fn plan_oci_exec(
    container: &ProcessPlan,
    process: &Process,
    cap_available: u64,
) -> Result<ProcessPlan, PlanError> {
    let mut planned = plan_oci(process, cap_available, container.seccomp.clone())?;
    planned.scheduling = scheduling::plan_scheduling(
        process.scheduler().as_ref(),
        process.io_priority().as_ref(),
        None,
    )?;
    planned.scheduling.personality = container.scheduling.personality;
    planned
        .scheduling
        .memory
        .clone_from(&container.scheduling.memory);
    planned.scheduling.cpus = match process.exec_cpu_affinity() {
        Some(affinity) => scheduling::plan_exec_cpus(Some(affinity))?,
        None => container.scheduling.cpus.clone(),
    };
    planned.keep_keyring = true;
    Ok(planned)
}

/// What a program and its attributes are, taken from the spec alone.
fn plan_oci(
    process: &Process,
    cap_available: u64,
    seccomp: Option<SeccompProgram>,
) -> Result<ProcessPlan, PlanError> {
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(PlanError::Missing("process.args"));
    }
    let env = process.env().clone().unwrap_or_default();
    check_no_nul("argument", &args)?;
    check_no_nul("environment variable", &env)?;
    Ok(ProcessPlan {
        args,
        env,
        cwd: plan_cwd(super::text(process.cwd(), "working directory")?)?,
        user: plan_user(process),
        caps: capability::plan_caps(process.capabilities().as_ref(), cap_available),
        rlimits: plan_rlimits(process)?,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        seccomp,
        apparmor: process.apparmor_profile().clone().filter(|p| !p.is_empty()),
        oom_score_adj: process.oom_score_adj(),
        umask: process.user().umask().unwrap_or(DEFAULT_UMASK),
        selinux: process.selinux_label().clone().filter(|l| !l.is_empty()),
        scheduling: scheduling::Scheduling::default(),
        preserve_fds: 0,
        keep_keyring: false,
    })
}

/// Plans an exec from the container's own program. Docker: all of it is inherited but what the caller overrides,
/// and `privileged` gives every capability while the system call filter stays.
pub(super) fn plan_exec_process(
    container: &ProcessPlan,
    options: ExecOptions,
    cap_available: u64,
) -> Result<ProcessPlan, PlanError> {
    if options.args.is_empty() {
        return Err(PlanError::Missing("process.args"));
    }
    check_no_nul("argument", &options.args)?;
    check_no_nul("environment variable", &options.env)?;
    let mut process = container.clone();
    process.args = options.args;
    merge_env(&mut process.env, options.env);
    if let Some(cwd) = options.cwd {
        process.cwd = plan_cwd(cwd)?;
    }
    if let Some(user) = options.user {
        let additional_groups = match &container.user {
            UserPlan::Lookup(spec) => spec.additional_groups.clone(),
            UserPlan::Ids { groups, .. } => groups.iter().map(u32::to_string).collect(),
        };
        process.user = UserPlan::Lookup(UserSpec {
            user,
            additional_groups,
        });
    }
    if options.privileged {
        process.caps.bounding = cap_available;
        process.caps.permitted = cap_available;
        process.caps.effective = cap_available;
        process.apparmor = None;
    }
    Ok(process)
}

fn plan_user(process: &Process) -> UserPlan {
    let user = process.user();
    UserPlan::Ids {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
    }
}

fn plan_cwd(cwd: String) -> Result<String, PlanError> {
    match cwd.as_str() {
        "" => Ok("/".into()),
        absolute if absolute.starts_with('/') => Ok(cwd),
        _ => Err(PlanError::Invalid {
            what: "working directory",
            value: cwd,
        }),
    }
}

fn plan_rlimits(process: &Process) -> Result<Vec<Rlimit>, PlanError> {
    let limits = process.rlimits().iter().flatten();
    limits
        .map(|l| {
            if l.soft() > l.hard() {
                return Err(PlanError::Invalid {
                    what: "rlimit",
                    value: l.typ().to_string(),
                });
            }
            Ok(Rlimit {
                resource: rlimit_number(l.typ()),
                soft: l.soft(),
                hard: l.hard(),
            })
        })
        .collect()
}

/// Numbers of `asm-generic/resource.h`, the same on x86-64 and arm64.
fn rlimit_number(kind: PosixRlimitType) -> u32 {
    use PosixRlimitType as R;
    match kind {
        R::RlimitCpu => 0,
        R::RlimitFsize => 1,
        R::RlimitData => 2,
        R::RlimitStack => 3,
        R::RlimitCore => 4,
        R::RlimitRss => 5,
        R::RlimitNproc => 6,
        R::RlimitNofile => 7,
        R::RlimitMemlock => 8,
        R::RlimitAs => 9,
        R::RlimitLocks => 10,
        R::RlimitSigpending => 11,
        R::RlimitMsgqueue => 12,
        R::RlimitNice => 13,
        R::RlimitRtprio => 14,
        R::RlimitRttime => 15,
    }
}

fn check_no_nul(what: &'static str, texts: &[String]) -> Result<(), PlanError> {
    match texts.iter().find(|t| t.contains('\0')) {
        Some(text) => Err(PlanError::Invalid {
            what,
            value: text.clone(),
        }),
        None => Ok(()),
    }
}

/// Docker's `ReplaceOrAppendEnvVars`: a later `KEY=value` replaces in place, a bare `KEY` removes.
fn merge_env(env: &mut Vec<String>, overrides: Vec<String>) {
    for entry in overrides {
        let key = entry.split('=').next().unwrap_or("");
        let same = |e: &String| e.split('=').next() == Some(key);
        match (env.iter().position(same), entry.contains('=')) {
            (Some(at), true) => env[at] = entry,
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry),
            (None, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_environment_overrides_in_place() {
        let mut env = vec!["A=1".into(), "PATH=/bin".into(), "GONE=1".into()];
        merge_env(
            &mut env,
            vec!["A=2".into(), "B=3".into(), "GONE".into(), "NEVER".into()],
        );
        assert_eq!(env, ["A=2", "PATH=/bin", "B=3"]);
    }

    #[test]
    fn working_directory_must_be_absolute() {
        assert_eq!(plan_cwd(String::new()).expect("empty is /"), "/");
        assert!(plan_cwd("relative".into()).is_err());
    }
}
