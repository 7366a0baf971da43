// SPDX-License-Identifier: Apache-2.0
//! Preloaded into a program, this puts all that OpenSSL allocates into secret memory.
//!
//! `secretmem-run` sets it up. By hand: `LD_PRELOAD=libsecretmem_openssl.so PROGRAM`, and in the environment
//!
//! - `SECRETMEM_REQUIRE=1`: stop, with a line that says why, where this does not work;
//! - `SECRETMEM_FALLBACK=1`: use ordinary memory, and say so, where the kernel has no secret memory;
//! - `SECRETMEM_FORK=copy|wiped|fault`: what forked children see; a copy of their own by default, as servers need;
//! - `SECRETMEM_STATS=1`: print statistics at exit, in each process.
#![allow(unsafe_code)] // A C library's constructor and callbacks.

use error_reporter::Report;

mod crypto;
mod memory;
mod settings;

use settings::{Settings, say};

/// Run by the dynamic linker before the program, but after other libraries, one of which may have used OpenSSL.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = construct;

extern "C" fn construct() {
    let settings = Settings::from_environment();
    if let Err(why) = start(&settings) {
        settings.fail(&why);
    }
    if settings.stats {
        // SAFETY: the handler lives as long as the program, as this library is never unloaded.
        unsafe { libc::atexit(at_exit) };
    }
}

fn start(settings: &Settings) -> Result<(), String> {
    secretmem::init(settings.config).map_err(|error| Report::new(error).to_string())?;
    crypto::redirect()
}

extern "C" fn at_exit() {
    let stats = secretmem::stats();
    say(format_args!(
        "process {}: {} live allocations of {} bytes, {} KiB of {} memory, {} allocations since the start{}",
        std::process::id(),
        stats.live,
        stats.live_bytes,
        stats.mapped_bytes / 1024,
        if stats.secret { "secret" } else { "ordinary" },
        stats.totals.allocations,
        if crypto::is_redirected() { "" } else { "; OpenSSL uses another allocator now" },
    ));
}
