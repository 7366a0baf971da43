// SPDX-License-Identifier: Apache-2.0
//! Which versions there are to tell: of the API, and of this program.

/// The Firecracker whose API this is, as `GET /version` and `GET /` say it: clients compare it.
pub(crate) const FIRECRACKER: &str = "1.17.0";

/// What `--version` prints behind the word `Firecracker`.
pub(crate) const LINES: &str = concat!("v1.17.0\n\nsecretvmm ", env!("CARGO_PKG_VERSION"));
