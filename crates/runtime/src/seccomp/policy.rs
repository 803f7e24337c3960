//! A policy: rules about system calls by name, before they are numbers and jumps.

use serde_json::{Value, json};
use wharf_spec::runtime::{
    Arch as OciArch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

use super::SeccompError;
use crate::host::Arch;

/// What happens with a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    KillThread,
    KillProcess,
    Trap,
    Errno(u32),
    Trace(u32),
    Log,
    Allow,
}

impl Action {
    /// `SECCOMP_RET_*` with its data.
    pub(super) fn code(self) -> u32 {
        match self {
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
            Action::Trap => 0x0003_0000,
            Action::Errno(n) => 0x0005_0000 | n & 0xffff,
            Action::Trace(n) => 0x7ff0_0000 | n & 0xffff,
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }

    /// Lets calls through that it knows nothing about.
    pub(super) fn is_permissive(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// Architectures whose system calls a filter can tell apart. The order is that of the number table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterArch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl FilterArch {
    /// `AUDIT_ARCH_*` of `linux/audit.h`. x32 shares x86-64's and marks its numbers instead.
    pub(super) fn audit(self) -> u32 {
        match self {
            FilterArch::X86_64 | FilterArch::X32 => 0xc000_003e,
            FilterArch::X86 => 0x4000_0003,
            FilterArch::Aarch64 => 0xc000_00b7,
            FilterArch::Arm => 0x4000_0028,
        }
    }

    /// Arguments are 64 bits wide.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, FilterArch::X86_64 | FilterArch::Aarch64)
    }

    /// The machine's own.
    pub(crate) fn native(arch: Arch) -> FilterArch {
        match arch {
            Arch::X86_64 => FilterArch::X86_64,
            Arch::Aarch64 => FilterArch::Aarch64,
        }
    }

    /// One that a filter for this machine may name; others cannot run here and are left out.
    pub(super) fn from_oci(arch: OciArch, native: Arch) -> Option<FilterArch> {
        match (arch, native) {
            (OciArch::ScmpArchNative, _) => Some(FilterArch::native(native)),
            (OciArch::ScmpArchX86_64, Arch::X86_64) => Some(FilterArch::X86_64),
            (OciArch::ScmpArchX86, Arch::X86_64) => Some(FilterArch::X86),
            (OciArch::ScmpArchX32, Arch::X86_64) => Some(FilterArch::X32),
            (OciArch::ScmpArchAarch64, Arch::Aarch64) => Some(FilterArch::Aarch64),
            (OciArch::ScmpArchArm, Arch::Aarch64) => Some(FilterArch::Arm),
            _ => None,
        }
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    MaskedEqual { mask: u64 },
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArgCheck {
    /// 0 to 5.
    pub(crate) index: u8,
    pub(crate) operator: Operator,
    pub(crate) value: u64,
}

/// What to do with some system calls when all checks hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) names: Vec<String>,
    pub(crate) action: Action,
    pub(crate) args: Vec<ArgCheck>,
}

/// A whole filter's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// For calls without a rule.
    pub(crate) default: Action,
    /// Calls of other architectures kill.
    pub(crate) archs: Vec<FilterArch>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(crate) flags: u32,
    pub(crate) rules: Vec<Rule>,
}

impl Policy {
    /// In the words of the OCI spec.
    pub(super) fn to_oci(&self) -> Value {
        let archs: Vec<&str> = self.archs.iter().map(|arch| arch.oci_name()).collect();
        let rules: Vec<Value> = self.rules.iter().map(Rule::to_oci).collect();
        let mut filter = json!({"architectures": archs, "syscalls": rules});
        self.default
            .put_into(&mut filter, "defaultAction", "defaultErrnoRet");
        filter
    }
}

impl Rule {
    fn to_oci(&self) -> Value {
        let args: Vec<Value> = self.args.iter().map(|check| check.to_oci()).collect();
        let mut rule = json!({"names": self.names, "args": args});
        self.action.put_into(&mut rule, "action", "errnoRet");
        rule
    }
}

impl ArgCheck {
    fn to_oci(self) -> Value {
        let (operator, value, second) = match self.operator {
            Operator::NotEqual => ("SCMP_CMP_NE", self.value, 0),
            Operator::Less => ("SCMP_CMP_LT", self.value, 0),
            Operator::LessOrEqual => ("SCMP_CMP_LE", self.value, 0),
            Operator::Equal => ("SCMP_CMP_EQ", self.value, 0),
            Operator::GreaterOrEqual => ("SCMP_CMP_GE", self.value, 0),
            Operator::Greater => ("SCMP_CMP_GT", self.value, 0),
            Operator::MaskedEqual { mask } => ("SCMP_CMP_MASKED_EQ", mask, self.value),
        };
        json!({"index": self.index, "op": operator, "value": value, "valueTwo": second})
    }
}

impl Action {
    fn put_into(self, object: &mut Value, action: &str, errno: &str) {
        let (name, number) = match self {
            Action::KillThread => ("SCMP_ACT_KILL_THREAD", None),
            Action::KillProcess => ("SCMP_ACT_KILL_PROCESS", None),
            Action::Trap => ("SCMP_ACT_TRAP", None),
            Action::Errno(number) => ("SCMP_ACT_ERRNO", Some(number)),
            Action::Trace(number) => ("SCMP_ACT_TRACE", Some(number)),
            Action::Log => ("SCMP_ACT_LOG", None),
            Action::Allow => ("SCMP_ACT_ALLOW", None),
        };
        object[action] = json!(name);
        if let Some(number) = number {
            object[errno] = json!(number);
        }
    }
}

impl FilterArch {
    fn oci_name(self) -> &'static str {
        match self {
            FilterArch::X86_64 => "SCMP_ARCH_X86_64",
            FilterArch::X86 => "SCMP_ARCH_X86",
            FilterArch::X32 => "SCMP_ARCH_X32",
            FilterArch::Aarch64 => "SCMP_ARCH_AARCH64",
            FilterArch::Arm => "SCMP_ARCH_ARM",
        }
    }
}

