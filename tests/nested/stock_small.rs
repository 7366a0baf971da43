// SPDX-License-Identifier: Apache-2.0
//! Debian's kernel on a small machine: where the alias of the kernel's image does show secret memory.

use anyhow::{Result, ensure};
use secretvmm_tests::image_alias;
use secretvmm_tests::report::figure;

use crate::support::on_clean_host;

#[test]
fn secret_pages_on_frames_of_the_kernels_image_are_read_at_its_address() -> Result<()> {
    on_clean_host(|| {
        let secret = image_alias::probe()?.secret;
        figure("frames of the kernel's image that secret memory got", secret.frames, "");
        figure("of these, read through the kernel's image", secret.tally.canaries(), "");
        // What the direct map shows of them are zeros: a canary comes through the image.
        ensure!(secret.tally.canaries() > 0, "{} secret frames: {}", secret.frames, secret.tally);
        Ok(())
    })
}
