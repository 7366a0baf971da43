// SPDX-License-Identifier: Apache-2.0
//! What the VMM's threads give up before guest code runs: system calls, files and
//! capabilities that they do not need.
//!
//! ```text
//! main ──> Start's filter ──> VM built ──> files ──> vCPU threads start ──> Main confined ──> guest runs
//!                                                         └─> Vcpu confined ──> wait ────────────┘
//! api  ──> Api confined ──> first client
//! ```
//!
//! A forbidden call is not made: the kernel sends SIGSYS instead, which ends the process with a line
//! that names the call ([`crate::signals`]) and exit code 148, as in Firecracker.

mod bpf;
mod error;
mod files;
mod filter;
mod landlock;
mod layers;
mod policy;
mod process;
mod seccomp;
mod speculation;

pub use error::Error;
pub use files::{Files, anywhere};
pub use filter::Thread;
pub use layers::Sandbox;
pub use process::harden;

#[cfg(test)]
mod tests;
