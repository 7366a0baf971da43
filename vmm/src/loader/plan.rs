// SPDX-License-Identifier: Apache-2.0
//! Where kernel and initrd go in a given amount of RAM.

use vm_memory::{Bytes, GuestAddress};

use super::{Error, Initrd, Kernel};
use crate::layout;
use crate::memory::GuestMemory;

const PAGE: u64 = 4096;

/// Addresses for one guest, decided before any memory exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Guest-physical address and length of the initrd.
    pub initrd: Option<(u64, u64)>,
}

impl Plan {
    /// Checks that the kernel fits into `ram` bytes, and puts an initrd of `initrd` bytes as high
    /// as it may lie: below the hole, below the kernel's own limit, page-aligned.
    pub fn new(kernel: &Kernel, initrd: Option<u64>, ram: u64) -> Result<Self, Error> {
        let low_end = ram.min(layout::HOLE_START);
        let kernel_end = kernel.footprint().end;
        if kernel_end > low_end {
            return Err(Error::KernelDoesNotFit(kernel_end.next_multiple_of(layout::RAM_ALIGN)));
        }
        let limit = low_end.min(kernel.initrd_limit());
        let initrd = initrd.map(|size| place(size, kernel_end, limit)).transpose()?;
        Ok(Self { initrd })
    }

    /// Copies kernel, initrd and command line into guest memory.
    pub fn load(
        &self,
        memory: &GuestMemory,
        kernel: &mut Kernel,
        initrd: Option<&mut Initrd>,
        cmdline: &str,
    ) -> Result<(), Error> {
        kernel.load(memory)?;
        if let (Some(initrd), Some((address, _))) = (initrd, self.initrd) {
            initrd.load(memory, address)?;
        }
        memory.write_slice(cmdline.as_bytes(), GuestAddress(layout::CMDLINE))?;
        Ok(memory.write_obj(0_u8, GuestAddress(layout::CMDLINE + cmdline.len() as u64))?)
    }
}

fn place(size: u64, kernel_end: u64, limit: u64) -> Result<(u64, u64), Error> {
    let start = limit.checked_sub(size).map(|start| start - start % PAGE);
    match start {
        Some(start) if start >= kernel_end => Ok((start, size)),
        _ => Err(Error::InitrdDoesNotFit { size, kernel_end, limit }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn place_is_high_and_page_aligned() {
        assert_eq!(place(0x1801, 0x10_0000, 0x200_0000).unwrap(), (0x1ff_e000, 0x1801));
        assert_eq!(place(0x1000, 0x1000, 0x2000).unwrap(), (0x1000, 0x1000));
    }

    #[test]
    fn place_too_large_is_refused() {
        assert!(place(0x1001, 0x1000, 0x2000).is_err());
        assert!(place(u64::MAX, 0x1000, 0x2000).is_err());
    }
}
