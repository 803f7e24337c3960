//! Attributes of the calling process that `rustix` does not set: signals, capabilities by mask, limits, `execve`.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;

use crate::outcome::done;

/// Gives every signal its default action and unblocks all, so that nothing of ours is inherited by `execve`.
pub fn reset_signals() {
    // The kernel's `struct sigaction` (handler, flags, restorer, mask), all zero: SIG_DFL. Not signal(3), which refuses
    // the two numbers the C library keeps to itself; whoever started us may have left those ignored too.
    let default = [0_u64; 4];
    for signal in 1..=64_i32 {
        // SAFETY: SIG_DFL installs no code of ours; the struct outlives the call. For SIGKILL and SIGSTOP it fails, harmlessly.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8_usize,
            );
        }
    }
    // SAFETY: an all-zero `sigset_t` is a valid, empty set; `sigemptyset` makes it so formally. Both outlive the call.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks every signal that can be blocked, for a caller that will wait for them one by one.
pub fn block_all_signals() {
    // SAFETY: `sigfillset` initialises the set before it is read; both outlive the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Waits for the next of all (blocked) signals and returns its number.
pub fn wait_signal() -> io::Result<i32> {
    // SAFETY: as in `block_all_signals`; no siginfo is asked for.
    let signal = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigwaitinfo(&raw const all, std::ptr::null_mut())
    };
    done(signal).map(|()| signal)
}

/// Sends any signal number, which `rustix::process::Signal` cannot hold for real-time ones.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: plain values.
    done(unsafe { libc::kill(pid, signal) })
}

/// Closes descriptors `first` to `last`, both included (Linux 5.9).
///
/// The caller is a forked child that will not return to code holding any of them: an owner elsewhere in this address
/// space would otherwise use or close a number that means something else by then.
pub fn close_range(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: no memory is involved; that nobody uses the descriptors again is the caller's promise above.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Permitted, effective and inheritable capabilities of the calling thread, as masks.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |mask: u64, upper: bool| -> u32 {
        let bytes = mask.to_le_bytes();
        let [a, b, c, d, e, f, g, h] = bytes;
        u32::from_le_bytes(if upper { [e, f, g, h] } else { [a, b, c, d] })
    };
    let data: [u32; 6] = [
        half(effective, false),
        half(permitted, false),
        half(inheritable, false),
        half(effective, true),
        half(permitted, true),
        half(inheritable, true),
    ];
    // SAFETY: version 3 takes a header and two structs of three words each, which both outlive the call.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

/// Removes one capability from the bounding set.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: plain values.
    done(unsafe {
        libc::prctl(
            libc::PR_CAPBSET_DROP,
            libc::c_ulong::from(capability),
            0,
            0,
            0,
        )
    })
}

/// Adds one capability to the ambient set; it must be permitted and inheritable.
pub fn raise_ambient(capability: u32) -> io::Result<()> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    // SAFETY: plain values.
    done(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            raise,
            libc::c_ulong::from(capability),
            0,
            0,
        )
    })
}

/// Sets a resource limit by its number.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` outlives the call; the old value is not asked for.
    done(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null::<libc::rlimit64>(),
        )
    })
}

/// `struct sched_attr` of `linux/sched/types.h`, version 0; [`set_scheduler`] fills in its size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SchedAttr {
    /// Bytes of this struct.
    pub size: u32,
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

const _: () = assert!(size_of::<SchedAttr>() == 48);

