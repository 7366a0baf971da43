// SPDX-License-Identifier: Apache-2.0
//! Physical memory of a machine that stands still.

use anyhow::Result;
use secretvmm_canary::PAGE_SIZE;

/// Entries in a page table.
pub const ENTRIES: usize = 512;

/// A frame read as a page table (Intel SDM volume 3, 4.5; AMD APM volume 2, 5.3).
pub type Table = [u64; ENTRIES];

/// What can be read page by page, by frame number: the physical address divided by 4096.
pub trait Memory {
    /// A frame's contents; `None` where there is no memory.
    ///
    /// # Errors
    /// The memory's file cannot be read.
    fn page(&self, pfn: u64) -> Result<Option<[u8; PAGE_SIZE]>>;

    /// Shows every frame there is to `visit`, in ascending order.
    ///
    /// # Errors
    /// The memory's file cannot be read.
    fn for_each_page(&self, visit: &mut dyn FnMut(u64, &[u8; PAGE_SIZE])) -> Result<()>;

    /// Whether there is memory at a frame.
    fn has(&self, pfn: u64) -> bool;

    /// How many frames there are.
    fn frames(&self) -> u64;

    /// A frame as a page table.
    ///
    /// # Errors
    /// As [`Memory::page`].
    fn table(&self, pfn: u64) -> Result<Option<Table>> {
        Ok(self.page(pfn)?.map(|page| table_of(&page)))
    }
}

/// A page's contents as the entries of a page table.
pub fn table_of(page: &[u8; PAGE_SIZE]) -> Table {
    let mut table = [0; ENTRIES];
    let (words, _) = page.as_chunks::<8>();
    table.iter_mut().zip(words).for_each(|(entry, word)| *entry = u64::from_le_bytes(*word));
    table
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    /// Memory that a test writes.
    #[derive(Default)]
    pub(crate) struct Written(pub(crate) BTreeMap<u64, [u8; PAGE_SIZE]>);

    impl Written {
        /// Frames `0..frames`, all zero.
        pub(crate) fn zeroed(frames: u64) -> Self {
            Written((0..frames).map(|pfn| (pfn, [0; PAGE_SIZE])).collect())
        }

        pub(crate) fn set(&mut self, table: u64, index: usize, entry: u64) {
            let page = self.0.get_mut(&table).unwrap();
            page[index * 8..index * 8 + 8].copy_from_slice(&entry.to_le_bytes());
        }
    }

    impl Memory for Written {
        fn page(&self, pfn: u64) -> Result<Option<[u8; PAGE_SIZE]>> {
            Ok(self.0.get(&pfn).copied())
        }

        fn for_each_page(&self, visit: &mut dyn FnMut(u64, &[u8; PAGE_SIZE])) -> Result<()> {
            self.0.iter().for_each(|(pfn, page)| visit(*pfn, page));
            Ok(())
        }

        fn has(&self, pfn: u64) -> bool {
            self.0.contains_key(&pfn)
        }

        fn frames(&self) -> u64 {
            self.0.len() as u64
        }
    }
}
