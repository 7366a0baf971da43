// SPDX-License-Identifier: Apache-2.0
//! The allocator for collections.
#![allow(unsafe_code)] // An unsafe trait.

use std::alloc::Layout;
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

/// Secret memory for the collections of `allocator-api2`, and for those that take its trait.
///
/// ```
/// use allocator_api2::vec::Vec;
/// let mut keys = Vec::new_in(secretmem::Secret);
/// keys.push([1u8; 32]);
/// assert_eq!(keys[0], [1; 32]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secret;

// SAFETY: allocations of the process's one heap stay where they are until they are freed.
unsafe impl Allocator for Secret {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let ptr = match layout.size() {
            0 => NonNull::new(std::ptr::without_provenance_mut(layout.align())).ok_or(AllocError)?,
            size => crate::aligned_alloc(layout.align(), size).map_err(|_| AllocError)?,
        };
        Ok(NonNull::slice_from_raw_parts(ptr, layout.size()))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.allocate(layout)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            // SAFETY: the caller promises that it is an allocation of this allocator.
            unsafe { crate::free(ptr) };
        }
    }
}
