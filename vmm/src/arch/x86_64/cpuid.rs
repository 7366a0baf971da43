// SPDX-License-Identifier: Apache-2.0
//! CPUID: what KVM can do, less what a guest must not see, plus who and how many it is.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use kvm_ioctls::VcpuFd;

use super::{Error, vcpu_error};

/// Entries to make room for; KVM has fewer.
pub const MAX_ENTRIES: usize = 160;

const ECX1_VMX: u32 = 1 << 5;
const ECX1_PDCM: u32 = 1 << 15;
const ECX1_TSC_DEADLINE: u32 = 1 << 24;
const ECX1_HYPERVISOR: u32 = 1 << 31;
const EDX1_HTT: u32 = 1 << 28;
const ECX6_EPB: u32 = 1 << 3;
const AMD_ECX1_CMP_LEGACY: u32 = 1 << 1;
const AMD_ECX1_SVM: u32 = 1 << 2;
const AMD_ECX1_TOPOLOGY: u32 = 1 << 22;
const AMD_ECX1_PERF_CORE: u32 = 1 << 23;
const AMD_ECX1_PERF_NB: u32 = 1 << 24;

/// Of what KVM offers to guests by name (`<asm/kvm_para.h>`): its clock, old and new and that it is stable (bits 0, 3, 24),
/// and that ports need no delay (1), which KVM does nothing for. All else makes KVM write to guest memory, as for stolen
/// time, or take orders by hypercall.
const KVM_FEATURES: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 24;

/// Leaves that describe what this VMM does not give: performance counters, nested SVM, memory
/// encryption, and the second topology leaf, whose answers would contradict leaf 0xb.
const HIDDEN: [u32; 6] = [0xa, 0x1f, 0x8000_000a, 0x8000_001f, 0x8000_0022, 0x8000_0026];

/// What the guest is told about its processors.
#[derive(Debug, Clone, Copy)]
pub struct Topology {
    /// Number of vCPUs, one thread a core, one package.
    pub cpus: u8,
    /// Whether KVM's local APIC has the TSC-deadline timer.
    pub tsc_deadline: bool,
}

impl Topology {
    /// Bits of an APIC id that number the cores of the package.
    fn core_bits(self) -> u32 {
        u32::from(self.cpus).next_power_of_two().trailing_zeros()
    }
}

/// Sets CPUID of one vCPU, whose APIC id is its number.
pub fn set_cpuid(vcpu: &VcpuFd, supported: &CpuId, topology: Topology, id: u8) -> Result<(), Error> {
    let entries = for_vcpu(supported.as_slice(), topology, id);
    let cpuid = CpuId::from_entries(&entries).map_err(|_| Error::TableFull("CPUID leaves"))?;
    vcpu.set_cpuid2(&cpuid).map_err(vcpu_error("CPUID"))
}

/// The processor states that XCR0 may switch on (leaf 0xd); None without XSAVE.
pub fn xcr0_mask(supported: &CpuId) -> Option<u64> {
    let leaf = supported.as_slice().iter().find(|entry| entry.function == 0xd && entry.index == 0)?;
    Some(u64::from(leaf.edx) << 32 | u64::from(leaf.eax)).filter(|mask| *mask != 0)
}

fn for_vcpu(supported: &[kvm_cpuid_entry2], topology: Topology, id: u8) -> Vec<kvm_cpuid_entry2> {
    let kept = supported.iter().filter(|entry| entry.function != 0xb && !HIDDEN.contains(&entry.function));
    let mut entries: Vec<_> = kept.copied().collect();
    for entry in &mut entries {
        adjust(entry, topology, id);
    }
    entries.extend(extended_topology(topology, id));
    entries
}

