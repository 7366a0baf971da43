// SPDX-License-Identifier: Apache-2.0
//! The trace event of each instruction that KVM emulates, which has the instruction's bytes
//! (`kvm_emulate_insn` in arch/x86/kvm/trace.h): a known leak.
//!
//! What a running guest lets KVM emulate is left to chance. So this is a guest of its own, on memory of the target's
//! kind: each of its instructions writes a few bytes of a canary to where there is no memory.

use anyhow::{Context, Result, ensure};
use nix::unistd::gettid;
use secretmem::memlock;
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::host::{fdinfo, trace::Trace};
use crate::probes::{Outcome, Subject};
use crate::secret;
use crate::toy::{self, ToyVm};

/// Which canary; the target has none of this number.
const INDEX: u64 = (1 << 24) - 1;
/// As much of it as the kprobe's.
const BYTES: usize = 12 * 8;
const EVENT: &str = "kvm_emulate_insn";
/// Far behind the guest's memory.
const NO_MEMORY: u64 = 1 << 30;
/// `mov dword [ds:0], …` in real mode, and HLT.
const WRITE: [u8; 5] = [0x66, 0xc7, 0x06, 0, 0];
const HALT: u8 = 0xf4;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let canary = subject.target.canary.seed.page(INDEX);
    let memory = memory_like(subject)?;
    let trace = Trace::of(&format!("kvm/{EVENT}"), Some(gettid()))?;
    let ended = ToyVm::on(&memory)?.run_emulated(&code(&canary[..BYTES]), NO_MEMORY)?;
    ensure!(ended == toy::Outcome::Halted, "The guest ended with {ended:?}");
    let mut page = [0; PAGE_SIZE];
    for (value, line) in page.chunks_exact_mut(4).zip(writes(&trace.lines()?)?) {
        value.copy_from_slice(&line[WRITE.len()..]);
    }
    Ok(subject.judge(&page))
}

/// Secret memory in the mode of the target's, if that has any; not of the pool, which the target may have whole.
pub(super) fn memory_like(subject: &Subject<'_>) -> Result<Area> {
    let memory = match fdinfo::of_process(subject.pid()) {
        Ok(info) => {
            memlock::make_room(secret::HUGE_SIZE as u64)?;
            let file = secret::file(u32::try_from(info.flags)? & !secret::POOL, secret::HUGE_SIZE)?;
            secret::populate(&file, 0, i64::try_from(secret::HUGE_SIZE)?).context("Cannot populate it")?;
            Area::of_file(&file, secret::HUGE_SIZE)
        }
        Err(_) => Area::ordinary(secret::HUGE_SIZE),
    };
    memory.context("Cannot map memory of the target's kind")
}

fn code(values: &[u8]) -> Vec<u8> {
    let mut code: Vec<u8> = values.chunks_exact(4).flat_map(|value| [&WRITE, value].concat()).collect();
    code.push(HALT);
    code
}

/// The bytes of every write, in their order. Events of other instructions, and without bytes, are none of these.
fn writes(lines: &[String]) -> Result<Vec<Vec<u8>>> {
    let mut writes = Vec::new();
    for line in lines {
        let bytes = bytes(line).with_context(|| format!("A trace line is not understood: {line}"))?;
        if bytes.starts_with(&WRITE) && bytes.len() == WRITE.len() + 4 {
            writes.push(bytes);
        }
    }
    Ok(writes)
}

/// `TASK-PID [CPU] FLAGS TIME: EVENT: BASE:IP:BYTES (MODE)`
fn bytes(line: &str) -> Option<Vec<u8>> {
    let (_, event) = line.split_once(&format!(": {EVENT}: "))?;
    let (bytes, _) = event.splitn(3, ':').nth(2)?.split_once('(')?;
    bytes.split_ascii_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_event_are_its_instruction() {
        let line = " probe-9 [001] ..... 5.1: kvm_emulate_insn: 0:1009:66 c7 06 00 00 01 02 03 04 (real)";
        assert_eq!(bytes(line).unwrap(), code(&[1, 2, 3, 4])[..9]);
        assert_eq!(bytes(" probe-9 [001] ..... 5.1: kvm_emulate_insn: 0:1009: (real)").unwrap(), [0; 0]);
        assert_eq!(bytes(" probe-9 [001] ..... 5.1: kvm_exit: 0:1:66 (real)"), None);
    }
}
