//! A small interpreter of classic BPF, and what filters must answer when it runs them.

use proptest::prelude::*;

use super::compile::{
    AND_K, JA, JEQ, JGE, JGT, LD_ABS, RET, Verdict, compile, last_number, verdicts,
};
use super::policy::{Action, ArgCheck, FilterArch, Operator, Policy, Rule};
use super::*;
use crate::host::{Arch, CgroupLayout, KernelFeatures};
use crate::plan::capability;

/// Runs a filter on one system call.
fn run(program: &SeccompProgram, audit: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(audit.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    args.iter().for_each(|a| data.extend(a.to_le_bytes()));
    let mut a = 0;
    let mut pc = 0;
    loop {
        let Insn { code, jt, jf, k } = program.filter[pc];
        pc += 1;
        let branch = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            LD_ABS => {
                let at = usize::try_from(k).expect("small");
                a = u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
            }
            AND_K => a &= k,
            JA => pc += usize::try_from(k).expect("small"),
            JEQ => pc += branch(a == k),
            JGT => pc += branch(a > k),
            JGE => pc += branch(a >= k),
            RET => return k,
            other => panic!("unexpected operation {other:#x}"),
        }
    }
}

fn host(arch: Arch) -> HostFacts {
    HostFacts {
        cgroup: CgroupLayout::V1 {
            hierarchies: vec![],
        },
        kernel: (6, 1),
        features: KernelFeatures::default(),
        cap_bounding: u64::MAX,
        arch,
        resctrl: None,
    }
}

