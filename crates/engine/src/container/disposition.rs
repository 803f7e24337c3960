//! What a process would do with a signal, as the kernel shows it in `/proc/<pid>/status`.

/// Signals that a process blocks and catches: bit `n - 1` is signal `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disposition {
    blocked: u64,
    caught: u64,
    /// It is in sigwait(3) or a relative: while there, what it waits for is not shown as blocked, and is not dropped.
    waits: bool,
}

/// The system calls behind sigwait(3), also those of 32-bit programs on a 64-bit kernel.
const WAITS: [i64; 3] = [libc::SYS_rt_sigtimedwait, 177, 421];

impl Disposition {
    /// Of a process, at this moment. `None`: there is no such process any more.
    pub fn of(pid: i32) -> Option<Disposition> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        // Around the masks, since they are only what they seem outside these calls.
        let before = is_waiting(&read("syscall")?);
        let disposition = parse(&read("status")?)?;
        let after = is_waiting(&read("syscall")?);
        Some(Disposition {
            waits: before || after,
            ..disposition
        })
    }

    /// Whether the kernel drops the signal when it goes to the first process of a pid namespace, which only ever gets what it has
    /// a handler for (pid_namespaces(7)). A blocked signal is kept instead: it may be taken by sigwait(2) or signalfd(2), as
    /// service managers do.
    pub fn drops(self, signal: i32) -> bool {
        let Some(bit) = u32::try_from(signal - 1)
            .ok()
            .and_then(|shift| 1u64.checked_shl(shift))
        else {
            return false;
        };
        !self.waits && (self.blocked | self.caught) & bit == 0
    }
}

fn parse(status: &str) -> Option<Disposition> {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    Some(Disposition {
        blocked: mask("SigBlk:")?,
        caught: mask("SigCgt:")?,
        waits: false,
    })
}

/// Reads `/proc/<pid>/syscall`: a number and its arguments, or `running`.
fn is_waiting(syscall: &str) -> bool {
    let number = syscall.split_ascii_whitespace().next();
    number
        .and_then(|number| number.parse().ok())
        .is_some_and(|number| WAITS.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signals_nobody_waits_for_are_dropped() {
        let status = "Name:\tx\nSigPnd:\t0000000000000000\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000004000\n";
        let disposition = parse(status).expect("masks");
        let rows = [(1, true), (2, false), (15, false), (3, true), (0, false)];
        for (signal, dropped) in rows {
            assert_eq!(disposition.drops(signal), dropped, "{signal}");
        }
        assert_eq!(parse("Name:\tx\n"), None);
        let waiting = Disposition {
            waits: true,
            ..disposition
        };
        assert!(!waiting.drops(15));
        assert!(is_waiting(&format!(
            "{} 0x1 0x2\n",
            libc::SYS_rt_sigtimedwait
        )));
        assert!(!is_waiting("35 0x1\n") && !is_waiting("running\n"));
    }

    #[test]
    fn our_own_is_readable() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        assert!(Disposition::of(pid).is_some());
        assert_eq!(Disposition::of(0), None);
    }
}
