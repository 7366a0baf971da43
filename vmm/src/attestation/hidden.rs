// SPDX-License-Identifier: Apache-2.0
//! The key while nobody signs: once, in secret memory.

use std::path::Path;

use secretmem::SecretBox;
use secretvmm_evidence::PrivateKey;
use zeroize::{Zeroize, Zeroizing};

use super::{Error, key};

/// More stack than reading a key or signing takes.
const STACK: usize = 64 << 10;

/// A key that signs. Its 32 bytes are where the kernel's direct map does not reach.
#[derive(Debug)]
pub(super) struct HiddenKey(SecretBox<[u8; 32]>);

impl HiddenKey {
    /// The key in a file, which is made if there is none.
    ///
    /// # Errors
    /// As [`super::Attestor::open`]
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        leaving_nothing(|| {
            let mut seed = key::open_or_create(path)?.to_seed();
            Ok(Self(SecretBox::take(&mut *seed)?))
        })
    }

    /// Lends the key to somebody who signs with it now.
    pub(super) fn lend<T>(&self, sign: impl FnOnce(&PrivateKey) -> T) -> T {
        leaving_nothing(|| sign(&PrivateKey::from_seed(&Zeroizing::new(*self.0))))
    }
}

/// Wipes the stack that something has used. What it has on the heap it wipes itself.
fn leaving_nothing<T>(act: impl FnOnce() -> T) -> T {
    let result = apart(act);
    wipe();
    result
}

/// With a frame of its own, where [`wipe`] has its own next.
#[inline(never)]
fn apart<T>(act: impl FnOnce() -> T) -> T {
    act()
}

#[inline(never)]
fn wipe() {
    let mut used = [0_u8; STACK];
    used.zeroize();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lent_key_is_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let hidden = HiddenKey::open(&path).unwrap();
        assert_eq!(hidden.lend(PrivateKey::public), key::open(&path).unwrap().public());
        assert!(!format!("{hidden:?}").contains(char::is_numeric));
    }
}
