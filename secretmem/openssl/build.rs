// SPDX-License-Identifier: Apache-2.0
//! How the preload library is linked.

fn main() {
    // It needs libcrypto, so that a program that loads it later finds it loaded. It is never unloaded.
    let flags = ["-Wl,-z,nodelete", "-Wl,--push-state,--no-as-needed", "-l:libcrypto.so.3", "-Wl,--pop-state"];
    for flag in flags {
        println!("cargo:rustc-cdylib-link-arg={flag}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
