//! The patched kernel with the lab configuration.

mod boot;
mod ending;
mod figures;
mod hidden;
mod preflight;
mod terminal;
