// SPDX-License-Identifier: Apache-2.0
//! The initial RAM disk.

use std::path::Path;

use super::{Error, Source};
use crate::memory::GuestMemory;

/// An initrd that exists and has at least one byte.
#[derive(Debug)]
pub struct Initrd {
    source: Source,
}

impl Initrd {
    /// Opens `path`, which must be a regular file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let source = Source::open("Initrd", path)?;
        if source.len == 0 {
            return Err(Error::EmptyInitrd(source.path));
        }
        Ok(Self { source })
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.source.len
    }

    /// Copies the initrd to `address`.
    pub(crate) fn load(&mut self, memory: &GuestMemory, address: u64) -> Result<(), Error> {
        self.source.copy_to(0, self.source.len, memory, address)
    }
}
