//! Device access: rules, their v1 text, and the v2 program.

use wharf_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use crate::plan::PlanError;

/// One rule; a later one takes precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    pub(crate) kind: Kind,
    /// `None` is any.
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

/// What kind of device a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    All,
    Char,
    Block,
}

/// Bits of access, numbered as `BPF_DEVCG_ACC_*` (`linux/bpf.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access(pub(crate) u32);

impl Access {
    pub(crate) const MKNOD: Access = Access(1);
    pub(crate) const ALL: Access = Access(7);
}

/// What every container may use whatever its rules say (runc's `AllowedDevices`): make any node, and use the
/// default devices and terminals.
const ALWAYS: [(Option<u32>, Option<u32>, Access); 9] = [
    (None, None, Access::MKNOD),
    (Some(1), Some(3), Access::ALL),
    (Some(1), Some(8), Access::ALL),
    (Some(1), Some(7), Access::ALL),
    (Some(5), Some(0), Access::ALL),
    (Some(1), Some(5), Access::ALL),
    (Some(1), Some(9), Access::ALL),
    (Some(136), None, Access::ALL),
    (Some(5), Some(2), Access::ALL),
];

/// The rules of a spec, then those that always hold.
pub(super) fn plan_rules(resources: &LinuxResources) -> Result<Vec<Rule>, PlanError> {
    let mut rules: Vec<Rule> = resources
        .devices()
        .iter()
        .flatten()
        .map(plan_rule)
        .collect::<Result<_, _>>()?;
    // Nothing is forbidden, so there is nothing to make exceptions from.
    if rules.iter().all(|r| r.allow) {
        return Ok(rules);
    }
    let allow = |kind, (major, minor, access)| Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    };
    rules.push(allow(Kind::Block, (None, None, Access::MKNOD)));
    rules.extend(ALWAYS.map(|r| allow(Kind::Char, r)));
    Ok(rules)
}

fn plan_rule(rule: &LinuxDeviceCgroup) -> Result<Rule, PlanError> {
    let invalid = || PlanError::Invalid {
        what: "device rule",
        value: rule.to_string(),
    };
    let number = |n: Option<i64>| match n {
        // -1 is the spec's older way to write "any".
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| invalid()),
    };
    let mut access = 0;
    for c in rule.access().as_deref().unwrap_or("rwm").chars() {
        access |= match c {
            'm' => 1,
            'r' => 2,
            'w' => 4,
            _ => return Err(invalid()),
        };
    }
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => Kind::All,
        LinuxDeviceType::B => Kind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => Kind::Char,
        LinuxDeviceType::P => return Err(invalid()),
    };
    let rule = Rule {
        allow: rule.allow(),
        kind,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access: Access(access),
    };
    // As in v1, `a` is about everything, whatever else the rule says.
    Ok(if kind == Kind::All {
        Rule {
            major: None,
            minor: None,
            access: Access::ALL,
            ..rule
        }
    } else {
        rule
    })
}

impl Rule {
    /// The line for `devices.allow` or `devices.deny`.
    pub(super) fn v1_text(&self) -> String {
        let kind = match self.kind {
            // The kernel takes `a` for everything and reads no further.
            Kind::All => return "a".into(),
            Kind::Char => 'c',
            Kind::Block => 'b',
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".into(), |n| n.to_string());
        let mut access = String::new();
        for (bit, c) in [(2, 'r'), (4, 'w'), (1, 'm')] {
            if self.access.0 & bit != 0 {
                access.push(c);
            }
        }
        format!(
            "{kind} {}:{} {access}",
            number(self.major),
            number(self.minor)
        )
    }

    /// Whether the rule decides about everything there is.
    fn is_total(&self) -> bool {
        self.kind == Kind::All
    }
}

// eBPF, `linux/bpf.h`: operations we use, all on 32-bit halves or loads of 32 bits.
const LDX_W: u8 = 0x61;
const MOV64_X: u8 = 0xbf;
const MOV64_K: u8 = 0xb7;
const AND32_K: u8 = 0x54;
const RSH32_K: u8 = 0x74;
const JNE_K: u8 = 0x55;
const JNE_X: u8 = 0x5d;
const JEQ_K: u8 = 0x15;
const EXIT: u8 = 0x95;

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    let bytes = [code, src << 4 | dst];
    let [o0, o1] = off.to_le_bytes();
    let [i0, i1, i2, i3] = imm.to_le_bytes();
    u64::from_le_bytes([bytes[0], bytes[1], o0, o1, i0, i1, i2, i3])
}

