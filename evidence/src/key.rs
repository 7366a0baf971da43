// SPDX-License-Identifier: Apache-2.0
//! Ed25519 keys (RFC 8032), in files as PKCS#8 and SubjectPublicKeyInfo (RFC 8410), which other tools read.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Why a key is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No PEM of a private key, or one of another kind.
    #[error("It is no Ed25519 private key in PEM")]
    Private,
    /// No PEM of a public key, or one of another kind.
    #[error("It is no Ed25519 public key in PEM")]
    Public,
    /// It could not be written as PEM.
    #[error("The key cannot be written as PEM")]
    Write,
}

/// The half that signs. Wiped when dropped.
///
/// ```
/// use secretvmm_evidence::{PrivateKey, PublicKey};
///
/// let key = PrivateKey::from_seed(&[1; 32].into());
/// assert_eq!(PrivateKey::from_pem(&key.to_pem()?)?.public(), key.public());
/// assert_eq!(PublicKey::from_pem(&key.public().to_pem()?)?, key.public());
/// # Ok::<(), secretvmm_evidence::KeyError>(())
/// ```
///
/// On the heap, so that moving it leaves no copy behind.
pub struct PrivateKey(Box<SigningKey>);

impl PrivateKey {
    /// A key from 32 random bytes.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(Box::new(SigningKey::from_bytes(seed)))
    }

    /// The random bytes that it was made from, and can be made from again.
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Reads PKCS#8 in PEM.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(pem).map(|key| Self(Box::new(key))).map_err(|_| KeyError::Private)
    }

    /// As PKCS#8 in PEM, without the public half, which not every tool expects there.
    ///
    /// # Errors
    /// None that could happen.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        bytes.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Write)
    }

    /// The half that verifies.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Not the key itself.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.public()).finish()
    }
}

/// The half that verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// It is something else, or a weak key, for which signatures exist that fit every message.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_public_key_pem(pem).map_err(|_| KeyError::Public)?;
        if key.is_weak() { Err(KeyError::Public) } else { Ok(Self(key)) }
    }

    /// As SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// None that could happen.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Write)
    }

    /// What a token calls it: the SHA-256 of its 32 bytes.
    pub fn id(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// Whether `signature` is this key's of `message`. Strict: each message has one signature only.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{key, other_key};

    /// RFC 8410, 10.1 and 10.3.
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

    #[test]
    fn keys_are_those_of_rfc_8410() {
        let key = PrivateKey::from_pem(PRIVATE).unwrap();
        assert_eq!(key.to_pem().unwrap().as_str(), PRIVATE);
        assert_eq!(key.public().to_pem().unwrap(), PUBLIC);
        assert_eq!(PublicKey::from_pem(PUBLIC).unwrap(), key.public());
    }

    #[test]
    fn keys_of_another_kind_are_refused() {
        for text in ["", "x", PUBLIC, &PRIVATE.replace("MC4C", "MC5C")] {
            assert!(matches!(PrivateKey::from_pem(text), Err(KeyError::Private)), "{text}");
        }
        for text in ["", PRIVATE, &PUBLIC.replace("K2Vw", "K2Vu")] {
            assert!(matches!(PublicKey::from_pem(text), Err(KeyError::Public)), "{text}");
        }
        // The neutral element, with which everything verifies for a lax verifier.
        let weak = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
        assert!(matches!(PublicKey::from_pem(weak), Err(KeyError::Public)));
    }

    #[test]
    fn verifies_own_signature_only() {
        let signature = key().sign(b"message");
        assert!(key().public().verifies(b"message", &signature));
        assert!(!key().public().verifies(b"massage", &signature));
        assert!(!other_key().public().verifies(b"message", &signature));
    }

    #[test]
    fn private_key_is_not_printed() {
        assert!(!format!("{:?}", key()).contains(&format!("{:?}", [7_u8; 32])));
    }
}