fn caps(names: &[&str]) -> u64 {
    names
        .iter()
        .map(|n| 1 << capability::number(n).expect("a capability"))
        .sum()
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0;

fn ask(names: &[&str], arch: FilterArch, call: &str, args: [u64; 6]) -> u32 {
    let native = if matches!(arch, FilterArch::Aarch64 | FilterArch::Arm) {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };
    let program = default_program(caps(names), &host(native)).expect("compiles");
    let mark = if arch == FilterArch::X32 {
        0x4000_0000
    } else {
        0
    };
    run(
        &program,
        arch.audit(),
        syscalls::number(arch, call).expect(call) | mark,
        args,
    )
}

#[test]
fn default_policy_answers_as_dockers() {
    let with = |first: u64| [first, 0, 0, 0, 0, 0];
    let none: &[&str] = &[];
    for (caps, call, args, expected) in [
        (none, "read", with(0), ALLOW),
        (none, "execve", with(0), ALLOW),
        (none, "mount", with(0), EPERM),
        (&["SYS_ADMIN"], "mount", with(0), ALLOW),
        (none, "clone3", with(0), ENOSYS),
        (&["SYS_ADMIN"], "clone3", with(0), ALLOW),
        (none, "clone", with(0x11), ALLOW),
        (none, "clone", with(0x1000_0000), EPERM),
        (&["SYS_ADMIN"], "clone", with(0x1000_0000), ALLOW),
        (none, "unshare", with(0), EPERM),
        (none, "keyctl", with(0), EPERM),
        (none, "socket", with(2), ALLOW),
        (none, "socket", with(38), EPERM),
        (none, "socket", with(39), ALLOW),
        (none, "socket", with(40), EPERM),
        (none, "socket", with(41), ALLOW),
        (none, "socket", with(0x1_0000_0026), ALLOW),
        (none, "personality", with(8), ALLOW),
        (none, "personality", with(9), EPERM),
        (none, "personality", with(0xffff_ffff), ALLOW),
        (none, "ptrace", with(0), ALLOW),
        (none, "arch_prctl", with(0), ALLOW),
        (none, "chroot", with(0), EPERM),
        (&["SYS_CHROOT"], "chroot", with(0), ALLOW),
        (&["SYS_TIME"], "clock_settime", with(0), ALLOW),
        (none, "syslog", with(0), EPERM),
        (&["SYSLOG"], "syslog", with(0), ALLOW),
        (none, "io_uring_setup", with(0), EPERM),
    ] {
        assert_eq!(
            ask(caps, FilterArch::X86_64, call, args),
            expected,
            "{call} {args:?} with {caps:?}"
        );
    }
}

#[test]
fn other_architectures_have_their_own_numbers() {
    let zero = [0; 6];
    for (arch, call, expected) in [
        (FilterArch::X86, "read", ALLOW),
        (FilterArch::X86, "socketcall", ALLOW),
        (FilterArch::X86, "mount", EPERM),
        (FilterArch::X86, "clock_gettime64", ALLOW),
        (FilterArch::X32, "ioctl", ALLOW),
        (FilterArch::X32, "mount", EPERM),
        (FilterArch::Aarch64, "openat", ALLOW),
        (FilterArch::Aarch64, "mount", EPERM),
        (FilterArch::Arm, "set_tls", ALLOW),
    ] {
        assert_eq!(ask(&[], arch, call, zero), expected, "{arch:?} {call}");
    }
    // 32-bit arguments have no upper half that could hide a flag.
    assert_eq!(
        ask(&[], FilterArch::X86, "clone", [0x1000_0000, 0, 0, 0, 0, 0]),
        EPERM
    );
}

#[test]
fn unknown_architectures_die_and_unknown_calls_do_not_exist() {
    let program = default_program(0, &host(Arch::X86_64)).expect("compiles");
    assert_eq!(run(&program, 0xc000_00b7, 0, [0; 6]), KILL);
    assert_eq!(
        run(&program, FilterArch::X86_64.audit(), 600, [0; 6]),
        ENOSYS
    );
    assert_eq!(
        run(
            &program,
            FilterArch::X86_64.audit(),
            0x4000_0000 | 900,
            [0; 6]
        ),
        ENOSYS
    );
}

#[test]
fn without_x32_its_numbers_die() {
    let rule = Rule {
        names: vec!["read".into()],
        action: Action::Allow,
        args: vec![],
    };
    let policy = Policy {
        default: Action::Errno(1),
        archs: vec![FilterArch::X86_64],
        flags: 0,
        rules: vec![rule],
    };
    let program = compile(&policy).expect("compiles");
    let audit = FilterArch::X86_64.audit();
    assert_eq!(run(&program, audit, 0, [0; 6]), ALLOW);
    assert_eq!(run(&program, audit, 0x4000_0000, [0; 6]), KILL);
    assert_eq!(run(&program, FilterArch::X86.audit(), 3, [0; 6]), KILL);
}

#[test]
fn a_bare_denial_reaches_i386_multiplexers() {
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64",
        "subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["socket","shmget"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let program = plan_seccomp(
        &SeccompPolicy::Profile(text.into()),
        None,
        0,
        &host(Arch::X86_64),
    );
    let program = program.expect("valid").expect("confines");
    let audit = FilterArch::X86.audit();
    assert_eq!(run(&program, audit, 102, [1, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(run(&program, audit, 102, [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(run(&program, audit, 117, [23, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn profiles_depend_on_caps_and_kernel() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
        {"name":"read","action":"SCMP_ACT_ALLOW","args":[],"comment":"","includes":{},"excludes":{}},
        {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
        {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}},
        {"names":["kcmp"],"action":"SCMP_ACT_KILL_PROCESS","excludes":{"arches":["amd64"]}}]}"#;
    let ask = |caps, call| {
        let program = plan_seccomp(
            &SeccompPolicy::Profile(text.into()),
            None,
            caps,
            &host(Arch::X86_64),
        );
        let number = syscalls::number(FilterArch::X86_64, call).expect("known");
        run(
            &program.expect("valid").expect("confines"),
            FilterArch::X86_64.audit(),
            number,
            [0; 6],
        )
    };
    assert_eq!(ask(0, "read"), ALLOW);
    assert_eq!(ask(0, "mount"), ENOSYS);
    assert_eq!(ask(caps(&["SYS_ADMIN"]), "mount"), ALLOW);
    assert_eq!(ask(0, "ptrace"), ENOSYS);
    assert_eq!(ask(0, "kcmp"), ENOSYS);
}

#[test]
fn bad_profiles_are_refused() {
    for (text, message) in [
        ("{", "Decoding seccomp profile failed: "),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"x"}]}"#,
            "both 'arch",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_LOG"}]}"#,
            "both 'name'",
        ),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}"#,
            "seccomp flag X",
        ),
    ] {
        let error = plan_seccomp(
            &SeccompPolicy::Profile(text.into()),
            None,
            0,
            &host(Arch::X86_64),
        )
        .expect_err(text);
        assert!(error.to_string().starts_with(message), "{error}");
    }
    assert_eq!(
        plan_seccomp(
            &SeccompPolicy::Profile("{}".into()),
            None,
            0,
            &host(Arch::X86_64)
        )
        .expect("empty"),
        None
    );
}

#[test]
fn the_default_program_is_small_and_shallow() {
    let program = default_program(0xa804_25fb, &host(Arch::X86_64)).expect("compiles");
    assert!(
        program.filter.len() < 700,
        "{} instructions",
        program.filter.len()
    );
}

/// The same question asked rule by rule, without a tree.
fn linear(policy: &Policy, arch: FilterArch, number: u32, args: [u64; 6]) -> u32 {
    let all = verdicts(policy, arch);
    let last = last_number(policy, arch, &all);
    if !policy.default.is_permissive() && last.is_some_and(|last| number > last) {
        return ENOSYS;
    }
    let width = if arch.is_wide() {
        u64::MAX
    } else {
        u64::from(u32::MAX)
    };
    let holds = |c: &ArgCheck| {
        let (arg, value) = (args[usize::from(c.index)] & width, c.value & width);
        match c.operator {
            Operator::NotEqual => arg != value,
            Operator::Less => arg < value,
            Operator::LessOrEqual => arg <= value,
            Operator::Equal => arg == value,
            Operator::GreaterOrEqual => arg >= value,
            Operator::Greater => arg > value,
            Operator::MaskedEqual { mask } => arg & mask & width == value,
        }
    };
    match all.get(&number) {
        None => policy.default.code(),
        Some(Verdict::Always(action)) => action.code(),
        Some(Verdict::Checked(rules)) => rules
            .iter()
            .find(|(checks, _)| checks.iter().all(holds))
            .map_or(policy.default, |(_, action)| *action)
            .code(),
    }
}

const CALLS: [&str; 8] = [
    "read",
    "write",
    "socket",
    "clone",
    "mount",
    "openat2",
    "personality",
    "semop",
];

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::KillProcess),
        Just(Action::Log),
        Just(Action::Trap),
        (1..200u32).prop_map(Action::Errno)
    ]
}

