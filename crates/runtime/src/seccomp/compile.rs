//! Policy to program: a binary search on the system call number, argument checks at its leaves.
//!
//! A linear filter of 350 comparisons takes ten times longer to load, and costs every system call half its length.

use std::collections::BTreeMap;

use super::policy::{Action, ArgCheck, FilterArch, Operator, Policy};
use super::{Insn, SeccompError, SeccompProgram, syscalls};

/// Marks x32 system call numbers (`__X32_SYSCALL_BIT`).
const X32_BIT: u32 = 0x4000_0000;
/// `BPF_MAXINSNS`.
const MAX_INSNS: usize = 4096;
const ENOSYS: u32 = 38;

// Classic BPF, `linux/bpf_common.h`: the operations we use.
pub(super) const LD_ABS: u16 = 0x20;
pub(super) const AND_K: u16 = 0x54;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGT: u16 = 0x25;
pub(super) const JGE: u16 = 0x35;
pub(super) const RET: u16 = 0x06;

// Offsets in `struct seccomp_data`, little-endian.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Instructions with known length, jumping only forward and within themselves.
type Code = Vec<Insn>;

fn stmt(code: u16, k: u32) -> Insn {
    Insn {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

fn ret(action: Action) -> Insn {
    stmt(RET, action.code())
}

/// What happens with one system call on one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Always(Action),
    /// Tried in order; the policy's default when none holds.
    Checked(Vec<(Vec<ArgCheck>, Action)>),
}

/// Compiles a policy.
pub(super) fn compile(policy: &Policy) -> Result<SeccompProgram, SeccompError> {
    let mut filter = vec![stmt(LD_ABS, ARCH)];
    let mut done = Vec::new();
    for &arch in &policy.archs {
        if done.contains(&arch.audit()) {
            continue;
        }
        done.push(arch.audit());
        let section = compile_section(policy, arch.audit())?;
        filter.push(Insn {
            code: JEQ,
            jt: 1,
            jf: 0,
            k: arch.audit(),
        });
        filter.push(stmt(JA, length(&section)?));
        filter.extend(section);
    }
    // A program of an architecture that the policy does not name (libseccomp's default).
    filter.push(ret(Action::KillThread));
    if filter.len() > MAX_INSNS {
        return Err(SeccompError::Invalid("seccomp profile is too large".into()));
    }
    Ok(SeccompProgram {
        filter,
        flags: policy.flags,
    })
}

fn length(code: &[Insn]) -> Result<u32, SeccompError> {
    u32::try_from(code.len())
        .map_err(|_| SeccompError::Invalid("seccomp profile is too large".into()))
}

/// Everything for one `AUDIT_ARCH_*`: x32, where the policy has it, is a range of x86-64's numbers.
fn compile_section(policy: &Policy, audit: u32) -> Result<Code, SeccompError> {
    let mut ranges: BTreeMap<u32, Code> = BTreeMap::new();
    if audit == FilterArch::X86_64.audit() {
        let x32 = policy.archs.contains(&FilterArch::X32);
        ranges.insert(
            X32_BIT,
            vec![ret(if x32 {
                policy.default
            } else {
                Action::KillThread
            })],
        );
    }
    for &arch in policy.archs.iter().filter(|a| a.audit() == audit) {
        add_ranges(policy, arch, &mut ranges)?;
    }
    let mut merged: Vec<(u32, Code)> = Vec::new();
    for (start, code) in ranges {
        if merged.last().is_none_or(|(_, last)| *last != code) {
            merged.push((start, code));
        }
    }
    let mut code = vec![stmt(LD_ABS, NUMBER)];
    code.extend(bisect(&merged)?);
    Ok(code)
}

/// Adds `number → code` up to the next entry. Numbers in between get the default, numbers after the last one that
/// the policy has any opinion on `ENOSYS`: a new C library then falls back instead of failing (runc).
fn add_ranges(
    policy: &Policy,
    arch: FilterArch,
    ranges: &mut BTreeMap<u32, Code>,
) -> Result<(), SeccompError> {
    let base = if arch == FilterArch::X32 { X32_BIT } else { 0 };
    let default = || vec![ret(policy.default)];
    ranges.insert(base, default());
    let verdicts = verdicts(policy, arch);
    for (number, verdict) in &verdicts {
        let code = match verdict {
            Verdict::Always(action) => vec![ret(*action)],
            Verdict::Checked(rules) => compile_checks(rules, policy.default, arch.is_wide())?,
        };
        ranges.insert(base | number, code);
        if !verdicts.contains_key(&(number + 1)) {
            ranges.insert(base | (number + 1), default());
        }
    }
    let last = last_number(policy, arch, &verdicts);
    if let Some(last) = last.filter(|_| !policy.default.is_permissive()) {
        ranges.insert(base | (last + 1), vec![ret(Action::Errno(ENOSYS))]);
    }
    Ok(())
}

/// The last number that the policy has any opinion on.
pub(super) fn last_number(
    policy: &Policy,
    arch: FilterArch,
    verdicts: &BTreeMap<u32, Verdict>,
) -> Option<u32> {
    let named = policy
        .rules
        .iter()
        .flat_map(|r| &r.names)
        .filter_map(|n| syscalls::number(arch, n));
    named.chain(verdicts.keys().copied()).max()
}

/// The rules by number. A rule without checks wins over those with (libseccomp); among those without, the first.
pub(super) fn verdicts(policy: &Policy, arch: FilterArch) -> BTreeMap<u32, Verdict> {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    let rules = policy.rules.iter().filter(|r| r.action != policy.default);
    for rule in rules {
        for name in &rule.names {
            if let Some(number) = syscalls::number(arch, name) {
                add_verdict(&mut verdicts, number, rule.args.clone(), rule.action);
            }
            if let Some((number, check)) = multiplexed(arch, name).filter(|_| rule.args.is_empty())
            {
                add_verdict(&mut verdicts, number, vec![check], rule.action);
            }
        }
    }
    verdicts
}

fn add_verdict(
    verdicts: &mut BTreeMap<u32, Verdict>,
    number: u32,
    args: Vec<ArgCheck>,
    action: Action,
) {
    match (verdicts.get_mut(&number), args.is_empty()) {
        (Some(Verdict::Always(_)), _) => {}
        (Some(Verdict::Checked(rules)), false) => rules.push((args, action)),
        (_, true) => drop(verdicts.insert(number, Verdict::Always(action))),
        (None, false) => drop(verdicts.insert(number, Verdict::Checked(vec![(args, action)]))),
    }
}

/// i386 also reaches socket and System V calls through one number with a selector, `linux/net.h` and `linux/ipc.h`.
fn multiplexed(arch: FilterArch, name: &str) -> Option<(u32, ArgCheck)> {
    const SOCKET: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 11] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
    ];
    if arch != FilterArch::X86 {
        return None;
    }
    let by = |call, value| {
        let check = ArgCheck {
            index: 0,
            operator: Operator::Equal,
            value,
        };
        syscalls::number(arch, call).map(|number| (number, check))
    };
    if let Some(at) = SOCKET.iter().position(|n| *n == name) {
        return by("socketcall", u64::try_from(at).ok()? + 1);
    }
    match IPC.iter().find(|(n, _)| *n == name) {
        Some((_, value)) => by("ipc", *value),
        None if name == "shmctl" => by("ipc", 24),
        None => None,
    }
}

