// SPDX-License-Identifier: Apache-2.0
//! bzImage, by the 64-bit boot protocol (Documentation/arch/x86/boot.rst in Linux).

use std::ops::Range;

use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

use super::{Error, Source};
use crate::layout;
use crate::memory::GuestMemory;

/// Bytes to read for [`BzImage::parse`]: two sectors hold the whole setup header.
pub(super) const HEAD_LEN: u64 = 1024;

const HEADER_START: usize = 0x1f1;
const JUMP: usize = 0x201;
const MAGIC: Range<usize> = 0x202..0x206;
const SECTOR: u64 = 512;
const PROTOCOL_2_12: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
/// The 64-bit entry lies this far behind the load address.
const ENTRY_64: u64 = 0x200;

/// A bzImage whose setup header has been checked.
#[derive(Debug)]
pub struct BzImage {
    source: Source,
    header: setup_header,
}

/// Whether `head` carries the boot protocol's magic.
pub(super) fn is_bzimage(head: &[u8]) -> bool {
    head.get(MAGIC) == Some(b"HdrS")
}

impl BzImage {
    /// Checks everything that loading relies on; `head` is the first [`HEAD_LEN`] bytes.
    pub(super) fn parse(source: Source, head: &[u8]) -> Result<Self, Error> {
        let header = read_header(head).ok_or_else(|| source.truncated(HEAD_LEN))?;
        let image = Self { source, header };
        image.check_entry()?;
        image.check_payload()?;
        image.check_address()?;
        Ok(image)
    }

    fn check_entry(&self) -> Result<(), Error> {
        let version = self.header.version;
        if version < PROTOCOL_2_12 {
            let (major, minor) = (version >> 8, version & 0xff);
            return Err(self
                .source
                .bad(format!("its boot protocol is {major}.{minor}, but 2.12 (Linux 3.8) is needed")));
        }
        if self.header.loadflags & LOADED_HIGH == 0 {
            return Err(self.source.bad("it is a zImage; build a bzImage"));
        }
        if self.header.xloadflags & XLF_KERNEL_64 == 0 {
            return Err(self.source.bad("it has no 64-bit entry; build it for x86-64"));
        }
        Ok(())
    }

    fn check_payload(&self) -> Result<(), Error> {
        // syssize counts paragraphs of 16 bytes and may round the last one up.
        let least = (u64::from(self.header.syssize) * 16).saturating_sub(15).max(ENTRY_64 + 1);
        let expected = self.payload_offset() + least;
        if self.source.len < expected {
            return Err(self.source.truncated(expected));
        }
        if u64::from(self.header.init_size) < self.payload_len() {
            return Err(self.source.bad("its init_size is smaller than the image itself"));
        }
        Ok(())
    }

    fn check_address(&self) -> Result<(), Error> {
        let (address, align) = (self.header.pref_address, u64::from(self.header.kernel_alignment));
        if !(layout::HIMEM..layout::HOLE_START).contains(&address) {
            return Err(self.source.bad(format!("its preferred address {address:#x} is not between 1 MiB and 3 GiB")));
        }
        if !align.is_power_of_two() || !address.is_multiple_of(align) {
            return Err(self
                .source
                .bad(format!("its preferred address {address:#x} contradicts its alignment {align:#x}")));
        }
        Ok(())
    }

    fn payload_offset(&self) -> u64 {
        let sectors = match self.header.setup_sects {
            0 => 4,
            sectors => u64::from(sectors),
        };
        (sectors + 1) * SECTOR
    }

    fn payload_len(&self) -> u64 {
        self.source.len.saturating_sub(self.payload_offset())
    }

    /// The 64-bit entry's guest-physical address.
    pub fn entry(&self) -> u64 {
        self.header.pref_address + ENTRY_64
    }

    /// The setup header as the file has it.
    pub fn header(&self) -> &setup_header {
        &self.header
    }

    pub(super) fn footprint(&self) -> Range<u64> {
        let start = self.header.pref_address;
        start..start + u64::from(self.header.init_size)
    }

    pub(super) fn initrd_limit(&self) -> u64 {
        u64::from(self.header.initrd_addr_max) + 1
    }

    pub(super) fn cmdline_limit(&self) -> usize {
        (self.header.cmdline_size as usize).min(layout::CMDLINE_MAX - 1)
    }

    /// Where [`Self::load`] puts what: guest-physical address and length.
    pub(super) fn piece(&self) -> (u64, u64) {
        (self.header.pref_address, self.payload_len())
    }

    pub(super) fn load(&mut self, memory: &GuestMemory) -> Result<(), Error> {
        let (address, len) = self.piece();
        self.source.copy_to(self.payload_offset(), len, memory, address)
    }
}

/// The setup header, cut where its own jump says that it ends; what an older kernel does not
/// have stays 0.
fn read_header(head: &[u8]) -> Option<setup_header> {
    let mut header = setup_header::default();
    let target = header.as_mut_slice();
    let end = MAGIC.start + usize::from(*head.get(JUMP)?);
    let end = end.min(HEADER_START + target.len());
    let bytes = head.get(HEADER_START..end)?;
    target.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(header)
}

#[cfg(test)]
pub(super) mod tests;
