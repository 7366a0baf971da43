// SPDX-License-Identifier: Apache-2.0
//! Many values.

use std::fmt;
use std::ops::{Deref, DerefMut};

use allocator_api2::vec::Vec;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Secret;
use super::boxed::{ready, refused};
use crate::AllocError;

/// Bytes or other values in secret memory, wiped when dropped, and where they lay before they grew.
/// `Debug` does not show them.
///
/// ```
/// let mut key = secretmem::SecretVec::from_slice(&[7u8; 32])?;
/// key.try_push(8)?;
/// assert_eq!(key.len(), 33);
/// assert_eq!(format!("{key:?}"), "SecretVec(33 hidden)");
/// # Ok::<(), secretmem::AllocError>(())
/// ```
pub struct SecretVec<T: Zeroize>(Vec<T, Secret>);

impl<T: Zeroize> SecretVec<T> {
    /// An empty vector, which takes no memory.
    ///
    /// ```
    /// assert!(secretmem::SecretVec::<u8>::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self(Vec::new_in(Secret))
    }

    /// Room for `capacity` values.
    ///
    /// # Errors
    /// There is no secret memory for them.
    ///
    /// ```
    /// assert!(secretmem::SecretVec::<u8>::with_capacity(1 << 40).is_err());
    /// ```
    pub fn with_capacity(capacity: usize) -> Result<Self, AllocError> {
        let mut new = Self::new();
        new.try_reserve(capacity)?;
        Ok(new)
    }

    /// Makes room for `more` values.
    ///
    /// # Errors
    /// There is no secret memory for them; all stays as it is.
    ///
    /// ```
    /// let mut key = secretmem::SecretVec::<u8>::new();
    /// key.try_reserve(32)?;
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn try_reserve(&mut self, more: usize) -> Result<(), AllocError> {
        ready()?;
        let bytes = more.saturating_mul(size_of::<T>());
        self.0.try_reserve(more).map_err(|_| refused(bytes))
    }

    /// Appends a value.
    ///
    /// # Errors
    /// There is no secret memory for it.
    ///
    /// ```
    /// let mut key = secretmem::SecretVec::new();
    /// key.try_push(1u8)?;
    /// assert_eq!(&key[..], [1]);
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn try_push(&mut self, value: T) -> Result<(), AllocError> {
        self.try_reserve(1)?;
        self.0.push(value);
        Ok(())
    }

    /// A copy of a slice.
    ///
    /// # Errors
    /// There is no secret memory for it.
    ///
    /// ```
    /// assert_eq!(&secretmem::SecretVec::from_slice(b"key")?[..], b"key");
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn from_slice(values: &[T]) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let mut new = Self::with_capacity(values.len())?;
        new.0.extend_from_slice(values);
        Ok(new)
    }

    /// Copies a slice here, and wipes it where it was.
    ///
    /// # Errors
    /// There is no secret memory for it; the source stays as it is.
    ///
    /// ```
    /// let mut read = *b"key";
    /// let key = secretmem::SecretVec::take(&mut read)?;
    /// assert_eq!((&key[..], read), (&b"key"[..], [0; 3]));
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn take(values: &mut [T]) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let new = Self::from_slice(values)?;
        values.iter_mut().for_each(Zeroize::zeroize);
        Ok(new)
    }
}

impl<T: Zeroize> Default for SecretVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Zeroize> Deref for SecretVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Zeroize> DerefMut for SecretVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Zeroize> Zeroize for SecretVec<T> {
    fn zeroize(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
        self.0.clear();
    }
}

impl<T: Zeroize> Drop for SecretVec<T> {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl<T: Zeroize> ZeroizeOnDrop for SecretVec<T> {}

impl<T: Zeroize> fmt::Debug for SecretVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretVec({} hidden)", self.len())
    }
}
