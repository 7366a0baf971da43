// SPDX-License-Identifier: Apache-2.0
//! OpenSSL's three memory functions (CRYPTO_set_mem_functions(3)).

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};

use error_reporter::Report;

use crate::settings::say;

/// `malloc(size, file, line)`.
pub(crate) unsafe extern "C" fn malloc(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    if size == 0 {
        return ptr::null_mut();
    }
    match secretmem::alloc(size) {
        Ok(ptr) => ptr.as_ptr().cast(),
        Err(error) => {
            refused(&error);
            ptr::null_mut()
        }
    }
}

/// The first refusal is said, with its cause; OpenSSL itself only says that malloc failed.
fn refused(error: &secretmem::AllocError) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        say(format_args!("OpenSSL got no memory: {}", Report::new(error)));
    }
}

/// `realloc(ptr, size, file, line)`.
pub(crate) unsafe extern "C" fn realloc(
    old: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    let Some(ptr) = NonNull::new(old.cast()) else {
        // SAFETY: it takes any size.
        return unsafe { malloc(size, file, line) };
    };
    if size == 0 {
        // SAFETY: OpenSSL gives the allocation up.
        unsafe { free(old, file, line) };
        return ptr::null_mut();
    }
    // SAFETY: OpenSSL passes what it got from here, and uses the new address only.
    match unsafe { secretmem::realloc(ptr, size) } {
        Ok(new) => new.as_ptr().cast(),
        Err(error) => {
            refused(&error);
            ptr::null_mut()
        }
    }
}

/// `free(ptr, file, line)`.
pub(crate) unsafe extern "C" fn free(ptr: *mut c_void, _: *const c_char, _: c_int) {
    if let Some(ptr) = NonNull::new(ptr.cast()) {
        // SAFETY: OpenSSL passes what it got from here, and gives it up.
        unsafe { secretmem::free(ptr) };
    }
}