/// Values close to each other and on both sides of 32 bits.
fn any_value() -> impl Strategy<Value = u64> {
    (
        0..4u64,
        prop_oneof![
            Just(0u64),
            Just(0xffff_fffe),
            Just(0x1_0000_0000),
            Just(u64::MAX - 3)
        ],
    )
        .prop_map(|(a, b)| a + b)
}

fn any_check() -> impl Strategy<Value = ArgCheck> {
    let operator = prop_oneof![
        Just(Operator::NotEqual),
        Just(Operator::Less),
        Just(Operator::LessOrEqual),
        Just(Operator::Equal),
        Just(Operator::GreaterOrEqual),
        Just(Operator::Greater),
        any_value().prop_map(|mask| Operator::MaskedEqual { mask })
    ];
    (0..6u8, operator, any_value()).prop_map(|(index, operator, value)| ArgCheck {
        index,
        operator,
        value,
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rule = (
        proptest::collection::vec(proptest::sample::select(&CALLS[..]), 1..4),
        any_action(),
        proptest::collection::vec(any_check(), 0..3),
    )
        .prop_map(|(names, action, args)| Rule {
            names: names.into_iter().map(String::from).collect(),
            action,
            args,
        });
    (any_action(), proptest::collection::vec(rule, 0..12)).prop_map(|(default, rules)| Policy {
        default,
        archs: vec![FilterArch::X86_64, FilterArch::X86, FilterArch::X32],
        flags: 0,
        rules,
    })
}

/// Asks the compiled program and the rules about every number around those that matter.
fn disagreement(policy: &Policy, args: [u64; 6]) -> Option<String> {
    let program = compile(policy).expect("compiles");
    for arch in [FilterArch::X86_64, FilterArch::X86, FilterArch::X32] {
        let mark = if arch == FilterArch::X32 {
            0x4000_0000
        } else {
            0
        };
        let known = CALLS.iter().filter_map(|c| syscalls::number(arch, c));
        let numbers: Vec<u32> = known
            .flat_map(|n| [n.saturating_sub(1), n, n + 1])
            .chain([102, 117, 999])
            .collect();
        for number in numbers {
            let got = run(&program, arch.audit(), number | mark, args);
            let expected = linear(policy, arch, number, args);
            if got != expected {
                return Some(format!("{arch:?} {number}: {got:#x}, not {expected:#x}"));
            }
        }
    }
    None
}

#[test]
fn a_call_that_exists_only_through_a_selector() {
    for action in [Action::KillProcess, Action::Errno(1), Action::Trap] {
        let policy = Policy {
            default: action,
            archs: vec![FilterArch::X86_64, FilterArch::X86, FilterArch::X32],
            flags: 0,
            rules: vec![Rule {
                names: vec!["semop".into(), "mount".into()],
                action: Action::Allow,
                args: vec![],
            }],
        };
        for first in [0, 1, 2] {
            assert_eq!(disagreement(&policy, [first, 0, 0, 0, 0, 0]), None);
        }
    }
}

proptest! {
    #[test]
    fn bisecting_equals_linear(policy in any_policy(), args in proptest::array::uniform6(any_value())) {
        let program = compile(&policy).expect("compiles");
        for arch in [FilterArch::X86_64, FilterArch::X86, FilterArch::X32] {
            let mark = if arch == FilterArch::X32 { 0x4000_0000 } else { 0 };
            let known = CALLS.iter().filter_map(|c| syscalls::number(arch, c));
            let number_set: Vec<u32> = known.flat_map(|n| [n.saturating_sub(1), n, n + 1]).chain([102, 117, 999]).collect();
            for number in number_set {
                let got = run(&program, arch.audit(), number | mark, args);
                prop_assert_eq!(got, linear(&policy, arch, number, args), "{:?} {}", arch, number);
            }
        }
    }
}
