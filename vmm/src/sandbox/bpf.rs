// SPDX-License-Identifier: Apache-2.0
//! From a policy to a program of classic BPF (seccomp(2), linux/bpf_common.h).
//!
//! seccompiler asks for one number after the other. The kernel runs a program once for every number there is when it is
//! installed, and four programs of hundreds of steps are more than all else that the sandbox costs at a start. This one
//! looks for the number by halves. Conditions mean what they do in seccompiler, which the test below asks.

use seccompiler::{BpfProgram, sock_filter};

use super::filter::{Condition, Conditions, Policy};

/// Loads a word of `struct seccomp_data`.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

/// Offsets of `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// AUDIT_ARCH_X86_64 of `<linux/audit.h>`.
const X86_64: u32 = 0xc000_003e;

/// A jump reaches no further than 255 steps.
#[derive(Debug, thiserror::Error)]
#[error("A filter of system calls is too large")]
pub struct TooLarge;

/// What is done with a system call.
#[derive(Clone, Copy)]
enum Verdict<'a> {
    Forbid,
    Allow,
    /// Allowed if all conditions of one of these hold.
    If(&'a [Conditions]),
}

/// The program that allows what the policy does, and has the kernel send SIGSYS for all else.
pub(super) fn compile(policy: &Policy) -> Result<BpfProgram, TooLarge> {
    // From which number on, up to the next.
    let mut steps = vec![(0, Verdict::Forbid)];
    for (number, alternatives) in policy.calls() {
        let verdict = alternatives.map_or(Verdict::Allow, Verdict::If);
        // The one before said what comes behind it.
        steps.pop_if(|(from, _)| *from == number);
        if !matches!((steps.last(), verdict), (Some((_, Verdict::Allow)), Verdict::Allow)) {
            steps.push((number, verdict));
        }
        steps.push((number + 1, Verdict::Forbid));
    }
    let mut code = vec![
        load(ARCHITECTURE),
        step(IF_EQUAL, 1, 0, X86_64),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    let mut chains = Vec::new();
    search(&steps, &mut code, &mut chains)?;
    for (jump, alternatives) in chains {
        code[jump].k = distance(jump, code.len());
        for conditions in alternatives {
            alternative(conditions, &mut code)?;
        }
        code.push(step(RETURN, 0, 0, libc::SECCOMP_RET_TRAP));
    }
    Ok(code)
}

/// Finds the last of `steps` that begins at or before the number.
fn search<'a>(
    steps: &[(u32, Verdict<'a>)],
    code: &mut BpfProgram,
    chains: &mut Vec<(usize, &'a [Conditions])>,
) -> Result<(), TooLarge> {
    if let [(_, verdict)] = steps {
        code.push(match verdict {
            Verdict::Forbid => step(RETURN, 0, 0, libc::SECCOMP_RET_TRAP),
            Verdict::Allow => step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
            Verdict::If(alternatives) => {
                chains.push((code.len(), alternatives));
                step(JUMP, 0, 0, 0)
            }
        });
        return Ok(());
    }
    let (below, from) = steps.split_at(steps.len() / 2);
    let branch = code.len();
    code.push(step(IF_AT_LEAST, 0, 0, from.first().map_or(0, |(number, _)| *number)));
    search(below, code, chains)?;
    code[branch].jt = short(branch, code.len())?;
    search(from, code, chains)
}

/// Allows if all conditions hold; goes on behind itself if not.
fn alternative(conditions: &[Condition], code: &mut BpfProgram) -> Result<(), TooLarge> {
    let mut checks = Vec::new();
    for condition in conditions {
        let low = ARGUMENTS + 8 * u32::from(condition.argument);
        if condition.wide {
            code.push(load(low + 4));
            checks.push(code.len());
            code.push(step(IF_EQUAL, 0, 0, 0));
        }
        code.push(load(low));
        if condition.mask != u32::MAX {
            code.push(step(AND, 0, 0, condition.mask));
        }
        checks.push(code.len());
        code.push(step(IF_EQUAL, 0, 0, condition.value));
    }
    code.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    for check in checks {
        code[check].jf = short(check, code.len())?;
    }
    Ok(())
}

fn load(offset: u32) -> sock_filter {
    step(LOAD, 0, 0, offset)
}

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// How many steps are between one and another behind it.
fn distance(from: usize, to: usize) -> u32 {
    u32::try_from(to - from - 1).unwrap_or(u32::MAX)
}

fn short(from: usize, to: usize) -> Result<u8, TooLarge> {
    u8::try_from(to - from - 1).map_err(|_| TooLarge)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::BTreeSet;

    use seccompiler::{
        SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    };

    use super::*;
    use crate::sandbox::filter::Thread;
    use crate::sandbox::policy;

    /// What the kernel would do, for the instructions that occur.
    fn run(program: &BpfProgram, data: &[u32; 16]) -> (u32, usize) {
        let (mut a, mut at, mut steps) = (0_u32, 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            let choice = |yes| usize::from(if yes { jt } else { jf });
            steps += 1;
            at += 1 + match code {
                LOAD => {
                    a = data[k as usize / 4];
                    0
                }
                AND => {
                    a &= k;
                    0
                }
                JUMP => k as usize,
                IF_EQUAL => choice(a == k),
                IF_AT_LEAST => choice(a >= k),
                RETURN => return (k, steps),
                other => panic!("{other:#x}"),
            };
        }
    }

    fn by_seccompiler(policy: &Policy) -> BpfProgram {
        let condition = |it: &Condition| {
            let length = if it.wide { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
            let comparison = match it.mask {
                u32::MAX => SeccompCmpOp::Eq,
                mask => SeccompCmpOp::MaskedEq(mask.into()),
            };
            SeccompCondition::new(it.argument, length, comparison, it.value.into()).unwrap()
        };
        let rule = |all: &Conditions| SeccompRule::new(all.iter().map(condition).collect()).unwrap();
        let rules = policy.calls().into_iter().map(|(number, alternatives)| {
            // A call with no rules is allowed with any arguments.
            (number.into(), alternatives.unwrap_or_default().iter().map(rule).collect())
        });
        let (forbidden, allowed) = (SeccompAction::Trap, SeccompAction::Allow);
        SeccompFilter::new(rules.collect(), forbidden, allowed, TargetArch::x86_64).unwrap().try_into().unwrap()
    }

    fn data(number: u32, arguments: [u64; 6]) -> [u32; 16] {
        let mut data = [0; 16];
        (data[0], data[1]) = (number, X86_64);
        for (index, argument) in arguments.iter().enumerate() {
            (data[4 + 2 * index], data[5 + 2 * index]) = (*argument as u32, (*argument >> 32) as u32);
        }
        data
    }

    /// Values of one argument that a condition may tell apart.
    fn values(argument: u8, alternatives: &[Conditions]) -> BTreeSet<u64> {
        let conditions = alternatives.iter().flatten().filter(|condition| condition.argument == argument);
        let known = conditions.flat_map(|it| [it.value, it.value | it.mask, it.value ^ 1, !it.mask]);
        known.chain([0]).flat_map(|low| [u64::from(low), u64::from(low) | 1 << 32]).collect()
    }

    #[test]
    fn compile_decides_as_seccompiler_does_for_every_number_and_argument() {
        for thread in Thread::ALL {
            let policy = policy::of(thread);
            let (ours, theirs) = (compile(&policy).unwrap(), by_seccompiler(&policy));
            let mut longest = (0, 0);
            let mut check = |data: &[u32; 16]| {
                let (mine, other) = (run(&ours, data), run(&theirs, data));
                assert_eq!(mine.0, other.0, "{thread}: {data:x?}");
                longest = (longest.0.max(mine.1), longest.1.max(other.1));
            };
            for number in (0..1000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
                check(&data(number, [0; 6]));
                check(&data(number, [u64::MAX; 6]));
            }
            for (number, alternatives) in policy.calls() {
                let alternatives = alternatives.unwrap_or_default();
                let used: BTreeSet<u8> = alternatives.iter().flatten().map(|condition| condition.argument).collect();
                let mut cases = vec![[0; 6]];
                for argument in used {
                    let values = values(argument, alternatives);
                    let with = |case: &[u64; 6], value| {
                        let mut case = *case;
                        case[usize::from(argument)] = value;
                        case
                    };
                    cases = cases.iter().flat_map(|case| values.iter().map(move |value| with(case, *value))).collect();
                }
                cases.iter().for_each(|case| check(&data(number, *case)));
            }
            let mut elsewhere = data(0, [0; 6]);
            elsewhere[1] = 0x4000_0003;
            check(&elsewhere);
            assert!(longest.0 < 64, "{thread}: {longest:?}");
        }
    }
}
