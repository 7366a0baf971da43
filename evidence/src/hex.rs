// SPDX-License-Identifier: Apache-2.0
//! Digests, nonces and build ids: bytes that people see in hexadecimal.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha384};

/// Why text is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Give {0}")]
pub struct NotHex(&'static str);

/// Makes a type print, parse and serialise as hexadecimal.
macro_rules! as_hex {
    ($($name:ident),+) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base16ct::lower::encode_string(self.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = NotHex;

            /// An odd or wrong digit makes it empty, which none of these is.
            fn from_str(text: &str) -> Result<Self, NotHex> {
                base16ct::mixed::decode_vec(text).unwrap_or_default().as_slice().try_into()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )+ };
}
as_hex!(BuildId, Digest, Nonce, PcrValue);

/// A SHA-384.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 48]);

impl Digest {
    /// That of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha384::digest(bytes).into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = NotHex;

    fn try_from(bytes: &[u8]) -> Result<Self, NotHex> {
        bytes.try_into().map(Self).map_err(|_| NotHex("a SHA-384 of 96 hexadecimal digits"))
    }
}

/// The value of a TPM's PCR in the SHA-256 bank.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PcrValue([u8; 32]);

impl PcrValue {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for PcrValue {
    type Error = NotHex;

    fn try_from(bytes: &[u8]) -> Result<Self, NotHex> {
        bytes.try_into().map(Self).map_err(|_| NotHex("a PCR of the SHA-256 bank, 64 hexadecimal digits"))
    }
}

/// A SHA-384 in the making.
///
/// ```
/// use secretvmm_evidence::{Digest, Hasher};
///
/// let mut hasher = Hasher::default();
/// hasher.update(b"in two ");
/// hasher.update(b"pieces");
/// assert_eq!(hasher.finish(), Digest::of(b"in two pieces"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha384);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a verifier makes up so that a token cannot be an old one: 8 to 64 bytes (RFC 9711, 4.1).
///
/// ```
/// use secretvmm_evidence::Nonce;
///
/// let nonce: Nonce = "00112233445566AA".parse()?;
/// assert_eq!(nonce.to_string(), "00112233445566aa");
/// assert!("001122".parse::<Nonce>().is_err());
/// # Ok::<(), secretvmm_evidence::NotHex>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// As a pattern of hexadecimal digits.
    pub const PATTERN: &'static str = "^([0-9A-Fa-f]{2}){8,64}$";

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Nonce {
    type Error = NotHex;

    fn try_from(bytes: &[u8]) -> Result<Self, NotHex> {
        match bytes.len() {
            8..=64 => Ok(Self(bytes.to_vec())),
            _ => Err(NotHex("a nonce of 8 to 64 bytes, 16 to 128 hexadecimal digits")),
        }
    }
}

/// The build id of a kernel: the GNU note of its image.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildId(Vec<u8>);

impl BuildId {
    /// Its bytes: 20 with the linker's usual SHA-1.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for BuildId {
    type Error = NotHex;

    fn try_from(bytes: &[u8]) -> Result<Self, NotHex> {
        match bytes.len() {
            8..=64 => Ok(Self(bytes.to_vec())),
            _ => Err(NotHex("a build id of 16 to 128 hexadecimal digits")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nonce_has_8_to_64_bytes() {
        for bytes in [8, 20, 64] {
            let text = "Ab".repeat(bytes);
            assert_eq!(text.parse::<Nonce>().unwrap().to_string(), text.to_lowercase());
        }
        for text in ["", "ab", &"ab".repeat(7), &"ab".repeat(65), &"a".repeat(17), &"xy".repeat(8), "0x00112233445566"]
        {
            assert!(text.parse::<Nonce>().is_err(), "{text}");
        }
    }

    #[test]
    fn digest_is_a_sha_384() {
        let abc = "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        let mut hasher = Hasher::default();
        hasher.update(b"a");
        hasher.write_all(b"bc").unwrap();
        assert_eq!(hasher.finish(), abc.parse().unwrap());
        assert!(abc[1..].parse::<Digest>().is_err());
    }
}
