// SPDX-License-Identifier: Apache-2.0
//! Every source file says under which licence it is, in its first line (https://spdx.dev, "License IDs").

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::support::libtest::Counts;
use crate::support::paths::Paths;
use crate::support::process;
use crate::test::Suite;

/// Sources, by what their names end with.
const SOURCES: [&str; 5] = ["*.rs", "*.sh", "*.py", "*.c", "*.h"];

/// A module for the kernel.
const MODULE: &str = "tests/witness/";

/// Patches and fragments for the kernel, and what belongs to them.
const EXEMPT: &str = "kernel-patches/";

/// Looks at all files that git knows; names those without the line.
pub(super) fn check(paths: &Paths) -> Result<Suite> {
    let mut git = Command::new("git");
    let files = process::output(git.args(["ls-files", "--"]).args(SOURCES).current_dir(&paths.repo))?;
    let mut all = true;
    for file in files.lines().filter(|file| !file.starts_with(EXEMPT)) {
        let licence = if file.starts_with(MODULE) { "GPL-2.0-only" } else { "Apache-2.0" };
        let named = names(&read(&paths.repo.join(file))?, licence);
        if !named {
            println!("{file}: no line \"SPDX-License-Identifier: {licence}\" at its top");
        }
        all &= named;
    }
    let mut counts = Counts::default();
    counts.add(all);
    Ok(Suite { name: "spdx".into(), counts, ..Suite::default() })
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("Cannot read {}", file.display()))
}

/// Whether the first line, or the one after the interpreter's, is a comment that names the licence.
fn names(text: &str, licence: &str) -> bool {
    let comment = ["// ", "# ", "/* "].map(|start| format!("{start}SPDX-License-Identifier: {licence}"));
    let first = text.lines().find(|line| !line.starts_with("#!/")).unwrap_or_default();
    comment.iter().any(|comment| first.trim_end_matches(" */") == comment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wants_the_line_at_the_top_and_the_right_licence() {
        let line = "// SPDX-License-Identifier: Apache-2.0\n";
        assert!(names(line, "Apache-2.0") && names("/* SPDX-License-Identifier: GPL-2.0-only */\n", "GPL-2.0-only"));
        assert!(names("#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n", "Apache-2.0"));
        for bad in ["", "//! Text.\n", &format!("\n{line}"), &line.replace("Apache-2.0", "GPL-2.0"), "#!/bin/sh\n"] {
            assert!(!names(bad, "Apache-2.0"), "{bad:?}");
        }
    }
}
