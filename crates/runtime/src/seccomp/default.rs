//! Docker's default policy: what may be called, as facts.
//!
//! The facts are those of moby's profile (`profiles/seccomp`, 2026): an allow list, a few calls with conditions on
//! arguments, and calls that a capability brings with it. Everything else fails with `EPERM`, as if the container
//! lacked a privilege; `clone3` with `ENOSYS`, so that the C library falls back to `clone`, whose flags a filter can see.

use super::policy::{Action, ArgCheck, FilterArch, Operator, Policy, Rule};
use crate::host::{Arch, HostFacts};
use crate::plan::capability;

/// Allowed to everybody, on every architecture that has them.
const ALWAYS: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
    execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork
    fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid
    getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat
    listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max
    sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget
    semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt
    set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
    sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs
    statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
    ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice
    wait4 waitid waitpid write writev
";

/// Allowed to everybody on one architecture.
const X86_64_ONLY: &str = "arch_prctl modify_ldt";
const ARM64_ONLY: &str =
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";

/// Allowed since Linux 4.8, where the filter also sees what a tracer changes.
const SINCE_4_8: &str = "process_vm_readv process_vm_writev ptrace";

/// What each capability allows in addition.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    (
        "SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("SYS_RAWIO", "iopl ioperm"),
    (
        "SYS_TIME",
        "settimeofday stime clock_settime clock_settime64",
    ),
    ("SYS_TTY_CONFIG", "vhangup"),
    (
        "SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// `CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP`.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// The capabilities that change the policy; others need no program of their own.
pub(super) fn relevant_caps(caps: u64) -> u64 {
    BY_CAPABILITY
        .iter()
        .filter_map(|(name, _)| capability::number(name))
        .fold(0, |mask, n| mask | 1 << n)
        & caps
}

/// The policy for a container with these capabilities in its bounding set.
pub(super) fn policy(caps: u64, host: &HostFacts) -> Policy {
    let has = |name: &str| capability::number(name).is_some_and(|n| caps >> n & 1 == 1);
    let mut rules = vec![allow(ALWAYS)];
    match host.arch {
        Arch::X86_64 => rules.push(allow(X86_64_ONLY)),
        Arch::Aarch64 => rules.push(allow(ARM64_ONLY)),
    }
    if host.kernel >= (4, 8) {
        rules.push(allow(SINCE_4_8));
    }
    // All families but AF_ALG (kernel crypto) and AF_VSOCK (the host of a virtual machine).
    rules.push(allow_if("socket", 0, Operator::Less, AF_ALG));
    rules.push(allow_if("socket", 0, Operator::Equal, AF_ALG + 1));
    rules.push(allow_if("socket", 0, Operator::Greater, AF_VSOCK));
    // PER_LINUX and PER_LINUX32, each with and without UNAME26, and the query.
    for persona in [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(allow_if("personality", 0, Operator::Equal, persona));
    }
    rules.extend(
        BY_CAPABILITY
            .iter()
            .filter(|(name, _)| has(name))
            .map(|(_, calls)| allow(calls)),
    );
    if !has("SYS_ADMIN") {
        rules.push(allow_if(
            "clone",
            0,
            Operator::MaskedEqual {
                mask: CLONE_NAMESPACES,
            },
            0,
        ));
        rules.push(Rule {
            names: vec!["clone3".into()],
            action: Action::Errno(ENOSYS),
            args: vec![],
        });
    }
    Policy {
        default: Action::Errno(EPERM),
        archs: archs(host.arch),
        flags: 0,
        rules,
    }
}

/// The native architecture first, then those whose programs it also runs.
fn archs(native: Arch) -> Vec<FilterArch> {
    match native {
        Arch::X86_64 => vec![FilterArch::X86_64, FilterArch::X86, FilterArch::X32],
        Arch::Aarch64 => vec![FilterArch::Aarch64, FilterArch::Arm],
    }
}

fn allow(names: &str) -> Rule {
    Rule {
        names: names.split_whitespace().map(String::from).collect(),
        action: Action::Allow,
        args: vec![],
    }
}

fn allow_if(name: &str, index: u8, operator: Operator, value: u64) -> Rule {
    Rule {
        names: vec![name.into()],
        action: Action::Allow,
        args: vec![ArgCheck {
            index,
            operator,
            value,
        }],
    }
}
