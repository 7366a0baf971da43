// SPDX-License-Identifier: Apache-2.0
//! What the VMM's threads give up before guest code runs: system calls that they do not need.
//!
//! ```text
//! main ──> VM built ──> vCPU threads start ──> Main's filter ──> guest runs
//!                            └─> Vcpu's filter ──> wait ────────────┘
//! api  ──> Api's filter ──> first client
//! ```
//!
//! A forbidden call is not made: the kernel sends SIGSYS instead, which ends the process with a line
//! that names the call ([`crate::signals`]) and exit code 148, as in Firecracker.

mod filter;
mod policy;
mod process;
mod seccomp;

pub use filter::Thread;
pub use process::harden;
pub use seccomp::{Error, Seccomp};

#[cfg(test)]
mod tests;
