// SPDX-License-Identifier: Apache-2.0
//! The patched kernel with secret memory switched off on its command line.

use anyhow::Result;

use crate::support::{assert_preflight_refuses, on_clean_host, own_guest};

#[test]
fn secretvmm_refuses_and_names_the_parameter() -> Result<()> {
    on_clean_host(|| assert_preflight_refuses(&own_guest()?, &["secretmem.enable"]))
}
