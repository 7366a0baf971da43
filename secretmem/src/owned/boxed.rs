// SPDX-License-Identifier: Apache-2.0
//! One value.

use std::fmt;
use std::ops::{Deref, DerefMut};

use allocator_api2::boxed::Box;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Secret;
use crate::AllocError;

/// A value in secret memory, wiped when dropped. `Debug` does not show it.
///
/// ```
/// let mut key = secretmem::SecretBox::<[u8; 32]>::default_in_place()?;
/// key[0] = 1;
/// assert_eq!(format!("{key:?}"), "SecretBox(hidden)");
/// # Ok::<(), secretmem::AllocError>(())
/// ```
pub struct SecretBox<T: Zeroize>(Box<T, Secret>);

impl<T: Zeroize> SecretBox<T> {
    /// Moves a value here. The stack that it came over keeps a copy; [`SecretBox::take`] wipes the source.
    ///
    /// # Errors
    /// There is no secret memory for it.
    ///
    /// ```
    /// let pin = secretmem::SecretBox::new(1234u32)?;
    /// assert_eq!(*pin, 1234);
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn new(value: T) -> Result<Self, AllocError> {
        ready()?;
        Box::try_new_in(value, Secret).map(Self).map_err(|_| refused(size_of::<T>()))
    }

    /// Copies a value here, and wipes it where it was.
    ///
    /// # Errors
    /// There is no secret memory for it; the source stays as it is.
    ///
    /// ```
    /// let mut pin = 1234u32;
    /// let hidden = secretmem::SecretBox::take(&mut pin)?;
    /// assert_eq!((*hidden, pin), (1234, 0));
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn take(source: &mut T) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let hidden = Self::new(source.clone())?;
        source.zeroize();
        Ok(hidden)
    }

    /// A default value, to be filled where it lies.
    ///
    /// # Errors
    /// There is no secret memory for it.
    ///
    /// ```
    /// let key = secretmem::SecretBox::<[u8; 32]>::default_in_place()?;
    /// assert_eq!(*key, [0; 32]);
    /// # Ok::<(), secretmem::AllocError>(())
    /// ```
    pub fn default_in_place() -> Result<Self, AllocError>
    where
        T: Default,
    {
        Self::new(T::default())
    }
}

/// The first use's errors, with their reason.
pub(super) fn ready() -> Result<(), AllocError> {
    crate::heap::ready()
}

/// The collections' errors have no reason; most often it is the limit of locked memory.
pub(super) fn refused(len: usize) -> AllocError {
    AllocError::Map { len, source: std::io::ErrorKind::OutOfMemory.into() }
}

impl<T: Zeroize> Deref for SecretBox<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> DerefMut for SecretBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Zeroize for SecretBox<T> {
    fn zeroize(&mut self) {
        (**self).zeroize();
    }
}

impl<T: Zeroize> Drop for SecretBox<T> {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl<T: Zeroize> ZeroizeOnDrop for SecretBox<T> {}

impl<T: Zeroize> fmt::Debug for SecretBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBox(hidden)")
    }
}
