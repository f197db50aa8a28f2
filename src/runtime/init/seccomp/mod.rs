//! System call filters: a profile compiled to classic BPF.
//!
//! The numbers of an architecture are cut into segments with one outcome each, which a binary search finds:
//!
//! ```text
//! architecture? ──native──▶ x32 bit? ──no──▶ search by number ──▶ return, or conditions and return
//!               ──32-bit──▶ search by number …
//!               ──other───▶ kill
//! ```
//!
//! Numbers above every call that the profile names are newer than it and return ENOSYS, on which C libraries fall back, instead
//! of EPERM, on which they give up. The tables `*.txt` (`number name`, from the kernel's `unistd.h`, 6.18) and the profile are
//! data; `profile` reads, this file compiles.

use std::collections::BTreeMap;

use crate::runtime::config::{Process, Seccomp};
use crate::sys::seccomp::Instruction;

pub(crate) mod profile;

use profile::{Action, ArchitectureNames, Compare, Condition, Profile, Rule};

/// One system call table.
struct Table {
    /// `AUDIT_ARCH_*` (`linux/audit.h`).
    audit: u32,
    /// `number name` lines.
    text: &'static str,
}

/// The machine's own architecture and its 32-bit companion.
struct Machine {
    names: ArchitectureNames,
    native: Table,
    companion: Table,
    /// Whether a bit of the number selects a third table (x32), which is refused.
    x32: bool,
}

/// This machine.
#[cfg(target_arch = "x86_64")]
const MACHINE: Machine = Machine {
    names: ArchitectureNames {
        go: "amd64",
        libseccomp: "SCMP_ARCH_X86_64",
        companion: "SCMP_ARCH_X86",
    },
    native: Table {
        audit: 0xc000_003e,
        text: include_str!("x86_64.txt"),
    },
    companion: Table {
        audit: 0x4000_0003,
        text: include_str!("i386.txt"),
    },
    x32: true,
};

/// This machine.
#[cfg(target_arch = "aarch64")]
const MACHINE: Machine = Machine {
    names: ArchitectureNames {
        go: "arm64",
        libseccomp: "SCMP_ARCH_AARCH64",
        companion: "SCMP_ARCH_ARM",
    },
    native: Table {
        audit: 0xc000_00b7,
        text: include_str!("aarch64.txt"),
    },
    companion: Table {
        audit: 0x4000_0028,
        text: include_str!("arm.txt"),
    },
    x32: false,
};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offset of the number in `struct seccomp_data`.
const NUMBER: u32 = 0;
/// Offset of the architecture.
const ARCHITECTURE: u32 = 4;
/// Offset of the first argument, 8 bytes each, low half first.
const ARGUMENTS: u32 = 16;

/// What a call gets that does not exist.
const ENOSYS: Action = Action::errno(38);

/// The profile of a process on this machine.
pub(crate) struct Local {
    /// What happens to which calls.
    pub(crate) profile: Profile,
}

impl Local {
    /// Returns libseccomp's names of the architectures that it allows: the machine's own first.
    pub(crate) fn architectures(&self) -> Vec<&'static str> {
        let mut names = vec![MACHINE.names.libseccomp];
        if self.profile.compatibility {
            names.push(MACHINE.names.companion);
        }
        names
    }
}

/// Returns the profile of a process; `None` where it has none.
///
/// Errors: a sentence on what a profile of the user's says wrong.
pub(crate) fn profile_of(process: &Process) -> Result<Option<Local>, String> {
    let profile = match &process.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => profile::docker_default(process.capabilities, MACHINE.names.go),
        Seccomp::Profile(text) => {
            let release = rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned();
            let kernel = profile::parse_kernel(&release)?;
            profile::parse(text, process.capabilities, &MACHINE.names, kernel)?
        }
    };
    Ok(Some(Local { profile }))
}

/// Compiles the filter of a process; empty where it has none.
///
/// Errors: a sentence on what a profile of the user's says wrong.
pub(crate) fn compile(process: &Process) -> Result<Vec<Instruction>, String> {
    let Some(Local { profile }) = profile_of(process)? else {
        return Ok(Vec::new());
    };
    let program = compile_profile(&profile, &MACHINE);
    if program.len() > 4096 {
        return Err(format!(
            "seccomp profile: {} instructions are more than the kernel's 4096",
            program.len()
        ));
    }
    Ok(program)
}

/// Compiles for a machine.
fn compile_profile(profile: &Profile, machine: &Machine) -> Vec<Instruction> {
    let mut native = vec![statement(LOAD, NUMBER)];
    if machine.x32 {
        native.push(jump(IF_AT_LEAST, 0x4000_0000, 0, 1));
        native.push(finish(ENOSYS));
    }
    native.extend(compile_table(profile, &machine.native));
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    // Blocks may be longer than a conditional jump reaches.
    program.push(jump(IF_EQUAL, machine.native.audit, 0, 1));
    program.push(statement(JUMP, 3));
    if profile.compatibility {
        program.push(jump(IF_EQUAL, machine.companion.audit, 0, 1));
        program.push(statement(JUMP, distance(native.len()) + 1));
    } else {
        program.push(statement(JUMP, 0));
        program.push(statement(JUMP, 0));
    }
    program.push(finish(Action::KILL_PROCESS));
    program.extend(native);
    if profile.compatibility {
        program.push(statement(LOAD, NUMBER));
        program.extend(compile_table(profile, &machine.companion));
    }
    program
}

