// SPDX-License-Identifier: Apache-2.0
//! The release build under hostile guests, on this machine's own KVM: ordinary memory is fair for that.

use std::path::Path;

use anyhow::Result;

use super::{Suite, cargo_test};
use crate::support::cargo::build_release;
use crate::support::libtest::Counts;
use crate::support::paths::Paths;

/// The suite's name.
pub(super) const HOSTILE: &str = "hostile";

pub(super) fn run(paths: &Paths) -> Result<Suite> {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("xtask: suite {HOSTILE} is skipped: this machine has no /dev/kvm");
        let counts = Counts { skipped: 1, ..Counts::default() };
        return Ok(Suite { name: HOSTILE.into(), counts, ..Suite::default() });
    }
    build_release(paths)?;
    eprintln!("xtask: suite {HOSTILE}");
    cargo_test(paths, HOSTILE, |command| {
        command.args(["--package", "secretvmm-hostile", "--test", "hostile"]);
        command.env("SECRETVMM", paths.release().join("secretvmm"));
    })
}
