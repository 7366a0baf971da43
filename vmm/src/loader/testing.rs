// SPDX-License-Identifier: Apache-2.0
//! What the tests of both image formats share.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use vmm_sys_util::tempfile::TempFile;

use super::{Error, Kernel};

/// Opens a kernel file with these bytes.
pub(super) fn open(bytes: &[u8]) -> Result<Kernel, Error> {
    let file = TempFile::new().unwrap();
    file.as_file().write_all(bytes).unwrap();
    Kernel::open(file.as_path())
}

/// Opens `image` with `value` written over what is at `offset`.
pub(super) fn open_patched(mut image: Vec<u8>, offset: usize, value: &[u8]) -> Result<Kernel, Error> {
    image[offset..offset + value.len()].copy_from_slice(value);
    open(&image)
}
