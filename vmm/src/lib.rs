// SPDX-License-Identifier: Apache-2.0
//! A KVM virtual machine monitor whose guests live in memory hidden from the host kernel.
//!
//! The way of a VM, top to bottom:
//!
//! ```text
//! cli, file or request → VmConfig → Controller → preflight → builder → Vmm → event_loop → exit code
//! ```
//!
//! One thread a vCPU runs the guest and handles its own exits (vCPU → bus → device); the main
//! thread waits for requests, terminal, signals, devices and the VM's end.

// What is `pub` belongs to its module's interface; the crate's own is small, so that the compiler finds dead code.
#![allow(unreachable_pub)]
// They wait for whoever reads, and panic when nobody does.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod arch;
mod attestation;
mod builder;
mod bus;
pub mod cli;
mod config;
mod control;
mod controller;
mod devices;
mod event_loop;
mod kvm;
mod layout;
mod limits;
mod lines;
mod loader;
mod logger;
mod memory;
mod metrics;
mod mmds;
mod outcome;
mod preflight;
mod program;
mod requests;
mod sandbox;
mod signals;
mod terminal;
mod version;
mod vmm;

pub use program::run;
