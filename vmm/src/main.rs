// SPDX-License-Identifier: Apache-2.0
//! `secretvmm`: see the library's `program`.

use std::process::ExitCode;

fn main() -> ExitCode {
    secretvmm::run()
}
