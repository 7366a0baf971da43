// SPDX-License-Identifier: Apache-2.0
//! What was copied into guest RAM, measured there: not the files, which may change, and not on the
//! way, where something could still be written over it.

use secretvmm_evidence::{Digest, Hasher};
use vm_memory::{Bytes, GuestAddress};

use super::{Error, Kernel, Plan};
use crate::layout;
use crate::memory::GuestMemory;

/// Bytes that are taken out of guest RAM at a time. They come from files, there is no secret in them.
const CHUNK: usize = 64 << 10;

/// Digests of what was loaded (`docs/attestation.md` says of which bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// The kernel.
    pub kernel: Digest,
    /// The initrd, if there is one.
    pub initrd: Option<Digest>,
    /// The command line.
    pub cmdline: Digest,
}

impl Plan {
    /// Measures what [`Plan::load`] has loaded. To be called before a vCPU runs.
    ///
    /// # Errors
    /// Guest RAM cannot be read.
    pub fn measure(&self, memory: &GuestMemory, kernel: &Kernel, cmdline: &str) -> Result<Loaded, Error> {
        let initrd = self.initrd.map(|(address, size)| digest(memory, address, size)).transpose()?;
        let cmdline = digest(memory, layout::CMDLINE, cmdline.len() as u64)?;
        Ok(Loaded { kernel: kernel_digest(memory, kernel)?, initrd, cmdline })
    }
}

/// Each piece with its place, so that the same bytes elsewhere, or entered elsewhere, are another kernel.
fn kernel_digest(memory: &GuestMemory, kernel: &Kernel) -> Result<Digest, Error> {
    let mut hasher = Hasher::default();
    let head = |hasher: &mut Hasher, address: u64, size: u64| {
        hasher.update(&address.to_le_bytes());
        hasher.update(&size.to_le_bytes());
    };
    if let Some(header) = kernel.setup_header() {
        head(&mut hasher, layout::ZERO_PAGE + layout::SETUP_HEADER, header.len() as u64);
        hasher.update(header);
    }
    for (address, size) in kernel.pieces() {
        head(&mut hasher, address, size);
        add(&mut hasher, memory, address, size)?;
    }
    hasher.update(&kernel.entry().to_le_bytes());
    Ok(hasher.finish())
}

fn digest(memory: &GuestMemory, address: u64, size: u64) -> Result<Digest, Error> {
    let mut hasher = Hasher::default();
    add(&mut hasher, memory, address, size)?;
    Ok(hasher.finish())
}

fn add(hasher: &mut Hasher, memory: &GuestMemory, address: u64, size: u64) -> Result<(), Error> {
    let mut buffer = vec![0; CHUNK];
    for start in (0..size).step_by(CHUNK) {
        let len = usize::try_from(size - start).unwrap_or(CHUNK).min(CHUNK);
        let Some(chunk) = buffer.get_mut(..len) else { continue };
        memory.read_slice(chunk, GuestAddress(address + start))?;
        hasher.update(chunk);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::loader::{Initrd, bzimage, elf};
    use crate::memory::{GuestRam, RamKind};
    use std::io::Write;
    use vmm_sys_util::tempfile::TempFile;

    const RAM: u64 = 64 << 20;

    struct Guest {
        ram: GuestRam,
        plan: Plan,
        kernel: Kernel,
    }

    fn guest(image: &[u8], initrd: Option<&[u8]>) -> Guest {
        let mut kernel = crate::loader::testing::open(image).unwrap();
        let file = TempFile::new().unwrap();
        file.as_file().write_all(initrd.unwrap_or_default()).unwrap();
        let mut initrd = initrd.map(|_| Initrd::open(file.as_path()).unwrap());
        let plan = Plan::new(&kernel, initrd.as_ref().map(Initrd::size), RAM).unwrap();
        let ram = GuestRam::create(RamKind::Shared, RAM).unwrap();
        plan.load(ram.memory(), &mut kernel, initrd.as_mut(), "quiet").unwrap();
        Guest { ram, plan, kernel }
    }

    impl Guest {
        fn measure(&self) -> Loaded {
            self.plan.measure(self.ram.memory(), &self.kernel, "quiet").unwrap()
        }
    }

    #[test]
    fn measure_bzimage_is_of_header_payload_and_entry() {
        let image = bzimage::tests::image();
        let mut expected = Vec::new();
        for (address, bytes) in [(0x71f1_u64, &image[0x1f1..0x26c]), (0x100_0000, &image[1024..])] {
            expected.extend(address.to_le_bytes());
            expected.extend((bytes.len() as u64).to_le_bytes());
            expected.extend(bytes);
        }
        expected.extend(0x100_0200_u64.to_le_bytes());
        assert_eq!(guest(&image, None).measure().kernel, Digest::of(&expected));
    }

    #[test]
    fn measure_elf_is_of_segments_and_entry() {
        let image = elf::tests::image();
        let mut expected = Vec::new();
        expected.extend(0x100_0000_u64.to_le_bytes());
        expected.extend(0x100_u64.to_le_bytes());
        expected.extend(&image[0x200..0x300]);
        expected.extend(0x100_0010_u64.to_le_bytes());
        assert_eq!(guest(&image, None).measure().kernel, Digest::of(&expected));
    }

    #[test]
    fn measure_initrd_and_command_line_are_of_their_bytes() {
        let initrd = vec![0x5a; CHUNK * 2 + 17];
        let loaded = guest(&bzimage::tests::image(), Some(&initrd)).measure();
        assert_eq!(loaded.initrd, Some(Digest::of(&initrd)));
        assert_eq!(loaded.cmdline, Digest::of(b"quiet"));
        assert_eq!(guest(&bzimage::tests::image(), None).measure().initrd, None);
    }

    /// It is guest RAM that is measured, not the files.
    #[test]
    fn measure_sees_one_byte_written_over() {
        let guest = guest(&bzimage::tests::image(), Some(b"initrd"));
        let before = guest.measure();
        let memory = guest.ram.memory();
        memory.write_obj(1_u8, GuestAddress(0x100_0fff)).unwrap();
        assert_ne!(guest.measure().kernel, before.kernel);
        memory.write_obj(1_u8, GuestAddress(guest.plan.initrd.unwrap().0)).unwrap();
        assert_ne!(guest.measure().initrd, before.initrd);
        memory.write_obj(b'Q', GuestAddress(layout::CMDLINE)).unwrap();
        assert_ne!(guest.measure().cmdline, before.cmdline);
    }

    /// Bytes that no loader copies, and yet the guest is another.
    #[test]
    fn measure_kernels_that_differ_in_header_or_place_differ() {
        let image = bzimage::tests::image();
        let digest = |image: &[u8]| guest(image, None).measure().kernel;
        let mut other = image.clone();
        other[0x258..0x260].copy_from_slice(&0x120_0000_u64.to_le_bytes());
        assert_ne!(digest(&other), digest(&image));
        let mut other = image.clone();
        // init_size
        other[0x260] = 1;
        assert_ne!(digest(&other), digest(&image));

        let image = elf::tests::image();
        let mut other = image.clone();
        // The last byte of the PVH note: the entry.
        other[0x100 + 36] = 0x20;
        assert_ne!(digest(&other), digest(&image));
    }
}
