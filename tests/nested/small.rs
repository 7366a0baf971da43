// SPDX-License-Identifier: Apache-2.0
//! The patched kernel on a machine so small that a test can take all of its memory.

use anyhow::{Result, ensure};
use secretvmm_tests::host::witness::Witness;
use secretvmm_tests::image_alias::{self, Findings};
use secretvmm_tests::probes::{Verdict, kcore};
use secretvmm_tests::report::figure;

use crate::support::on_clean_host;

/// Frames of a large entry.
const FRAMES_2M: u64 = 512;

#[test]
fn secret_pages_on_frames_of_the_kernels_image_are_read_nowhere() -> Result<()> {
    on_clean_host(|| {
        let image = kcore::image_frames()?;
        let text = image.start..image.start + 64;
        ensure!(kcore::shown_twice(text)? == 64, "INVALID: kcore does not read the kernel's code at its own address");
        let Findings { ordinary, secret } = image_alias::probe()?;
        figure("frames of the kernel's image that ordinary memory got", ordinary.frames, "");
        figure("frames of the kernel's image that secret memory got", secret.frames, "");
        let found = ordinary.tally.canaries();
        ensure!(ordinary.frames > 0 && found == ordinary.frames, "INVALID: kcore found {found} of {ordinary:?}");
        ensure!(secret.frames > 0, "INVALID: the secret memory got no frame of the kernel's image");
        ensure!(secret.tally.verdict() != Verdict::Hit, "{} secret frames: {}", secret.frames, secret.tally);
        Ok(())
    })
}

/// The last large entry that maps the image reaches further than the image does. Nothing shows it but the page tables:
/// kcore ends where the image ends.
#[test]
fn memory_behind_the_kernels_image_is_mapped_only_once() -> Result<()> {
    on_clean_host(|| {
        let witness = Witness::load()?;
        let image = kcore::image_frames()?;
        let text = witness.walk(&[image.start])?;
        ensure!(text.leaves_in("image") == 1, "INVALID: the walk does not find the kernel's code: {text:?}");
        let behind: Vec<u64> = (image.end..image.end.next_multiple_of(FRAMES_2M)).collect();
        ensure!(!behind.is_empty(), "INVALID: the image ends with its last large entry");
        let walk = witness.walk(&behind)?;
        ensure!(walk.leaves_in("direct") > 0, "INVALID: the direct map has nothing of it: {walk:?}");
        ensure!(walk.leaves_in("image") == 0, "Also mapped as part of the image: {walk:?}");
        Ok(())
    })
}
