// SPDX-License-Identifier: Apache-2.0
//! What every command needs: paths, the cache, child processes, progress, initramfs.

pub(crate) mod cache;
pub(crate) mod cargo;
pub(crate) mod initramfs;
pub(crate) mod key;
pub(crate) mod libtest;
pub(crate) mod orphan;
pub(crate) mod paths;
pub(crate) mod process;
pub(crate) mod progress;
pub(crate) mod tool;
