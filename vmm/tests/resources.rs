// SPDX-License-Identifier: Apache-2.0
//! The man page and the shell completions under resources/ are made from the command line's definition.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use secretvmm::cli::Cli;

/// The command line, with this program's own name and version.
fn command() -> Command {
    Cli::command().display_name("secretvmm").version(env!("CARGO_PKG_VERSION"))
}

/// Compares, or writes with `UPDATE=1`.
fn check(name: &str, made: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources").join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
    }
    let there = fs::read(&path).unwrap_or_default();
    assert!(
        there == made,
        "resources/{name} is not of this command line; UPDATE=1 cargo test -p secretvmm --test resources"
    );
}

#[test]
fn man_page_is_of_this_command_line() {
    let mut page = Vec::new();
    clap_mangen::Man::new(command()).render(&mut page).unwrap();
    check("man/secretvmm.1", &page);

    let mut command = command();
    command.build();
    for command in command.get_subcommands() {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).unwrap();
        check(&format!("man/secretvmm-{}.1", command.get_name()), &page);
    }
}

#[test]
fn completions_are_of_this_command_line() {
    for (shell, name) in [(Shell::Bash, "secretvmm.bash"), (Shell::Zsh, "_secretvmm"), (Shell::Fish, "secretvmm.fish")]
    {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "secretvmm", &mut script);
        check(&format!("completions/{name}"), &script);
    }
}
