// SPDX-License-Identifier: Apache-2.0
//! An allocator for keys: small things share secret pages, each is wiped when freed, and misuse stops the program.
//!
//! What it knows of an allocation (its size, whether it is free) lies in ordinary memory, out of reach of an overflow.
#![allow(unsafe_code)] // Slots are handed out and taken back as raw pointers.

use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};
use std::sync::{Mutex, OnceLock, PoisonError};

mod cache;
mod class;
mod config;
mod error;
mod fork;
mod pool;
mod region;
mod slab;
mod stats;

pub use config::{Config, Fork};
pub use error::{AllocError, Misuse};
pub(crate) use error::{error_chain, say};
pub use pool::Totals;
pub use stats::Stats;

use class::{CANARY, MAX_ALIGN};
use pool::Pool;
use region::Region;
use slab::{Kind, Slab, Table};

/// Most bytes of one allocation.
const MAX_SIZE: usize = 1 << 30;

static HEAP: OnceLock<Heap> = OnceLock::new();

/// The allocator of this process.
#[derive(Debug)]
struct Heap {
    config: Config,
    region: Region,
    table: Table,
    /// Behind an allocation lies this word and its address, so that no two allocations end alike.
    canary: u64,
    pool: Mutex<Pool>,
}

/// Reserves addresses, makes room in RLIMIT_MEMLOCK and fixes the configuration. The first use does
/// it with [`Config::default`]; call it first to have its errors early.
///
/// # Errors
/// No secret memory, no room for any, or a configuration other than the one in force.
///
/// ```standalone_crate
/// use secretmem::{Config, Fork};
/// secretmem::init(Config { fork: Fork::Copy, ..Config::default() })?;
/// # Ok::<(), secretmem::AllocError>(())
/// ```
pub fn init(config: Config) -> Result<(), AllocError> {
    let heap = heap_with(config)?;
    if heap.config == config { Ok(()) } else { Err(AllocError::Configured) }
}

fn heap_with(config: Config) -> Result<&'static Heap, AllocError> {
    static FIRST: Mutex<()> = Mutex::new(());
    if let Some(heap) = HEAP.get() {
        return Ok(heap);
    }
    let _first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(heap) = HEAP.get() {
        return Ok(heap);
    }
    let heap = Heap::new(config)?;
    fork::register()?;
    Ok(HEAP.get_or_init(|| heap))
}

#[inline]
fn heap() -> Result<&'static Heap, AllocError> {
    match HEAP.get() {
        Some(heap) => Ok(heap),
        None => heap_with(Config::default()),
    }
}

/// The first use's errors.
pub(crate) fn ready() -> Result<(), AllocError> {
    heap().map(drop)
}

impl Heap {
    fn new(config: Config) -> Result<Self, AllocError> {
        let backing = config.backing()?;
        Ok(Self {
            config,
            region: Region::reserve(backing).map_err(AllocError::Reserve)?,
            table: Table::new(),
            canary: config::random(),
            pool: Mutex::default(),
        })
    }

    /// The allocation that begins at `address`.
    #[inline]
    fn find(&self, address: usize) -> Result<(&Slab, Kind), Misuse> {
        let foreign = Misuse::Foreign(address);
        let stride = self.region.stride_of(address).ok_or(foreign)?;
        let slab = self.table.get(stride);
        let offset = address.wrapping_sub(self.region.start(stride).as_ptr().addr());
        let kind = slab.kind_at(offset).ok_or(foreign)?;
        Ok((slab, kind))
    }

    #[inline]
    fn canary_of(&self, ptr: NonNull<u8>) -> u64 {
        self.canary ^ ptr.as_ptr().addr() as u64
    }

