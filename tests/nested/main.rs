//! Suites that run inside the nested host: `cargo xtask test` boots a host per suite and runs its module there.
//!
//! - [`lab`]: the patched kernel with everything that could read guest memory;
//! - [`pool`]: the patched kernel with a pool reserved at boot;
//! - [`shipped`]: the patched kernel as operators configure it;
//! - [`disabled`]: the patched kernel, started with `secretmem.enable=0`;
//! - [`debug`]: the lab's kernel with KASAN, lockdep and kmemleak (`--full`), which runs the lab's suite too;
//! - [`stock`]: Debian's own kernel, without the series.

mod debug;
mod disabled;
mod lab;
mod pool;
mod shipped;
mod stock;
mod support;
