// SPDX-License-Identifier: Apache-2.0
//! A guest's general registers, which lie in KVM's memory of the vCPU and so in the direct map: a known leak.
//!
//! A guest of the probe's own halts with a canary in its registers. A kprobe tells where KVM has the vCPU.

use anyhow::{Context, Result, ensure};
use secretvmm_canary::PAGE_SIZE;

use super::emulated::memory_like;
use super::kprobe::{EVENT, trace_one};
use crate::probes::{Outcome, Subject, kcore};
use crate::toy::{self, ToyVm};

/// Which canary; the target has none of this number.
const INDEX: u64 = (1 << 24) - 2;
const REGISTERS: usize = 16;
/// Its first argument is the vCPU.
const FUNCTION: &str = "kvm_arch_vcpu_ioctl_run";
/// More than `struct kvm_vcpu` has.
const VCPU_BYTES: usize = 4 * PAGE_SIZE;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let seed = subject.target.canary.seed;
    let mut words = seed.page(INDEX).chunks_exact(8).map(word).collect::<Vec<_>>();
    words.truncate(REGISTERS);
    let registers = words.try_into().map_err(|_| anyhow::anyhow!("A canary is shorter than the registers"))?;
    let memory = memory_like(subject)?;
    let mut guest = ToyVm::on(&memory)?;
    let line = trace_one(&format!("{EVENT} {FUNCTION} vcpu=%di:x64"), || {
        let ended = guest.run_with_registers(registers)?;
        ensure!(ended == toy::Outcome::Halted, "The guest ended with {ended:?}");
        Ok(())
    })?;
    let address = line.rsplit_once("vcpu=0x").context("The event has no address")?.1;
    let mut vcpu = vec![0; VCPU_BYTES];
    kcore::read_direct_map(u64::from_str_radix(address.trim(), 16)?, &mut vcpu)?;
    // The guest is there until here.
    drop(guest);
    let mut page = [0; PAGE_SIZE];
    if let Some(found) = vcpu.chunks_exact(8).position(|bytes| seed.index_of(word(bytes)) == Some(INDEX)) {
        let found = &vcpu[8 * found..];
        let length = found.len().min(8 * REGISTERS);
        page[..length].copy_from_slice(&found[..length]);
    }
    Ok(subject.judge(&page))
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}
