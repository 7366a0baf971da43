//! The patched kernel with the lab configuration.

mod boot;
mod devices;
mod ending;
mod figures;
mod hidden;
mod pages;
mod preflight;
mod selftests;
mod terminal;
