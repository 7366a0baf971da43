// SPDX-License-Identifier: Apache-2.0
//! What the nested host's kernel knows and says.

pub mod direct_map;
pub mod fdinfo;
pub mod jit;
pub mod kernel_log;
pub mod numa;
pub mod page_tables;
pub mod physical;
pub mod process;
pub mod stage2;
pub mod trace;
pub mod witness;
