// SPDX-License-Identifier: Apache-2.0
//! Builds the guest: a program without an operating system, for the processor that the VMM runs on.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=guest");
    let guest = env::current_dir()?.join("guest");
    let to = PathBuf::from(env::var("OUT_DIR")?).join("guest");
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc.args(["--edition", "2024", "--crate-name", "guest", "-O", "-D", "warnings"]).arg(guest.join("main.rs"));
    rustc.args(["-C", "panic=abort", "-C", "code-model=kernel", "-C", "relocation-model=static"]);
    let script = format!("link-arg=-Wl,-T{},--build-id=none", guest.join("guest.ld").display());
    // core was built to unwind; nothing here does.
    let personality = "link-arg=-Wl,--defsym=rust_eh_personality=0";
    let link =
        [script.as_str(), personality, "link-arg=-nostdlib", "link-arg=-static", "link-arg=-no-pie", "strip=symbols"];
    link.iter().for_each(|argument| _ = rustc.args(["-C", argument]));
    match rustc.arg("-o").arg(to).status()?.success() {
        true => Ok(()),
        false => Err("The hostile guest does not build".into()),
    }
}
