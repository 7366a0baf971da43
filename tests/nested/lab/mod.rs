// SPDX-License-Identifier: Apache-2.0
//! The patched kernel with the lab configuration.

mod attest;
mod boot;
mod ending;
mod figures;
mod hibernation;
mod hidden;
pub(crate) mod jail;
mod limits;
mod moments;
mod offline;
mod pages;
pub(crate) mod poison;
mod preflight;
pub(crate) mod race;
mod sandbox;
mod selftests;
mod terminal;
mod tracing;
