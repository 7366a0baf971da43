// SPDX-License-Identifier: Apache-2.0
//! A C program uses the library, and the header and the list of versioned symbols name all of it.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("../src/lib.rs");
const HEADER: &str = include_str!("../secretmem.h");
const SYMBOLS: &str = include_str!("../secretmem.map");

#[test]
fn header_and_symbols_name_every_function() {
    let names = SOURCE.lines().filter_map(|line| line.split_once("extern \"C\" fn ")?.1.split_once('('));
    let names = names.map(|(name, _)| name).collect::<Vec<_>>();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(HEADER.contains(&format!("{name}(")), "`make header` was not run for {name}");
        assert!(SYMBOLS.contains(&format!(" {name};")), "{name} has no version");
    }
}

/// The static library, which Cargo does not build for tests by itself.
fn library() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--lib", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    assert!(cargo.status().unwrap().success());
    let exe = std::env::current_exe().unwrap();
    exe.ancestors().nth(2).unwrap().join("libsecretmem_c.a")
}

fn compile(dir: &Path) -> PathBuf {
    let program = dir.join("check");
    let mut cc = Command::new("cc");
    cc.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I."]);
    cc.arg("tests/check.c").arg(library()).args(["-lgcc_s", "-lpthread", "-lm", "-ldl", "-lc", "-o"]).arg(&program);
    assert!(cc.status().unwrap().success());
    program
}

#[test]
fn c_program_allocates_and_is_stopped_on_misuse() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Command::new(compile(dir.path())).status().unwrap().success());
}
