// SPDX-License-Identifier: Apache-2.0
//! The systemd unit leaves the VMM little, by systemd's own measure.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;

/// systemd counts in tenths: 20 is an exposure of 2.0 of 10.
const EXPOSURE: &str = "20";

fn exposure_is_low(unit: &Path) -> Option<bool> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE]).arg(unit);
    analyze.output().ok().map(|output| output.status.success())
}

#[test]
fn unit_file_exposes_little() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/secretvmm@.service");
    let Some(low) = exposure_is_low(&unit) else {
        eprintln!("SKIPPED: systemd-analyze is not installed");
        return;
    };
    assert!(low, "systemd-analyze security --offline=true {}", unit.display());
    // The control: the same program without any of it.
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("secretvmm@.service");
    std::fs::write(&bare, "[Service]\nExecStart=/usr/bin/secretvmm\n").unwrap();
    assert_eq!(exposure_is_low(&bare), Some(false));
}