const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;

/// Translates `linux.seccomp`.
pub(super) fn from_oci(seccomp: &LinuxSeccomp, native: Arch) -> Result<Policy, SeccompError> {
    if seccomp.listener_path().is_some() {
        return Err(SeccompError::Invalid(
            "a seccomp listener is not supported".into(),
        ));
    }
    let mut archs = vec![FilterArch::native(native)];
    for arch in seccomp.architectures().iter().flatten() {
        if let Some(arch) = FilterArch::from_oci(*arch, native).filter(|a| !archs.contains(a)) {
            archs.push(arch);
        }
    }
    let flags = seccomp
        .flags()
        .iter()
        .flatten()
        .fold(0, |mask, flag| mask | flag_bit(*flag));
    let mut rules = Vec::new();
    for call in seccomp.syscalls().iter().flatten() {
        rules.extend(rules_from_oci(call)?);
    }
    Ok(Policy {
        default: action(seccomp.default_action(), seccomp.default_errno_ret())?,
        archs,
        flags,
        rules,
    })
}

fn flag_bit(flag: LinuxSeccompFilterFlag) -> u32 {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
        // There is one thread.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
    }
}

/// An action of the spec with its number, `EPERM` when none is given.
pub(super) fn action(
    action: LinuxSeccompAction,
    errno: Option<u32>,
) -> Result<Action, SeccompError> {
    use LinuxSeccompAction as A;
    let number = errno.unwrap_or(1);
    Ok(match action {
        A::ScmpActKill | A::ScmpActKillThread => Action::KillThread,
        A::ScmpActKillProcess => Action::KillProcess,
        A::ScmpActTrap => Action::Trap,
        A::ScmpActErrno => Action::Errno(number),
        A::ScmpActTrace => Action::Trace(number),
        A::ScmpActLog => Action::Log,
        A::ScmpActAllow => Action::Allow,
        A::ScmpActNotify => {
            return Err(SeccompError::Invalid(
                "SCMP_ACT_NOTIFY is not supported".into(),
            ));
        }
    })
}

/// One rule, or one per check where several are about the same argument: those are alternatives (runc).
pub(super) fn rules_from_oci(call: &LinuxSyscall) -> Result<Vec<Rule>, SeccompError> {
    let action = action(call.action(), call.errno_ret())?;
    let args: Vec<ArgCheck> = call
        .args()
        .iter()
        .flatten()
        .map(arg_check)
        .collect::<Result<_, _>>()?;
    let rule = |args| Rule {
        names: call.names().clone(),
        action,
        args,
    };
    let repeated = args
        .iter()
        .any(|a| args.iter().filter(|b| b.index == a.index).count() > 1);
    Ok(if repeated {
        args.into_iter().map(|a| rule(vec![a])).collect()
    } else {
        vec![rule(args)]
    })
}

fn arg_check(arg: &LinuxSeccompArg) -> Result<ArgCheck, SeccompError> {
    use LinuxSeccompOperator as O;
    let index = u8::try_from(arg.index()).ok().filter(|i| *i < 6);
    let index = index
        .ok_or_else(|| SeccompError::Invalid(format!("invalid argument index {}", arg.index())))?;
    let (operator, value) = match arg.op() {
        O::ScmpCmpNe => (Operator::NotEqual, arg.value()),
        O::ScmpCmpLt => (Operator::Less, arg.value()),
        O::ScmpCmpLe => (Operator::LessOrEqual, arg.value()),
        O::ScmpCmpEq => (Operator::Equal, arg.value()),
        O::ScmpCmpGe => (Operator::GreaterOrEqual, arg.value()),
        O::ScmpCmpGt => (Operator::Greater, arg.value()),
        O::ScmpCmpMaskedEq => (
            Operator::MaskedEqual { mask: arg.value() },
            arg.value_two().unwrap_or(0),
        ),
    };
    Ok(ArgCheck {
        index,
        operator,
        value,
    })
}
