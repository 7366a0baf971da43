// SPDX-License-Identifier: Apache-2.0
//! What is allocated.

use super::pool::{Pool, Totals};
use super::region::Backing;
use super::{Heap, cache};

/// What is allocated at this moment; all zero before the first use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live allocations.
    pub live: usize,
    /// Bytes that these were asked for with.
    pub live_bytes: usize,
    /// Bytes of pages mapped for them.
    pub mapped_bytes: usize,
    /// Whether these pages are secret memory, and not what [`crate::Config::fallback`] allows.
    pub secret: bool,
    /// Since the start.
    pub totals: Totals,
}

impl Stats {
    pub(super) fn of(heap: &Heap) -> Self {
        cache::settle(heap);
        cache::inside(heap, |pool| Self::in_pool(heap, pool)).unwrap_or_default()
    }

    fn in_pool(heap: &Heap, pool: &Pool) -> Self {
        let sizes = pool.mapped().flat_map(|(stride, ..)| heap.table.get(stride).live());
        let (live, live_bytes) = sizes.fold((0, 0), |(live, bytes), (_, size)| (live + 1, bytes + size));
        Self {
            live,
            live_bytes,
            mapped_bytes: pool.mapped().map(|(_, len, _)| len).sum(),
            secret: matches!(heap.region.backing(), Backing::Secret(_)),
            totals: pool.totals,
        }
    }
}