/// Sets the calling thread's scheduling policy, sched_setattr(2).
pub fn set_scheduler(attributes: SchedAttr) -> io::Result<()> {
    let attributes = SchedAttr {
        size: 48,
        ..attributes
    };
    // SAFETY: the struct says how long it is and outlives the call.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// Sets the calling thread's I/O class and level, ioprio_set(2).
pub fn set_io_priority(priority: u16) -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS` of `linux/ioprio.h`.
    const PROCESS: libc::c_int = 1;
    // SAFETY: plain values.
    done(unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            PROCESS,
            0,
            libc::c_int::from(priority),
        )
    })
}

/// Sets the execution domain, personality(2).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: plain values.
    done(unsafe { libc::personality(domain.into()) })
}

/// Sets from which NUMA nodes the calling thread gets memory, set_mempolicy(2).
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> io::Result<()> {
    let mask = bit_mask(nodes);
    // The kernel looks at one bit less than it is told.
    let bits = mask.len() * 64 + 1;
    // SAFETY: the mask has that many bits but for the last, and outlives the call.
    done(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask.as_ptr(), bits) })
}

/// Bits of these numbers, at least one word.
fn bit_mask(numbers: &[u32]) -> Vec<u64> {
    let words = numbers.iter().max().map_or(1, |last| last / 64 + 1);
    let mut mask = vec![0_u64; usize::try_from(words).unwrap_or(1)];
    for number in numbers {
        mask[usize::try_from(number / 64).unwrap_or(0)] |= 1 << (number % 64);
    }
    mask
}

/// Restricts the calling thread to these processors, sched_setaffinity(2).
pub fn set_cpu_affinity(cpus: &[u32]) -> io::Result<()> {
    let mask = bit_mask(cpus);
    let length = mask.len() * size_of::<u64>();
    // SAFETY: the length is that of the mask, which outlives the call.
    done(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, length, mask.as_ptr()) })
}

/// Runs `action` with other ids for what it makes in file systems (setfsuid(2)), all capabilities kept. Of the calling thread alone: the kernel's calls know no process.
pub fn with_fs_ids<T>(uid: u32, gid: u32, action: impl FnOnce() -> T) -> io::Result<T> {
    /// `SECBIT_NO_SETUID_FIXUP` of `linux/securebits.h`: changing ids changes no capability.
    const KEEP: libc::c_ulong = 1 << 2;
    // SAFETY: plain values; the process's other attributes stay.
    let before = unsafe { libc::prctl(libc::PR_GET_SECUREBITS) };
    let before = libc::c_ulong::try_from(before).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: as above.
    done(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, before | KEEP, 0, 0, 0) })?;
    // SAFETY: both calls take plain values and cannot fail for root; they answer the ids there were.
    let own = unsafe { (libc::setfsuid(uid), libc::setfsgid(gid)) };
    let result = action();
    // SAFETY: as above, with the ids answered before.
    unsafe {
        libc::setfsuid(own.0.unsigned_abs());
        libc::setfsgid(own.1.unsigned_abs());
    }
    // SAFETY: as above.
    done(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, before, 0, 0, 0) })?;
    Ok(result)
}

/// Leaves the inherited session keyring for a new anonymous one.
pub fn join_new_session_keyring() -> io::Result<()> {
    /// `KEYCTL_JOIN_SESSION_KEYRING`.
    const JOIN: libc::c_ulong = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    done(unsafe { libc::syscall(libc::SYS_keyctl, JOIN, std::ptr::null::<libc::c_char>()) })
}

/// Replaces the calling program. Returns only on failure.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in null and point to NUL-terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Ends the process at once: no destructors, no `atexit`, which belong to the process this one was forked from.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Shows `text` (arguments, each ended by NUL) as this process's command line.
///
/// With `CAP_SYS_RESOURCE` the kernel is pointed at the text; without, it is copied over the original arguments, cut
/// to their length. For a forked child that no longer reads its arguments.
pub fn set_command_line(text: &'static [u8]) -> io::Result<()> {
    point_command_line(text).or_else(|_| overwrite_command_line(text))
}

fn point_command_line(text: &'static [u8]) -> io::Result<()> {
    let start = text.as_ptr() as libc::c_ulong;
    let end = start + text.len() as libc::c_ulong;
    // The kernel wants start <= end at each step, and the text may lie on either side of the old arguments.
    let set = |field: libc::c_int, value: libc::c_ulong| {
        // SAFETY: the kernel reads this memory only to show it; `text` is 'static.
        done(unsafe { libc::prctl(libc::PR_SET_MM, field as libc::c_ulong, value, 0, 0) })
    };
    match set(libc::PR_SET_MM_ARG_START, start) {
        Ok(()) => set(libc::PR_SET_MM_ARG_END, end),
        Err(_) => {
            set(libc::PR_SET_MM_ARG_END, end).and_then(|()| set(libc::PR_SET_MM_ARG_START, start))
        }
    }
}

fn overwrite_command_line(text: &[u8]) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    // After the name, which may hold anything, come fields 3 and up; arguments are fields 48 and 49, proc(5).
    let fields = stat.rsplit_once(')').ok_or_else(invalid)?.1;
    let mut fields = fields.split_whitespace().skip(45).map(str::parse::<usize>);
    let (Some(Ok(start)), Some(Ok(end))) = (fields.next(), fields.next()) else {
        return Err(invalid());
    };
    let length = end
        .checked_sub(start)
        .filter(|l| *l > 1 && start != 0)
        .ok_or_else(invalid)?;
    let shown = text.len().min(length - 1);
    // SAFETY: the kernel reported this as our own argument area, mapped and writable for the process's whole life.
    // Nobody else reads or writes it: the process has one thread and is past reading its arguments. The last byte
    // stays NUL.
    unsafe {
        let area = start as *mut u8;
        std::ptr::write_bytes(area, 0, length);
        std::ptr::copy_nonoverlapping(text.as_ptr(), area, shown);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn kill_with_signal_zero_finds_us() {
        let pid = i32::try_from(std::process::id()).expect("pids are small");
        super::kill(pid, 0).expect("we exist");
        assert!(super::kill(i32::MAX, 0).is_err());
    }
}
