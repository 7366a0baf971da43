// SPDX-License-Identifier: Apache-2.0
//! Model-specific registers as firmware would leave them.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::{Error, vcpu_error};

const IA32_MISC_ENABLE: u32 = 0x1a0;
const FAST_STRING: u64 = 1;
const MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ENABLE: u64 = 1 << 11;
const WRITE_BACK: u64 = 6;

/// Fast string operations, and write-back as the memory type of everything that KVM maps.
const BOOT_MSRS: [(u32, u64); 2] = [(IA32_MISC_ENABLE, FAST_STRING), (MTRR_DEF_TYPE, MTRR_ENABLE | WRITE_BACK)];

/// Sets the MSRs of one vCPU.
pub fn set_boot_msrs(vcpu: &VcpuFd) -> Result<(), Error> {
    let entries = BOOT_MSRS.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let msrs = Msrs::from_entries(&entries).map_err(|_| Error::TableFull("MSRs"))?;
    let done = vcpu.set_msrs(&msrs).map_err(vcpu_error("MSRs"))?;
    match BOOT_MSRS.get(done) {
        Some((index, _)) => Err(Error::Msr(*index)),
        None => Ok(()),
    }
}
