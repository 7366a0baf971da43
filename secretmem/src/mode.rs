// SPDX-License-Identifier: Apache-2.0
//! Who may use a secret file, and what its pages are made of.

use std::fmt;

bitflags::bitflags! {
    /// Mode flags of `memfd_secret(2)`, fixed when the file is created
    /// (include/uapi/linux/secretmem.h of the kernel series). Empty is what every kernel with
    /// `memfd_secret` knows.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Mode: u32 {
        /// `SECRETMEM_EXCLUSIVE`: only the creating process maps or faults the file, not a child
        /// after fork and nobody whom the descriptor is passed to.
        const EXCLUSIVE = 0x1;
        /// `SECRETMEM_UNCACHED`: the process's own mapping bypasses the caches.
        const UNCACHED = 0x2;
        /// `SECRETMEM_HUGE`: 2 MiB pages or an error, never 4 KiB pages.
        const HUGE = 0x4;
        /// `SECRETMEM_POOL`: pages of the pool reserved at boot or an error.
        const POOL = 0x8;
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(self, f)
    }
}