    /// Makes a free slot an allocation.
    ///
    /// # Safety
    /// `ptr` is a slot that nobody else has, with room for `size` and a canary.
    #[inline]
    unsafe fn take(&self, ptr: NonNull<u8>, size: usize) -> Result<NonNull<u8>, AllocError> {
        let (slab, kind) = self.find(ptr.as_ptr().addr())?;
        if let Kind::Small { slot_size, .. } = kind {
            // SAFETY: the slot is this long, and ours.
            let slot = unsafe { std::slice::from_raw_parts(ptr.as_ptr(), slot_size) };
            if !is_zero(slot) {
                Misuse::WrittenAfterFree(ptr.as_ptr().addr()).stop();
            }
        }
        // SAFETY: the caller's slot has room for the canary behind `size`.
        unsafe { ptr.add(size).cast::<u64>().write_unaligned(self.canary_of(ptr)) };
        slab.state(kind).store(size as u32, Ordering::Release);
        Ok(ptr)
    }

    /// Makes an allocation a zeroed, free slot: finds double frees and overflows.
    ///
    /// # Safety
    /// Nobody uses the allocation any more.
    #[inline]
    unsafe fn give(&self, ptr: NonNull<u8>) -> Result<Kind, Misuse> {
        let address = ptr.as_ptr().addr();
        let (slab, kind) = self.find(address)?;
        let size = slab.state(kind).swap(0, Ordering::AcqRel) as usize;
        if size == 0 {
            return Err(Misuse::DoubleFree(address));
        }
        // SAFETY: a live allocation has a canary behind its size.
        if unsafe { ptr.add(size).cast::<u64>().read_unaligned() } != self.canary_of(ptr) {
            return Err(Misuse::Overflow(address, size));
        }
        // SAFETY: the bytes are those of the allocation.
        unsafe { erase(ptr, size + CANARY) };
        Ok(kind)
    }
}

#[inline]
fn is_zero(slot: &[u8]) -> bool {
    // SAFETY: any bytes are valid integers.
    let (_, words, _) = unsafe { slot.align_to::<u64>() };
    words.iter().fold(0, |sum, word| sum | word) == 0
}

/// Zeroes memory in a way that the compiler keeps.
///
/// # Safety
/// The bytes may be written.
#[inline]
unsafe fn erase(ptr: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr.write_bytes(0, len) };
    // The pointer escapes, so the writes are seen by whoever may read through it.
    std::hint::black_box(ptr);
    compiler_fence(Ordering::SeqCst);
}

/// Allocates `size` zeroed bytes of secret memory, aligned to 16.
///
/// # Errors
/// [`AllocError`]; never ordinary memory, unless [`Config::fallback`] allows it.
///
/// ```
/// let key = secretmem::alloc(32)?;
/// // SAFETY: the allocation is ours, and freed once.
/// unsafe { secretmem::free(key) };
/// # Ok::<(), secretmem::AllocError>(())
/// ```
#[inline]
pub fn alloc(size: usize) -> Result<NonNull<u8>, AllocError> {
    aligned_alloc(16, size)
}

/// Allocates `size` zeroed bytes at a multiple of `align`, a power of two up to 4096.
///
/// # Errors
/// As for [`alloc`].
///
/// ```
/// let page = secretmem::aligned_alloc(4096, 100)?;
/// assert_eq!(page.as_ptr() as usize % 4096, 0);
/// // SAFETY: the allocation is ours, and freed once.
/// unsafe { secretmem::free(page) };
/// # Ok::<(), secretmem::AllocError>(())
/// ```
#[inline]
pub fn aligned_alloc(align: usize, size: usize) -> Result<NonNull<u8>, AllocError> {
    if size == 0 {
        return Err(AllocError::Zero);
    }
    if size > MAX_SIZE {
        return Err(AllocError::TooLarge(size));
    }
    if !align.is_power_of_two() || align > MAX_ALIGN {
        return Err(AllocError::Alignment(align));
    }
    let heap = heap()?;
    let slot = match class::of(size, align) {
        Some(class) => cache::pop(heap, class)?,
        None => cache::inside(heap, |pool| pool.large(heap, size + CANARY)).ok_or(AllocError::Reentered)??,
    };
    // SAFETY: the slot is ours alone, and was chosen for this size.
    unsafe { heap.take(slot, size) }
}

/// Wipes and frees an allocation. Stops the program if it is none, is free already, or was overrun.
///
/// # Safety
/// Nobody uses the allocation any more.
///
/// ```
/// let key = secretmem::alloc(16)?;
/// // SAFETY: the allocation is ours, and freed once.
/// unsafe { secretmem::free(key) };
/// # Ok::<(), secretmem::AllocError>(())
/// ```
#[inline]
pub unsafe fn free(ptr: NonNull<u8>) {
    // SAFETY: the caller's promise.
    if let Err(misuse) = unsafe { try_free(ptr) } {
        misuse.stop();
    }
}

