// SPDX-License-Identifier: Apache-2.0
//! What a forked child sees, each policy in a process of its own: the first use fixes it.
#![allow(unsafe_code, clippy::unwrap_used)] // fork(2) and raw allocations.

use std::process::Command;

use secretmem::{Config, Fork};

/// How a child ended: its exit code, or 128 and the signal.
fn forked(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only computes and ends.
    match unsafe { libc::fork() } {
        0 => {
            let code = body();
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: the status is ours.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
        }
    }
}

/// Runs the test `name` of this file in a process of its own.
fn alone(name: &str) {
    let exe = std::env::current_exe().unwrap();
    let status = Command::new(exe).args(["--exact", name, "--ignored", "--test-threads=1"]).status().unwrap();
    assert!(status.success(), "{name}");
}

#[test]
fn each_policy_holds() {
    alone("fault");
    alone("wiped");
    alone("copy");
}

fn begin(fork: Fork) -> (*mut u8, *mut u8) {
    secretmem::init(Config { fork, ..Config::default() }).unwrap();
    let (small, large) = (secretmem::alloc(32).unwrap().as_ptr(), secretmem::alloc(100_000).unwrap().as_ptr());
    // SAFETY: both are ours and this long.
    unsafe {
        small.write_bytes(7, 32);
        large.write_bytes(7, 100_000);
    }
    (small, large)
}

fn free(ptr: *mut u8) {
    // SAFETY: each is freed once by each process.
    unsafe { secretmem::free(std::ptr::NonNull::new(ptr).unwrap()) };
}

#[test]
#[ignore = "run by each_policy_holds, in a process of its own"]
fn fault() {
    let (small, large) = begin(Fork::Fault);
    for ptr in [small, large] {
        // SAFETY: the child is meant to end here.
        assert_eq!(forked(|| unsafe { ptr.read_volatile() }.into()), 128 + libc::SIGSEGV);
    }
    let new = forked(|| i32::from(secretmem::SecretVec::from_slice(&[1u8; 64]).unwrap()[0]));
    assert_eq!(new, 1, "a child allocates for itself");
    free(small);
}

#[test]
#[ignore = "run by each_policy_holds, in a process of its own"]
fn wiped() {
    let (small, large) = begin(Fork::Wiped);
    let child = forked(|| {
        // SAFETY: both are mapped.
        let sum = unsafe { small.read_volatile() + large.add(99_999).read_volatile() };
        free(small);
        free(large);
        sum.into()
    });
    assert_eq!(child, 0);
    // SAFETY: both are ours.
    assert_eq!(unsafe { (small.read(), large.read()) }, (7, 7), "the parent keeps its own");
}

#[test]
#[ignore = "run by each_policy_holds, in a process of its own"]
fn copy() {
    let (small, large) = begin(Fork::Copy);
    let child = forked(|| {
        // A grandchild, as of a server that forks twice.
        forked(|| {
            // SAFETY: both are mapped.
            let sum = unsafe { small.read_volatile() + large.add(99_999).read_volatile() };
            // SAFETY: as above.
            unsafe { small.write_volatile(1) };
            free(large);
            sum.into()
        })
    });
    assert_eq!(child, 14);
    // SAFETY: both are ours.
    assert_eq!(unsafe { (small.read(), large.read()) }, (7, 7), "the parent keeps its own");
    free(small);
    free(large);
}
