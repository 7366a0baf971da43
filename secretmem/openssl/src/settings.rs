// SPDX-License-Identifier: Apache-2.0
//! What the environment asks for.

use std::fmt::Arguments;
use std::io::Write;

use secretmem::{Config, Fork, Mode};

/// The variables `SECRETMEM_*`.
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) require: bool,
    pub(crate) stats: bool,
}

impl Settings {
    pub(crate) fn from_environment() -> Self {
        let fork = match std::env::var("SECRETMEM_FORK").as_deref() {
            Ok("fault") => Fork::Fault,
            Ok("wiped") => Fork::Wiped,
            Ok("copy") | Err(_) => Fork::Copy,
            Ok(other) => {
                say(format_args!("SECRETMEM_FORK={other} is not known; use copy, wiped or fault"));
                std::process::exit(1)
            }
        };
        let config = Config { fork, mode: Mode::empty(), fallback: is_set("SECRETMEM_FALLBACK") };
        Self { config, require: is_set("SECRETMEM_REQUIRE"), stats: is_set("SECRETMEM_STATS") }
    }

    /// OpenSSL's memory is not secret: said, and with `SECRETMEM_REQUIRE=1` the end.
    pub(crate) fn fail(&self, why: &str) {
        if self.require {
            say(format_args!("{why}; stopped, as SECRETMEM_REQUIRE=1 wants it"));
            std::process::exit(1);
        }
        say(format_args!("{why}; OpenSSL uses ordinary memory"));
    }
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "1")
}

/// A line on standard error; a closed one is no reason to fail.
pub(crate) fn say(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "secretmem: {text}");
}
