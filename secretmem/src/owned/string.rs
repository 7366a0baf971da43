// SPDX-License-Identifier: Apache-2.0
//! Text.
#![allow(unsafe_code)] // Bytes that are known to be UTF-8.

use std::fmt;
use std::ops::Deref;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::SecretVec;
use crate::AllocError;

/// Text in secret memory, such as a passphrase. `Debug` does not show it.
///
/// ```
/// let phrase = secretmem::SecretString::from_text("open sesame")?;
/// assert!(phrase.starts_with("open"));
/// assert_eq!(format!("{phrase:?}"), "SecretString(hidden)");
/// # Ok::<(), secretmem::AllocError>(())
/// ```
#[derive(Default)]
pub struct SecretString(SecretVec<u8>);

impl SecretString {
    /// A copy of a text.
    ///
    /// # Errors
    /// There is no secret memory for it.
    ///
    /// ```
    /// assert_eq!(&*secretmem::SecretString::from_text("a")?, "a");
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn from_text(text: &str) -> Result<Self, AllocError> {
        SecretVec::from_slice(text.as_bytes()).map(Self)
    }

    /// Appends a text.
    ///
    /// # Errors
    /// There is no secret memory for it; all stays as it is.
    ///
    /// ```
    /// let mut phrase = secretmem::SecretString::default();
    /// phrase.try_push_str("open")?;
    /// assert_eq!(&*phrase, "open");
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn try_push_str(&mut self, text: &str) -> Result<(), AllocError> {
        self.0.try_reserve(text.len())?;
        text.bytes().try_for_each(|byte| self.0.try_push(byte))
    }
}

impl Deref for SecretString {
    type Target = str;
    fn deref(&self) -> &str {
        // SAFETY: only whole texts are ever appended.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }
}

impl Zeroize for SecretString {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for SecretString {}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(hidden)")
    }
}