/// Compiles rules into a `BPF_PROG_TYPE_CGROUP_DEVICE` program. Empty when all is allowed.
///
/// The last rule that matches decides, so they are tried from the last to the first. An allowing rule matches a
/// request that asks for nothing beyond it, a denying one a request that asks for any of it. A request that no
/// rule matches is allowed, as in a new v1 group.
pub(super) fn compile(rules: &[Rule]) -> Vec<u64> {
    if rules.iter().all(|r| r.allow) {
        return Vec::new();
    }
    // Rules before a total one can never decide.
    let start = rules.iter().rposition(Rule::is_total).unwrap_or(0);
    let mut program = prologue();
    for rule in rules[start..].iter().rev() {
        program.extend(compile_rule(rule));
    }
    // The kernel refuses instructions that nothing leads to.
    if !rules[start].is_total() {
        program.extend(verdict(true));
    }
    program
}

/// `struct bpf_cgroup_dev_ctx`: access in the upper and type in the lower half of a word, major, minor.
/// Afterwards r2 is the type, r3 the access, r4 the major and r5 the minor number.
fn prologue() -> Vec<u64> {
    vec![
        insn(LDX_W, 2, 1, 0, 0),
        insn(AND32_K, 2, 0, 0, 0xffff),
        insn(LDX_W, 3, 1, 0, 0),
        insn(RSH32_K, 3, 0, 0, 16),
        insn(LDX_W, 4, 1, 4, 0),
        insn(LDX_W, 5, 1, 8, 0),
    ]
}

