// SPDX-License-Identifier: Apache-2.0
//! Harness for tests that run real guests on a real, nested host.
//!
//! Everything here runs *inside* the nested host that `cargo xtask host` boots, as root: [`guest`] starts `secretvmm`
//! and talks to its serial console, [`host`] asks the host's kernel what it knows, and [`probes`] try to read guest
//! memory from outside the guest. A test that expects a refusal runs the same probe against an ordinary guest first,
//! where it must find the canary.

pub mod agent;
pub mod area;
pub mod artifacts;
pub mod bench;
pub mod bus_error;
pub mod console;
pub mod evidence;
pub mod guest;
pub mod holder;
pub mod host;
pub mod image_alias;
pub mod initrd;
pub mod inject;
pub mod matrix;
pub mod network;
pub mod probes;
pub mod race;
pub mod report;
pub mod residues;
pub mod secret;
pub mod sys;
pub mod toy;
pub mod tracee;
pub mod vsock;
