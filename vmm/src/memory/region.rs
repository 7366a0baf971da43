// SPDX-License-Identifier: Apache-2.0
//! Guest RAM as vm-memory regions that own their mappings.
#![allow(unsafe_code)] // Volatile slices over our own mapping.

use std::io;
use std::sync::Arc;

use secretmem::{FdInfo, Mapping};
use vm_memory::bitmap::BS;
use vm_memory::guest_memory::Result as MemoryResult;
use vm_memory::{
    Address, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestRegionCollection,
    GuestUsize, MemoryRegionAddress, VolatileSlice,
};

use super::{Backing, Error, Populating, RamKind};
use crate::layout::{self, Slot};
use crate::sandbox::Sandbox;

/// All of a guest's RAM, cheap to clone. The mappings live as long as the last clone.
pub type GuestMemory = GuestRegionCollection<RamRegion>;

/// One memslot's worth of guest RAM.
#[derive(Debug)]
pub struct RamRegion {
    slot: Slot,
    mapping: Mapping,
}

impl RamRegion {
    /// Where the region lies in the guest and in the file.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Where the region lies in this process: a multiple of 2 MiB.
    pub fn host_address(&self) -> u64 {
        self.mapping.as_ptr() as u64
    }
}

impl GuestMemoryRegion for RamRegion {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.slot.size
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.slot.gpa)
    }

    fn bitmap(&self) -> BS<'_, ()> {}

    fn get_slice(&self, offset: MemoryRegionAddress, count: usize) -> MemoryResult<VolatileSlice<'_, BS<'_, ()>>> {
        let start = usize::try_from(offset.raw_value()).map_err(|_| GuestMemoryError::InvalidBackendAddress)?;
        let end = start.checked_add(count).ok_or(GuestMemoryError::InvalidBackendAddress)?;
        if end > self.mapping.len() {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        // SAFETY: start + count lies inside the mapping, which outlives the borrow of self.
        Ok(unsafe { VolatileSlice::new(self.mapping.as_ptr().add(start), count) })
    }
}

impl GuestMemoryRegionBytes for RamRegion {}

/// A guest's RAM together with the file that backs it.
#[derive(Debug)]
pub struct GuestRam {
    memory: GuestMemory,
    /// Open for the life of the VM, so that the operator can read /proc/PID/fdinfo.
    backing: Arc<Backing>,
}

impl GuestRam {
    /// Makes and maps `size` bytes, a multiple of 2 MiB, and populates them if that is to be done before the guest runs.
    ///
    /// # Errors
    /// [`Error`], which says what to do wherever it is the host's settings that refuse.
    pub fn create(kind: RamKind, size: u64) -> Result<Self, Error> {
        Self::make(kind, size).map_err(|err| err.explain(kind, size))
    }

    fn make(kind: RamKind, size: u64) -> Result<Self, Error> {
        let backing = Backing::create(kind, size)?;
        let mut regions = Vec::new();
        for slot in layout::slots(size) {
            let mapping = Mapping::new(&backing, slot.offset, slot.size)?;
            backing.prepare(&mapping, slot.offset)?;
            regions.push(Arc::new(RamRegion { slot, mapping }));
        }
        let memory = GuestMemory::from_arc_regions(regions)?;
        Ok(Self { memory, backing: Arc::new(backing) })
    }

    /// Starts to populate what is to be populated beside the guest.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn populate_beside_guest(&self, sandbox: Sandbox) -> io::Result<Populating> {
        Populating::start(&self.backing, sandbox)
    }

    /// What the kernel says of it at this moment; None for ordinary memory.
    ///
    /// # Errors
    /// /proc is not there.
    pub fn kernel_info(&self) -> io::Result<Option<FdInfo>> {
        FdInfo::of(&*self.backing)
    }

    /// What devices and loaders get: memory, and no word of what it is made of.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestMemoryBackend};

    #[test]
    fn ram_across_the_hole_is_congruent_and_holds_what_was_written() {
        let ram = GuestRam::create(RamKind::Shared, 4 << 30).unwrap();
        let memory = ram.memory();
        assert_eq!(memory.num_regions(), 2);
        for region in memory.iter() {
            assert_eq!(region.host_address() % layout::RAM_ALIGN, region.slot().gpa % layout::RAM_ALIGN);
        }
        memory.write_obj(0x1234_u32, GuestAddress(layout::HIGH_RAM + 8)).unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(layout::HIGH_RAM + 8)).unwrap(), 0x1234);
    }

    #[test]
    fn ram_access_in_the_hole_or_past_the_end_is_an_error() {
        let ram = GuestRam::create(RamKind::Shared, 4 << 30).unwrap();
        let memory = ram.memory();
        assert!(memory.write_obj(1_u8, GuestAddress(layout::HOLE_START)).is_err());
        assert!(memory.write_obj(1_u64, GuestAddress(layout::HOLE_START - 4)).is_err());
        assert!(memory.write_obj(1_u8, GuestAddress(layout::HIGH_RAM + (1 << 30))).is_err());
        assert!(memory.get_slice(GuestAddress(0), usize::MAX).is_err());
    }
}