fn adjust(entry: &mut kvm_cpuid_entry2, topology: Topology, id: u8) {
    let cpus = u32::from(topology.cpus);
    match entry.function {
        // The highest basic leaf covers the topology leaf added below.
        0 => entry.eax = entry.eax.max(0xb),
        1 => {
            entry.ebx = entry.ebx & 0xffff | cpus.next_power_of_two() << 16 | u32::from(id) << 24;
            entry.ecx = entry.ecx & !(ECX1_VMX | ECX1_PDCM) | ECX1_HYPERVISOR;
            set(&mut entry.ecx, ECX1_TSC_DEADLINE, topology.tsc_deadline);
            set(&mut entry.edx, EDX1_HTT, cpus > 1);
        }
        4 => share_cache(entry, topology, true),
        6 => entry.ecx &= !ECX6_EPB,
        0x8000_0001 => {
            entry.ecx &= !(AMD_ECX1_SVM | AMD_ECX1_PERF_CORE | AMD_ECX1_PERF_NB);
            if entry.ecx & AMD_ECX1_TOPOLOGY != 0 {
                set(&mut entry.ecx, AMD_ECX1_CMP_LEGACY, cpus > 1);
            }
        }
        0x4000_0001 => entry.eax &= KVM_FEATURES,
        // Core count and size of the core id, read on AMD.
        0x8000_0008 => entry.ecx = topology.core_bits() << 12 | (cpus - 1),
        0x8000_001d => share_cache(entry, topology, false),
        // Extended APIC id; one thread a core, one node.
        0x8000_001e => {
            entry.eax = u32::from(id);
            entry.ebx = u32::from(id);
            entry.ecx = 0;
        }
        _ => {}
    }
}

/// Leaves 4 and 0x8000001d: caches below level 3 belong to a core, level 3 to the package.
fn share_cache(entry: &mut kvm_cpuid_entry2, topology: Topology, count_cores: bool) {
    let (kind, level) = (entry.eax & 0x1f, entry.eax >> 5 & 7);
    if kind == 0 {
        return;
    }
    let last = u32::from(topology.cpus).next_power_of_two() - 1;
    let sharing = if level >= 3 { last } else { 0 };
    let cores = if count_cores { last } else { 0 };
    entry.eax = entry.eax & 0x3fff | sharing << 14 | cores << 26;
}

/// Leaf 0xb: threads, then cores, then the end of the list.
fn extended_topology(topology: Topology, id: u8) -> [kvm_cpuid_entry2; 3] {
    let level = |index, shift, count, kind: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | index,
        edx: u32::from(id),
        ..Default::default()
    };
    [level(0, 0, 1, 1), level(1, topology.core_bits(), u32::from(topology.cpus), 2), level(2, 0, 0, 0)]
}

fn set(register: &mut u32, bit: u32, on: bool) {
    *register = if on { *register | bit } else { *register & !bit };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn leaf(function: u32, index: u32, entries: &[kvm_cpuid_entry2]) -> kvm_cpuid_entry2 {
        *entries.iter().find(|entry| entry.function == function && entry.index == index).unwrap()
    }

    fn guest(cpus: u8, id: u8) -> Vec<kvm_cpuid_entry2> {
        let entry = |function, eax, ecx| kvm_cpuid_entry2 { function, eax, ecx, ..Default::default() };
        let supported = [
            entry(0, 0xd, 0),
            entry(1, 0, ECX1_VMX),
            entry(0xb, 0, 0),
            entry(0xa, 7, 0),
            entry(0x4000_0001, 0x0101_feff, 0),
            entry(0x8000_0001, 0, AMD_ECX1_SVM | AMD_ECX1_TOPOLOGY),
            entry(0x8000_0008, 0x3028, 0),
            entry(0x8000_001e, 0, 0xff),
        ];
        for_vcpu(&supported, Topology { cpus, tsc_deadline: true }, id)
    }

    #[test]
    fn for_vcpu_every_leaf_agrees_on_the_apic_id() {
        let entries = guest(3, 2);
        assert_eq!(leaf(1, 0, &entries).ebx >> 24, 2);
        assert_eq!(leaf(0xb, 0, &entries).edx, 2);
        assert_eq!(leaf(0x8000_001e, 0, &entries).eax, 2);
    }

    #[test]
    fn for_vcpu_three_cores_need_two_bits() {
        let entries = guest(3, 0);
        let cores = leaf(0xb, 1, &entries);
        assert_eq!((cores.eax, cores.ebx), (2, 3));
        assert_eq!(leaf(0x8000_0008, 0, &entries).ecx, 2 << 12 | 2);
    }

    #[test]
    fn for_vcpu_hides_nesting_and_counters_and_of_kvm_all_but_its_clock() {
        let entries = guest(1, 0);
        assert_eq!(leaf(1, 0, &entries).ecx & ECX1_VMX, 0);
        assert_ne!(leaf(1, 0, &entries).ecx & ECX1_HYPERVISOR, 0);
        assert_eq!(leaf(0x8000_0001, 0, &entries).ecx & AMD_ECX1_SVM, 0);
        assert!(entries.iter().all(|entry| entry.function != 0xa));
        assert_eq!(leaf(0x4000_0001, 0, &entries).eax, 0x0100_000b);
    }
}