fn verdict(allow: bool) -> [u64; 2] {
    [
        insn(MOV64_K, 0, 0, 0, i32::from(allow)),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

/// Tests that skip the verdict on a mismatch. Jumps count from the next instruction.
fn compile_rule(rule: &Rule) -> Vec<u64> {
    let number = |n: u32| i32::from_ne_bytes(n.to_ne_bytes());
    let mut tests: Vec<(u8, u8, u8, i32, Vec<u64>)> = Vec::new();
    match rule.kind {
        Kind::All => {}
        Kind::Block => tests.push((JNE_K, 2, 0, 1, vec![])),
        Kind::Char => tests.push((JNE_K, 2, 0, 2, vec![])),
    }
    if rule.access != Access::ALL {
        let masked = vec![
            insn(MOV64_X, 1, 3, 0, 0),
            insn(AND32_K, 1, 0, 0, number(rule.access.0)),
        ];
        tests.push(if rule.allow {
            (JNE_X, 1, 3, 0, masked)
        } else {
            (JEQ_K, 1, 0, 0, masked)
        });
    }
    if let Some(major) = rule.major {
        tests.push((JNE_K, 4, 0, number(major), vec![]));
    }
    if let Some(minor) = rule.minor {
        tests.push((JNE_K, 5, 0, number(minor), vec![]));
    }
    // Back to front, so that each jump's distance is known.
    let mut code: Vec<u64> = verdict(rule.allow).to_vec();
    for (op, dst, src, imm, before) in tests.into_iter().rev() {
        let distance = i16::try_from(code.len()).expect("a rule has at most ten instructions");
        let mut head = before;
        head.push(insn(op, dst, src, distance, imm));
        head.extend(code);
        code = head;
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What rules mean, said plainly.
    fn decide(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
        for r in rules.iter().rev() {
            let kind_ok = r.kind == Kind::All || r.kind == kind;
            let numbers = r.major.is_none_or(|m| m == major) && r.minor.is_none_or(|m| m == minor);
            let access_ok = if r.allow {
                access & !r.access.0 == 0
            } else {
                access & r.access.0 != 0
            };
            if kind_ok && numbers && access_ok {
                return r.allow;
            }
        }
        true
    }

    /// Runs the few operations that [`compile`] emits.
    fn run(program: &[u64], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
        let kind = if kind == Kind::Block { 1 } else { 2 };
        let context = [access << 16 | kind, major, minor];
        let mut r = [0u64; 6];
        let mut pc = 0;
        loop {
            let [code, regs, o0, o1, i0, i1, i2, i3] = program[pc].to_le_bytes();
            let (dst, src) = (usize::from(regs & 15), usize::from(regs >> 4));
            let off = i16::from_le_bytes([o0, o1]);
            let imm = i32::from_le_bytes([i0, i1, i2, i3]);
            let wide = i64::from(imm) as u64;
            pc += 1;
            let jump = match code {
                LDX_W => {
                    assert_eq!(src, 1, "the context pointer is gone after r1 was reused");
                    r[dst] = u64::from(context[usize::try_from(off).expect("positive") / 4]);
                    false
                }
                MOV64_X => {
                    r[dst] = r[src];
                    false
                }
                MOV64_K => {
                    r[dst] = wide;
                    false
                }
                AND32_K => {
                    r[dst] &= u64::from(imm as u32);
                    false
                }
                RSH32_K => {
                    r[dst] = (r[dst] & 0xffff_ffff) >> imm;
                    false
                }
                JNE_K => r[dst] != wide,
                JNE_X => r[dst] != r[src],
                JEQ_K => r[dst] == wide,
                EXIT => return r[0] == 1,
                other => panic!("unexpected operation {other:#x}"),
            };
            if jump {
                pc += usize::try_from(off).expect("forward");
            }
        }
    }

    fn docker_rules() -> Vec<Rule> {
        let deny_all = Rule {
            allow: false,
            kind: Kind::All,
            major: None,
            minor: None,
            access: Access::ALL,
        };
        let fuse = Rule {
            allow: false,
            kind: Kind::Char,
            major: Some(10),
            minor: Some(229),
            access: Access::ALL,
        };
        let disk = Rule {
            allow: true,
            kind: Kind::Block,
            major: Some(8),
            minor: None,
            access: Access(2),
        };
        let mut rules = vec![deny_all, fuse, disk];
        rules.push(Rule {
            allow: true,
            kind: Kind::Block,
            major: None,
            minor: None,
            access: Access::MKNOD,
        });
        rules.extend(ALWAYS.map(|(major, minor, access)| Rule {
            allow: true,
            kind: Kind::Char,
            major,
            minor,
            access,
        }));
        rules
    }

    #[test]
    fn the_program_means_what_the_rules_say() {
        let rules = docker_rules();
        let program = compile(&rules);
        for kind in [Kind::Char, Kind::Block] {
            for major in [1, 5, 8, 10, 136, 200] {
                for minor in [0, 2, 3, 229] {
                    for access in 1..8 {
                        let expected = decide(&rules, kind, major, minor, access);
                        assert_eq!(
                            run(&program, kind, major, minor, access),
                            expected,
                            "{kind:?} {major}:{minor} {access}"
                        );
                    }
                }
            }
        }
        assert!(run(&program, Kind::Char, 1, 3, 6), "null can be used");
        assert!(!run(&program, Kind::Char, 10, 229, 2), "fuse cannot");
        assert!(
            !run(&program, Kind::Block, 8, 0, 4),
            "a disk given for reading cannot be written"
        );
    }

    #[test]
    fn no_instruction_is_unreachable() {
        let program = compile(&docker_rules());
        let exits = program
            .iter()
            .filter(|i| i.to_le_bytes()[0] == EXIT)
            .count();
        // One per rule; the total rule's is the last.
        assert_eq!(exits, docker_rules().len());
    }

    #[test]
    fn all_allowed_needs_no_program() {
        let all = Rule {
            allow: true,
            kind: Kind::All,
            major: None,
            minor: None,
            access: Access::ALL,
        };
        assert!(compile(&[all]).is_empty());
        assert!(compile(&[]).is_empty());
    }

    #[test]
    fn v1_text_is_what_the_kernel_reads() {
        let rules = docker_rules();
        assert_eq!(rules[0].v1_text(), "a");
        assert_eq!(rules[1].v1_text(), "c 10:229 rwm");
        assert_eq!(rules[2].v1_text(), "b 8:* r");
    }
}