#[inline]
unsafe fn try_free(ptr: NonNull<u8>) -> Result<(), Misuse> {
    let address = ptr.as_ptr().addr();
    let heap = HEAP.get().ok_or(Misuse::Foreign(address))?;
    // SAFETY: the caller's promise.
    match unsafe { heap.give(ptr)? } {
        Kind::Small { class, .. } => cache::push(heap, class, ptr).ok_or(Misuse::Reentered(address)),
        Kind::Large => cache::inside(heap, |pool| pool.drop_large(heap, ptr)).ok_or(Misuse::Reentered(address)),
    }
}

/// Changes an allocation's size: its bytes move, the old ones are wiped, new ones are zero.
///
/// # Errors
/// As for [`alloc`]; the old allocation stays as it is.
///
/// # Safety
/// `ptr` is a live allocation that nobody uses by its old address afterwards.
///
/// ```
/// let key = secretmem::alloc(16)?;
/// // SAFETY: only the new address is used from here on.
/// let key = unsafe { secretmem::realloc(key, 64)? };
/// assert_eq!(secretmem::size_of(key), Some(64));
/// // SAFETY: the allocation is ours, and freed once.
/// unsafe { secretmem::free(key) };
/// # Ok::<(), secretmem::AllocError>(())
/// ```
pub unsafe fn realloc(ptr: NonNull<u8>, size: usize) -> Result<NonNull<u8>, AllocError> {
    let old = size_of(ptr).ok_or(Misuse::Foreign(ptr.as_ptr().addr()))?;
    let new = alloc(size)?;
    // SAFETY: both are live allocations of at least that many bytes.
    unsafe { new.copy_from_nonoverlapping(ptr, old.min(size)) };
    // SAFETY: the caller's promise.
    unsafe { free(ptr) };
    Ok(new)
}

/// Bytes asked for when `ptr` was allocated; none if it is no live allocation of secret memory.
///
/// ```
/// let key = secretmem::alloc(33)?;
/// assert_eq!(secretmem::size_of(key), Some(33));
/// assert_eq!(secretmem::size_of(std::ptr::NonNull::from(&1).cast()), None);
/// // SAFETY: the allocation is ours, and freed once.
/// unsafe { secretmem::free(key) };
/// # Ok::<(), secretmem::AllocError>(())
/// ```
pub fn size_of(ptr: NonNull<u8>) -> Option<usize> {
    let (slab, kind) = HEAP.get()?.find(ptr.as_ptr().addr()).ok()?;
    Some(slab.state(kind).load(Ordering::Acquire) as usize).filter(|size| *size > 0)
}

/// Zeroes an allocation that stays.
///
/// # Errors
/// `ptr` is no live allocation.
///
/// # Safety
/// Nobody else reads or writes the allocation meanwhile.
///
/// ```
/// let key = secretmem::alloc(16)?;
/// // SAFETY: the allocation is ours, and nobody else has its address.
/// unsafe { secretmem::wipe(key)?; secretmem::free(key) };
/// # Ok::<(), secretmem::AllocError>(())
/// ```
pub unsafe fn wipe(ptr: NonNull<u8>) -> Result<(), Misuse> {
    let size = size_of(ptr).ok_or(Misuse::Foreign(ptr.as_ptr().addr()))?;
    // SAFETY: the allocation is this long.
    unsafe { erase(ptr, size) };
    Ok(())
}

/// What is allocated at this moment. It walks over all allocations, so it is for people, not for loops.
///
/// ```
/// let key = secretmem::SecretVec::from_slice(b"0123456789abcdef")?;
/// assert!(secretmem::stats().live_bytes >= key.len());
/// # Ok::<(), secretmem::AllocError>(())
/// ```
pub fn stats() -> Stats {
    HEAP.get().map(Stats::of).unwrap_or_default()
}

#[cfg(test)]
mod tests;
