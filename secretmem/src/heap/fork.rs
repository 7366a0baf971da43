// SPDX-License-Identifier: Apache-2.0
//! What a forked child gets.
//!
//! Pages are kept out of every child (`MADV_DONTFORK`). Before a fork the parent makes copies where
//! children get them; the child moves these to where its pointers lead, and the parent drops them.
//! All of it happens under the heap's lock.
#![allow(unsafe_code)] // pthread_atfork(3), and canaries in a wiped child.

use std::cell::RefCell;
use std::io;
use std::ptr::NonNull;
use std::sync::MutexGuard;

use super::pool::Pool;
use super::region::Region;
use super::{AllocError, Fork, HEAP, Heap, cache, say};

/// Pages on their way into a child.
struct Passed {
    stride: usize,
    len: usize,
    copy: Option<NonNull<u8>>,
}

/// What the thread that forks holds meanwhile.
struct Forking {
    heap: &'static Heap,
    pool: MutexGuard<'static, Pool>,
    passed: Vec<Passed>,
}

thread_local! {
    static FORKING: RefCell<Option<Forking>> = const { RefCell::new(None) };
}

#[cfg(miri)]
pub(super) fn register() -> Result<(), AllocError> {
    Ok(())
}

#[cfg(not(miri))]
pub(super) fn register() -> Result<(), AllocError> {
    // SAFETY: the handlers live as long as the program, as this library is never unloaded.
    match unsafe { pthread_atfork(Some(prepare), Some(parent), Some(child)) } {
        0 => Ok(()),
        code => Err(AllocError::Atfork(io::Error::from_raw_os_error(code))),
    }
}

type Handler = Option<unsafe extern "C" fn()>;

unsafe extern "C" {
    // libc does not declare it for Linux.
    fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> libc::c_int;
}

unsafe extern "C" fn prepare() {
    let Some(heap) = HEAP.get() else { return };
    if cache::is_inside() {
        return say(format_args!("A signal handler forked inside the allocator; the child sees no secret memory"));
    }
    let pool = heap.lock_inside();
    let passed = pool.mapped().map(|(stride, len, used)| Passed { stride, len, copy: copy(heap, stride, len, used) });
    let passed = passed.collect();
    FORKING.set(Some(Forking { heap, pool, passed }));
}

fn copy(heap: &Heap, stride: usize, len: usize, used: usize) -> Option<NonNull<u8>> {
    let used = match heap.config.fork {
        Fork::Fault => return None,
        Fork::Wiped => 0,
        Fork::Copy => used,
    };
    let copy = heap.region.copy(stride, len, used);
    copy.inspect_err(|error| say(format_args!("A child will see no secret memory, as it cannot be copied: {error}")))
        .ok()
}

unsafe extern "C" fn parent() {
    let Some(forking) = FORKING.take() else { return };
    for passed in &forking.passed {
        if let Some(copy) = passed.copy {
            Region::drop_copy(copy, passed.len);
        }
    }
}

unsafe extern "C" fn child() {
    let Some(mut forking) = FORKING.take() else { return };
    let heap = forking.heap;
    let mut whole = true;
    for passed in &forking.passed {
        whole &= adopt(heap, passed);
    }
    if !whole {
        forking.pool.forget();
        cache::forget();
    }
}

/// Whether the child has the stride. If not, its addresses fault, and nothing else is mapped there.
fn adopt(heap: &Heap, passed: &Passed) -> bool {
    let adopted = passed.copy.is_some_and(|copy| heap.region.adopt(passed.stride, copy, passed.len).is_ok());
    if !adopted {
        let _ = heap.region.unmap(passed.stride, passed.len);
    } else if heap.config.fork == Fork::Wiped {
        sign(heap, passed.stride);
    }
    adopted
}

/// Wiped allocations get their canaries again, so that they can be freed.
fn sign(heap: &Heap, stride: usize) {
    for (offset, size) in heap.table.get(stride).live() {
        // SAFETY: a live allocation lies there, with a canary behind its size, and the child has one thread.
        unsafe {
            let ptr = heap.region.start(stride).add(offset);
            ptr.add(size).cast::<u64>().write_unaligned(heap.canary_of(ptr));
        }
    }
}
