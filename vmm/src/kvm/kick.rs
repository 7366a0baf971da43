// SPDX-License-Identifier: Apache-2.0
//! Getting a vCPU thread out of `KVM_RUN` (or out of a blocked write), without a lost wake-up.
//!
//! The kicker sets `kvm_run.immediate_exit` and then sends a signal. A thread on its way into
//! `KVM_RUN` sees the flag there; a thread inside is interrupted by the signal. The thread clears
//! the flag *before* it asks [`crate::control::Control`] whether to run, so a kick that comes
//! between is not lost.
#![allow(unsafe_code)] // A pointer into kvm_run, and pthread_kill.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::Error;

struct Target {
    thread: libc::pthread_t,
    immediate_exit: NonNull<u8>,
}

// SAFETY: the pointer is only used under Kick's lock, while the thread that owns the vCPU lives.
unsafe impl Send for Target {}

/// The address of one vCPU thread. Empty before the thread has started and after it has ended.
#[derive(Clone, Default)]
pub(super) struct Kick(Arc<Mutex<Option<Target>>>);

/// Makes the calling thread the target until dropped, which must happen before the vCPU is.
pub(super) struct Armed(Kick);

impl Kick {
    pub(super) fn arm(&self, vcpu: &mut VcpuFd) -> Armed {
        let immediate_exit = NonNull::from(&mut vcpu.get_kvm_run().immediate_exit);
        // SAFETY: always succeeds and takes nothing.
        let thread = unsafe { libc::pthread_self() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Target { thread, immediate_exit });
        Armed(self.clone())
    }

    /// Interrupts the thread, if there is one.
    pub(super) fn kick(&self) {
        let target = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(target) = target.as_ref() else { return };
        store(target.immediate_exit, 1);
        // SAFETY: the thread cannot end while we hold the lock that Armed's drop takes.
        unsafe { libc::pthread_kill(target.thread, SIGRTMIN()) };
    }
}

impl Armed {
    /// Forgets the kicks so far. Ask for the command after this, not before.
    pub(super) fn clear(&self) {
        if let Some(target) = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            store(target.immediate_exit, 0);
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn store(flag: NonNull<u8>, value: u8) {
    // SAFETY: the byte lies in the kvm_run mapping of a vCPU that lives as long as its target is
    // armed; kernel and kicker both treat it as one byte that may change at any time.
    unsafe { AtomicU8::from_ptr(flag.as_ptr()) }.store(value, Ordering::SeqCst);
}

/// Makes the kick signal interrupt system calls and do nothing else.
pub fn install_handler() -> Result<(), Error> {
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    register_signal_handler(SIGRTMIN(), nothing).map_err(Error::Signal)
}
