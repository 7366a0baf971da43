// SPDX-License-Identifier: Apache-2.0
//! The C interface of `secretmem`: `secretmem.h` is made from this file by cbindgen, secretmem(3) explains it.
//!
//! Errors are negative numbers of `errno.h`, or NULL; `secretmem_error` has the text of the calling thread's last one.
#![allow(unsafe_code)] // C calls this with raw pointers.
#![allow(non_camel_case_types)] // The names of C.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_uint};
use std::ptr::{self, NonNull};

use error_reporter::Report;
use secretmem::{AllocError, Config, Fork, Mode};

/// A forked child that touches secret memory of its parent is killed by SIGSEGV. The default.
pub const SECRETMEM_FORK_FAULT: c_uint = 0;
/// A forked child finds its parent's allocations zeroed.
pub const SECRETMEM_FORK_WIPED: c_uint = 1;
/// A forked child has a secret copy of its own.
pub const SECRETMEM_FORK_COPY: c_uint = 2;
/// Ordinary locked memory is used, and a line on standard error says so, where the kernel has no secret memory.
pub const SECRETMEM_FALLBACK: c_uint = 0x100;

/// What is allocated at this moment.
#[repr(C)]
pub struct secretmem_stats {
    /// Live allocations.
    pub live: usize,
    /// Bytes that these were asked for with.
    pub live_bytes: usize,
    /// Bytes of pages mapped for them.
    pub mapped_bytes: usize,
    /// Allocations since the start.
    pub allocations: u64,
    /// 1 if the pages are secret memory, 0 if they are ordinary memory, or nothing was allocated yet.
    pub secret: c_int,
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

fn errno(error: &AllocError) -> c_int {
    const ENOSYS: c_int = 38;
    match error {
        AllocError::Unavailable(_) => -ENOSYS,
        AllocError::Zero | AllocError::TooLarge(_) | AllocError::Alignment(_) | AllocError::Huge => -22,
        AllocError::Misuse(_) => -22,
        AllocError::Configured => -114,
        AllocError::Reentered => -35,
        _ => -12,
    }
}

/// Keeps the text for `secretmem_error`.
fn fail(error: &AllocError) -> c_int {
    let text = Report::new(error).to_string();
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = CString::new(text).unwrap_or_default();
        }
    });
    errno(error)
}

fn pointer(result: Result<NonNull<u8>, AllocError>) -> *mut u8 {
    result.map_or_else(
        |error| {
            fail(&error);
            ptr::null_mut()
        },
        NonNull::as_ptr,
    )
}

/// Sets the allocator up: one of SECRETMEM_FORK_*, with SECRETMEM_FALLBACK if wanted. The first allocation does it
/// with 0. Returns 0, -ENOSYS: no secret memory here, -ENOMEM: see `ulimit -l`, -EALREADY: other flags are in force,
/// -EINVAL: unknown flags.
#[unsafe(no_mangle)]
pub extern "C" fn secretmem_init(flags: c_uint) -> c_int {
    let fork = match flags & !SECRETMEM_FALLBACK {
        SECRETMEM_FORK_FAULT => Fork::Fault,
        SECRETMEM_FORK_WIPED => Fork::Wiped,
        SECRETMEM_FORK_COPY => Fork::Copy,
        _ => return -22,
    };
    let config = Config { fork, mode: Mode::empty(), fallback: flags & SECRETMEM_FALLBACK != 0 };
    secretmem::init(config).map_or_else(|error| fail(&error), |()| 0)
}

/// Allocates `size` zeroed bytes at a multiple of 16. NULL: see `secretmem_error`; also for 0 bytes.
#[unsafe(no_mangle)]
pub extern "C" fn secretmem_alloc(size: usize) -> *mut u8 {
    pointer(secretmem::alloc(size))
}

/// Allocates `size` zeroed bytes at a multiple of `align`, a power of two up to 4096.
#[unsafe(no_mangle)]
pub extern "C" fn secretmem_aligned_alloc(align: usize, size: usize) -> *mut u8 {
    pointer(secretmem::aligned_alloc(align, size))
}

/// Changes an allocation's size; the old bytes are wiped if it moves. NULL leaves the allocation as it is. A NULL
/// `ptr` allocates.
///
/// # Safety
/// `ptr` is NULL or a live allocation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn secretmem_realloc(ptr: *mut u8, size: usize) -> *mut u8 {
    match NonNull::new(ptr) {
        None => secretmem_alloc(size),
        // SAFETY: the caller's promise.
        Some(ptr) => pointer(unsafe { secretmem::realloc(ptr, size) }),
    }
}

/// Wipes and frees. NULL does nothing. A pointer that is none, a second free and an overflow abort the program with
/// a line on standard error.
///
/// # Safety
/// `ptr` is NULL or an allocation that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn secretmem_free(ptr: *mut u8) {
    if let Some(ptr) = NonNull::new(ptr) {
        // SAFETY: the caller's promise.
        unsafe { secretmem::free(ptr) };
    }
}

/// Zeroes an allocation that stays. Returns 0, or -EINVAL if `ptr` is none.
///
/// # Safety
/// Nobody reads or writes it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn secretmem_wipe(ptr: *mut u8) -> c_int {
    let Some(ptr) = NonNull::new(ptr) else { return -22 };
    // SAFETY: the caller's promise.
    unsafe { secretmem::wipe(ptr) }.map_or_else(|misuse| fail(&misuse.into()), |()| 0)
}

/// Bytes of a live allocation; 0 if `ptr` is none, so that a program can tell which memory is whose.
#[unsafe(no_mangle)]
pub extern "C" fn secretmem_size(ptr: *const u8) -> usize {
    NonNull::new(ptr.cast_mut()).and_then(secretmem::size_of).unwrap_or(0)
}

/// Fills `*out`. Slow: it walks over all allocations.
///
/// # Safety
/// `out` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn secretmem_get_stats(out: *mut secretmem_stats) {
    let now = secretmem::stats();
    let stats = secretmem_stats {
        live: now.live,
        live_bytes: now.live_bytes,
        mapped_bytes: now.mapped_bytes,
        allocations: now.totals.allocations,
        secret: now.secret.into(),
    };
    if !out.is_null() {
        // SAFETY: the caller's promise.
        unsafe { out.write(stats) };
    }
}

/// The text of this thread's last error; empty before the first. Valid until this thread's next error.
#[unsafe(no_mangle)]
pub extern "C" fn secretmem_error() -> *const c_char {
    LAST.try_with(|last| last.try_borrow().map_or(c"".as_ptr(), |last| last.as_ptr())).unwrap_or(c"".as_ptr())
}
