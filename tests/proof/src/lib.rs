// SPDX-License-Identifier: Apache-2.0
//! The witness outside: reads a dump of a host's whole memory, taken by whatever runs the host, and says where a guest
//! is in it and which page tables reach it. It asks nothing of the host, and needs neither symbols nor addresses.
//!
//! The guest is found by its canaries (`secretvmm-canary`), the rest of its RAM by the nested page tables that lead to
//! them, and the host's own page tables by their shape. What counts is what a CPU can reach from a root; words that
//! merely look like entries are everywhere.

pub mod dump;
pub mod examine;
pub mod guest;
pub mod map;
pub mod memory;
pub mod orders;
pub mod paging;
pub mod roots;
pub mod verdict;