/// A tree over ranges: at each node, one comparison decides which half the number is in.
fn bisect(ranges: &[(u32, Code)]) -> Result<Code, SeccompError> {
    let [(_, only)] = ranges else {
        let (left, right) = ranges.split_at(ranges.len() / 2);
        let (lower, upper) = (bisect(left)?, bisect(right)?);
        let start = right.first().map_or(0, |(start, _)| *start);
        let mut code = match u8::try_from(lower.len()) {
            Ok(near) => vec![Insn {
                code: JGE,
                jt: near,
                jf: 0,
                k: start,
            }],
            Err(_) => vec![
                Insn {
                    code: JGE,
                    jt: 0,
                    jf: 1,
                    k: start,
                },
                stmt(JA, length(&lower)?),
            ],
        };
        code.extend(lower);
        code.extend(upper);
        return Ok(code);
    };
    Ok(only.clone())
}

/// Rules one after the other, each skipped as soon as one of its checks fails.
fn compile_checks(
    rules: &[(Vec<ArgCheck>, Action)],
    default: Action,
    wide: bool,
) -> Result<Code, SeccompError> {
    let mut code = Vec::new();
    for (checks, action) in rules {
        let mut rule = vec![ret(*action)];
        for check in checks.iter().rev() {
            let too_long = |_| SeccompError::Invalid("too many argument checks in one rule".into());
            let skip = u8::try_from(rule.len()).map_err(too_long)?;
            let mut block = compile_check(*check, wide, skip).ok_or_else(|| {
                SeccompError::Invalid("too many argument checks in one rule".into())
            })?;
            block.extend(rule);
            rule = block;
        }
        code.extend(rule);
    }
    code.push(ret(default));
    Ok(code)
}

