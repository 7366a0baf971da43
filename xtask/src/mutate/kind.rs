// SPDX-License-Identifier: Apache-2.0
//! What can be mutated.

use clap::ValueEnum;

/// What is mutated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The package that makes and judges tokens, by cargo-mutants.
    Verifier,
    /// The VMM's guards that tests without a VM see, by cargo-mutants.
    Vmm,
    /// The host's kernel with the series.
    Kernel,
}
