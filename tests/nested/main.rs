//! Suites that run inside the nested host: `cargo xtask test` boots a host per suite and runs its module there.
//!
//! - [`lab`]: the patched kernel with everything that could read guest memory;
//! - [`devices`]: the same, for disks, networks, sockets and the API; those with whole distributions and a public client
//!   with `--full`;
//! - [`pool`]: the patched kernel with a pool reserved at boot;
//! - [`pool_forms`]: the same on two nodes, with every form of the parameter that reserves it;
//! - [`pool_stale`]: the same on a machine whose memory is full of what was there before;
//! - [`matrix`]: the lab's kernel on two nodes with a pool, for every probe there is;
//! - [`matrix_policy`]: the same with yama's `ptrace_scope` at 3;
//! - [`matrix_full`] and [`policy_full`]: both at more moments (`--full`);
//! - [`shipped`]: the patched kernel as operators configure it;
//! - [`disabled`]: the patched kernel, started with `secretmem.enable=0`;
//! - [`debug`]: the lab's kernel with KASAN, lockdep and kmemleak (`--full`), which runs the lab's suite too;
//! - [`numa`]: the patched kernel on two nodes (`--full`), which runs the lab's suite too;
//! - [`small`]: the patched kernel with 512 MiB;
//! - [`stock`]: Debian's own kernel, without the series;
//! - [`stock_small`]: the same with 512 MiB.

mod debug;
mod devices;
mod disabled;
mod lab;
mod matrix;
mod matrix_full;
mod matrix_policy;
mod numa;
mod policy_full;
mod pool;
mod pool_forms;
mod pool_stale;
mod shipped;
mod small;
mod stock;
mod stock_small;
mod support;
