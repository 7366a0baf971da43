//! Suites that run inside the nested host: `cargo xtask test` boots a host per suite and runs its module there.
//!
//! - [`lab`]: the patched kernel with everything that could read guest memory;
//! - [`shipped`]: the patched kernel as operators configure it;
//! - [`disabled`]: the patched kernel, started with `secretmem.enable=0`;
//! - [`stock`]: Debian's own kernel, without the series.

mod disabled;
mod lab;
mod shipped;
mod stock;
mod support;