/// Falls through when the check holds, else skips `skip` instructions behind itself. 64-bit values are compared
/// upper half first; on 32-bit architectures there is only a lower half.
fn compile_check(check: ArgCheck, wide: bool, skip: u8) -> Option<Code> {
    let offset = ARGS + 8 * u32::from(check.index);
    let (low, high) = halves(check.value);
    let load_low = stmt(LD_ABS, offset);
    let load_high = stmt(LD_ABS, offset + 4);
    let jump = |code, k, jt, jf| Insn { code, jt, jf, k };
    // Number of instructions for the lower half, which the upper half's verdict may skip.
    let far = |n: u8| skip.checked_add(n);
    Some(match (check.operator, wide) {
        (Operator::Equal, false) => vec![load_low, jump(JEQ, low, 0, skip)],
        (Operator::Equal, true) => {
            vec![
                load_high,
                jump(JEQ, high, 0, far(2)?),
                load_low,
                jump(JEQ, low, 0, skip),
            ]
        }
        (Operator::NotEqual, false) => vec![load_low, jump(JEQ, low, skip, 0)],
        (Operator::NotEqual, true) => vec![
            load_high,
            jump(JEQ, high, 0, 2),
            load_low,
            jump(JEQ, low, skip, 0),
        ],
        (Operator::MaskedEqual { mask }, wide) => {
            let (mask_low, mask_high) = halves(mask);
            let lower = [load_low, stmt(AND_K, mask_low), jump(JEQ, low, 0, skip)];
            let mut code = Vec::new();
            if wide {
                code.extend([
                    load_high,
                    stmt(AND_K, mask_high),
                    jump(JEQ, high, 0, far(3)?),
                ]);
            }
            code.extend(lower);
            code
        }
        (order, wide) => {
            let (test, holds_when_true) = match order {
                Operator::Greater => (JGT, true),
                Operator::GreaterOrEqual => (JGE, true),
                Operator::LessOrEqual => (JGT, false),
                _ => (JGE, false),
            };
            let (jt, jf) = if holds_when_true {
                (0, skip)
            } else {
                (skip, 0)
            };
            let mut code = Vec::new();
            if wide {
                // Upper half greater: the greater side's verdict; smaller: the other's; equal: the lower half decides.
                let (greater, smaller) = if holds_when_true {
                    (3, far(2)?)
                } else {
                    (far(3)?, 2)
                };
                code.extend([
                    load_high,
                    jump(JGT, high, greater, 0),
                    jump(JEQ, high, 0, smaller),
                ]);
            }
            code.extend([load_low, jump(test, low, jt, jf)]);
            code
        }
    })
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}