/// An instruction without a test.
fn statement(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// A test.
fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// The end.
fn finish(action: Action) -> Instruction {
    statement(RETURN, action.0)
}

/// A length as an operand; programs are far shorter than 2^32.
fn distance(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Compiles the search for one table.
fn compile_table(profile: &Profile, table: &Table) -> Vec<Instruction> {
    let numbers: BTreeMap<&str, u32> = table
        .text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(number, name)| Some((name, number.parse().ok()?)))
        .collect();
    let mut rules: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        for name in &rule.names {
            if let Some(number) = numbers.get(name.as_str()) {
                rules.entry(*number).or_default().push(rule);
            }
        }
    }
    let beyond = if profile.default.refuses() {
        ENOSYS
    } else {
        profile.default
    };
    let mut segments: Vec<(u32, Vec<Instruction>)> = Vec::new();
    let mut add = |start: u32, outcome: Vec<Instruction>| {
        if segments.last().is_none_or(|(_, last)| *last != outcome) {
            segments.push((start, outcome));
        }
    };
    let mut next = 0;
    for (number, rules) in &rules {
        if *number > next || next == 0 && *number > 0 {
            add(next, vec![finish(profile.default)]);
        }
        add(*number, compile_rules(rules, profile.default));
        next = number.saturating_add(1);
    }
    add(next, vec![finish(beyond)]);
    search(&segments)
}

/// A balanced tree of comparisons over segments, each from its start to the next one's.
fn search(segments: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    match segments {
        [] => Vec::new(),
        [(_, outcome)] => outcome.clone(),
        _ => {
            let (left, right) = segments.split_at(segments.len() / 2);
            let start = right.first().map_or(0, |(start, _)| *start);
            let (left, right) = (search(left), search(right));
            let mut program = match u8::try_from(left.len()) {
                Ok(length) => vec![jump(IF_AT_LEAST, start, length, 0)],
                Err(_) => vec![
                    jump(IF_AT_LEAST, start, 0, 1),
                    statement(JUMP, distance(left.len())),
                ],
            };
            program.extend(left);
            program.extend(right);
            program
        }
    }
}

/// Compiles the rules of one call: one without conditions decides, else the first that holds, else the default.
fn compile_rules(rules: &[&Rule], default: Action) -> Vec<Instruction> {
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return vec![finish(rule.action)];
    }
    let mut program = Vec::new();
    for rule in rules {
        program.extend(compile_rule(rule));
    }
    program.push(finish(default));
    program
}

/// Where a test goes on.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// The next instruction.
    Next,
    /// Past this condition, which holds.
    Pass,
    /// Past this rule, which does not.
    Fail,
}

/// Compiles one rule: each condition either passes to the next or falls out behind the return.
fn compile_rule(rule: &Rule) -> Vec<Instruction> {
    let conditions: Vec<Vec<(Instruction, Target, Target)>> =
        rule.conditions.iter().map(compile_condition).collect();
    let total: usize = conditions.iter().map(Vec::len).sum();
    let mut program = Vec::new();
    for condition in conditions {
        let begin = program.len();
        let end = begin + condition.len();
        for (index, (mut instruction, yes, no)) in condition.into_iter().enumerate() {
            let here = begin + index + 1;
            // At most six conditions of six instructions: every distance fits.
            let offset = |target: Target| {
                let to = match target {
                    Target::Next => here,
                    Target::Pass => end,
                    Target::Fail => total + 1,
                };
                u8::try_from(to - here).unwrap_or(u8::MAX)
            };
            (instruction.jt, instruction.jf) = (offset(yes), offset(no));
            program.push(instruction);
        }
    }
    program.push(finish(rule.action));
    program
}

/// Compiles one condition: the high half decides where it can, else the low half.
fn compile_condition(condition: &Condition) -> Vec<(Instruction, Target, Target)> {
    use Target::{Fail, Next, Pass};
    let offset = ARGUMENTS + 8 * u32::from(condition.index);
    let halves = |value: u64| {
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(u32::MAX);
        (half(value >> 32), half(value))
    };
    let (high, low) = halves(condition.value);
    let load_high = (statement(LOAD, offset + 4), Next, Next);
    let load_low = (statement(LOAD, offset), Next, Next);
    let test = |code, k, yes, no| (statement(code, k), yes, no);
    let ordered = |high_greater, high_less, code, low_yes, low_no| {
        vec![
            load_high,
            test(IF_GREATER, high, high_greater, Next),
            test(IF_EQUAL, high, Next, high_less),
            load_low,
            test(code, low, low_yes, low_no),
        ]
    };
    match condition.compare {
        Compare::Equal => vec![
            load_high,
            test(IF_EQUAL, high, Next, Fail),
            load_low,
            test(IF_EQUAL, low, Pass, Fail),
        ],
        Compare::NotEqual => vec![
            load_high,
            test(IF_EQUAL, high, Next, Pass),
            load_low,
            test(IF_EQUAL, low, Fail, Pass),
        ],
        Compare::Greater => ordered(Pass, Fail, IF_GREATER, Pass, Fail),
        Compare::GreaterOrEqual => ordered(Pass, Fail, IF_AT_LEAST, Pass, Fail),
        Compare::Less => ordered(Fail, Pass, IF_AT_LEAST, Fail, Pass),
        Compare::LessOrEqual => ordered(Fail, Pass, IF_GREATER, Fail, Pass),
        Compare::Masked(mask) => {
            let (mask_high, mask_low) = halves(mask);
            vec![
                load_high,
                test(AND, mask_high, Next, Next),
                test(IF_EQUAL, high & mask_high, Next, Fail),
                load_low,
                test(AND, mask_low, Next, Next),
                test(IF_EQUAL, low & mask_low, Pass, Fail),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
