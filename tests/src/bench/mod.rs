// SPDX-License-Identifier: Apache-2.0
//! Figures of the kernel series and of VMMs, measured inside a nested host and printed as rows for `cargo xtask bench`.
//!
//! - [`memory::Memory`] is what is measured: 2 MiB-aligned memory of one [`memory::MemoryKind`], filled and given back;
//! - [`held`] measures what 2 GiB of it do to the host: direct map, TLB flushes, stage 2 of a guest, work beside it;
//! - [`speed`] measures how long 1 GiB of it takes to come and to go;
//! - [`work`] is the work beside it;
//! - [`vmm`] measures a VMM.

pub mod flushes;
pub mod held;
pub mod memory;
pub mod row;
pub mod speed;
pub mod stage2;
pub mod vmm;
pub mod work;
