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

// They wait for whoever reads, and panic when nobody does.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod arch;
pub mod attestation;
pub mod builder;
pub mod bus;
pub mod cli;
pub mod config;
pub mod control;
pub mod controller;
pub mod devices;
pub mod event_loop;
pub mod kvm;
pub mod limits;
pub mod lines;
pub mod loader;
pub mod logger;
pub mod memory;
pub mod metrics;
pub mod mmds;
pub mod outcome;
pub mod preflight;
pub mod requests;
pub mod sandbox;
pub mod signals;
pub mod terminal;
pub mod vmm;

pub use config::VmConfig;
