//! The filter, run by a small interpreter of its instructions.

use super::profile::{docker_default, parse};
use super::*;
use crate::runtime::init::capabilities;

/// Runs a program over one call.
fn simulate(program: &[Instruction], audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => audit,
        _ => {
            let argument = arguments[((offset - 16) / 8) as usize];
            if offset.is_multiple_of(8) {
                u32::try_from(argument & 0xffff_ffff).unwrap()
            } else {
                (argument >> 32) as u32
            }
        }
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            LOAD => accumulator = word(k),
            AND => accumulator &= k,
            JUMP => at += k as usize,
            IF_EQUAL => at += branch(accumulator == k),
            IF_GREATER => at += branch(accumulator > k),
            IF_AT_LEAST => at += branch(accumulator >= k),
            RETURN => return k,
            _ => panic!("{code}"),
        }
    }
}

/// What the profile says, read rule by rule; `rules` are those of the call, `newest` the highest number that is named.
fn oracle(
    profile: &Profile,
    rules: &[&Rule],
    number: u32,
    newest: u32,
    arguments: [u64; 6],
) -> u32 {
    if number > newest {
        return ENOSYS.0;
    }
    let holds = |condition: &Condition| {
        let argument = arguments[usize::from(condition.index)];
        let value = condition.value;
        match condition.compare {
            Compare::Equal => argument == value,
            Compare::NotEqual => argument != value,
            Compare::Less => argument < value,
            Compare::LessOrEqual => argument <= value,
            Compare::Greater => argument > value,
            Compare::GreaterOrEqual => argument >= value,
            Compare::Masked(mask) => argument & mask == value & mask,
        }
    };
    let plain = rules.iter().find(|rule| rule.conditions.is_empty());
    let found = plain.or_else(|| rules.iter().find(|rule| rule.conditions.iter().all(holds)));
    found.map_or(profile.default.0, |rule| rule.action.0)
}

/// Compares program and profile for every number of both tables.
fn check(profile: &Profile) {
    let program = compile_profile(profile, &MACHINE);
    let values = [
        0,
        2,
        8,
        11,
        12,
        16,
        38,
        40,
        45,
        46,
        0x11,
        0x2_0008,
        0x1000_0011,
        0xffff_ffff,
        1 << 32,
        8 | 1 << 40,
        u64::MAX,
    ];
    for table in [&MACHINE.native, &MACHINE.companion] {
        let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
        for line in table.text.lines() {
            let (number, name) = line.split_once(' ').unwrap();
            let named = |rule: &&Rule| rule.names.iter().any(|own| own == name);
            let rules: Vec<&Rule> = profile.rules.iter().filter(named).collect();
            if !rules.is_empty() {
                calls.insert(number.parse().unwrap(), rules);
            }
        }
        let newest = *calls.keys().last().unwrap();
        for number in 0..600 {
            let rules = calls.get(&number).map_or(&[][..], Vec::as_slice);
            for value in values {
                let arguments = [value, 7, value, 0, 0, 0];
                let expected = oracle(profile, rules, number, newest, arguments);
                let found = simulate(&program, table.audit, number, arguments);
                assert_eq!(
                    found, expected,
                    "{number} of {:x} with {value:x}",
                    table.audit
                );
            }
        }
    }
}

#[test]
fn the_default_profile_is_compiled_as_it_is_written() {
    check(&docker_default(capabilities::DEFAULT, MACHINE.names.go));
    check(&docker_default(capabilities::ALL, MACHINE.names.go));
}

#[test]
fn other_architectures_are_killed_and_x32_does_not_exist() {
    let program = compile_profile(&docker_default(0, MACHINE.names.go), &MACHINE);
    assert_eq!(
        simulate(&program, 0xc000_00f3, 0, [0; 6]),
        Action::KILL_PROCESS.0
    );
    if MACHINE.x32 {
        assert_eq!(
            simulate(&program, MACHINE.native.audit, 0x4000_0001, [0; 6]),
            ENOSYS.0
        );
    }
    let mut strict = docker_default(0, MACHINE.names.go);
    strict.compatibility = false;
    let program = compile_profile(&strict, &MACHINE);
    assert_eq!(
        simulate(&program, MACHINE.companion.audit, 3, [0; 6]),
        Action::KILL_PROCESS.0
    );
    assert_eq!(
        simulate(&program, MACHINE.native.audit, 0, [0; 6]),
        Action::ALLOW.0
    );
}

#[test]
fn a_profile_of_the_users_is_read_with_all_its_words() {
    let text = r#"{
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
      "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                  {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
      "syscalls": [
        {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
        {"name": "close", "action": "SCMP_ACT_LOG"},
        {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "args": [
          {"index": 0, "value": 4294967297, "op": "SCMP_CMP_GE"}, {"index": 2, "value": 255, "valueTwo": 17, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["dup"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_LE"}]},
        {"names": ["fsync"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_NE"}]},
        {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_GT"}]},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "9.0"}},
        {"names": ["chdir"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}}
      ]}"#;
    let profile = parse(text, capabilities::DEFAULT, &MACHINE.names, (6, 1)).unwrap();
    assert_eq!(
        (profile.default, profile.compatibility, profile.rules.len()),
        (Action::errno(13), true, 6)
    );
    check(&profile);
}

#[test]
fn what_a_profile_says_wrong_is_named() {
    for (text, expected) in [
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            "seccomp profile: action `SCMP_ACT_NOTIFY` is not supported",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "seccomp profile: argument 6 does not exist",
        ),
    ] {
        assert_eq!(
            parse(text, 0, &MACHINE.names, (6, 1)),
            Err(expected.to_owned())
        );
    }
}

#[test]
fn the_default_profile_is_small() {
    let length = compile_profile(
        &docker_default(capabilities::DEFAULT, MACHINE.names.go),
        &MACHINE,
    )
    .len();
    assert!(length < 800, "{length} instructions");
}
