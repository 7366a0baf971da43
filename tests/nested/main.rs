// SPDX-License-Identifier: Apache-2.0
//! Suites that run inside the nested host: `cargo xtask test` boots a host per suite and runs its module there.
//!
//! What each host is stands in ARCHITECTURE.md, and in `cargo xtask test --help`.

mod debug;
mod devices;
mod disabled;
mod lab;
mod matrix;
mod matrix_full;
mod matrix_policy;
mod matrix_policy_full;
mod numa;
mod pool;
mod pool_forms;
mod pool_stale;
mod shipped;
mod small;
mod stock;
mod stock_small;
mod support;
