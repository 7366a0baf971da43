// SPDX-License-Identifier: Apache-2.0
//! Evidence for somebody who is not on the host: an EAT (RFC 9711) in a COSE_Sign1 (RFC 9052), and
//! the verifier's side of it.
//!
//! ```text
//!   Claims -> cbor -> cose::sign -> token ~~~> cose::Signed -> Claims -> appraise -> Appraisal
//!                        PrivateKey              PublicKey      Policy, ReferenceValues
//! ```
//!
//! Without a hardware TEE a token means what [`MEANING`] says and no more: whoever controls the host
//! controls the key. Its profile is closed: one algorithm, deterministic CBOR (RFC 8949, 4.2.1)
//! without tags, no claim that is not in [`Claims`]. docs/attestation.md has all of it.
//!
//! A guest with one page missing is refused, unless the policy says that pages may be missing:
//!
//! ```
//! use secretvmm_evidence::*;
//!
//! let digest = Digest::of(b"");
//! let page = 4096;
//! let claims = Claims {
//!     issued_at: 1_800_000_000,
//!     nonce: "0011223344556677".parse()?,
//!     profile: PROFILE.to_owned(),
//!     host: Host {
//!         kernel: "6.12".to_owned(), secretmem: 0x6f, build_id: None, strict_devmem: None, lockdown: None, kexec: None,
//!         swap: None, ksm: None, yama: None, cmdline: None,
//!     },
//!     vm: Vm { kernel: digest, initrd: None, cmdline: digest, config: digest, vmm: digest, sandbox: vec![] },
//!     mem: vec![Memory {
//!         backing: Backing::Secret, flags: EXCLUSIVE, pages: 511, huge: 0, pool: 0, direct_mapped: 0, aliases: 0,
//!         slots: vec![Slot { gpa: 0, size: 512 * page }],
//!     }],
//! };
//! let key = PrivateKey::from_seed(&[1; 32].into());
//! let token = cose::sign(&claims, &key)?;
//!
//! let accepted = |policy: &str| -> Result<bool, serde_json::Error> {
//!     let (policy, references) = (serde_json::from_str(policy)?, ReferenceValues::default());
//!     let (key, nonce, now) = (&key.public(), &claims.nonce, claims.issued_at + 1);
//!     let expected = Expected { key, nonce, policy: &policy, references: &references, quote: None, now };
//!     Ok(appraise(&token, &expected).accepted())
//! };
//! assert!(!accepted(r#"{"max_age_s": 300}"#)?);
//! assert!(accepted(r#"{"max_age_s": 300, "mem": {"allow_missing_pages": true}}"#)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "verify")]
mod appraisal;
pub mod cbor;
#[cfg(feature = "verify")]
mod check;
mod claim;
mod claims;
pub mod cose;
mod hex;
mod key;
#[cfg(feature = "verify")]
mod policy;
#[cfg(feature = "verify")]
pub mod quote;
#[cfg(test)]
mod testing;

#[cfg(feature = "verify")]
pub use appraisal::{Appraisal, Check, Status, Submod};
#[cfg(feature = "verify")]
pub use check::{Expected, appraise};
pub use claim::ClaimError;
pub use claims::{Backing, Claims, Host, Kexec, Layer, Lockdown, Memory, Slot, Vm};
pub use hex::{BuildId, Digest, Hasher, Nonce, NotHex, PcrValue};
pub use key::{KeyError, PrivateKey, PublicKey};
#[cfg(feature = "verify")]
pub use policy::{
    Accept, AcceptHost, HostPolicy, HostWord, MemoryPolicy, Policy, ReferenceValues, TpmPolicy, VmPolicy, Word,
};

/// What a token is worth.
pub const MEANING: &str =
    "A key controlled by this host says that its kernel reports this. No hardware vouches for it.";

/// What a token is worth together with a TPM's quote of it.
pub const MEANING_WITH_QUOTE: &str = "A key controlled by this host says that its kernel reports this, and a TPM what \
     was booted, as far as its PCRs tell. No hardware vouches for what the kernel reports.";

/// The profile that tokens name (RFC 9711, 4.3.2).
pub const PROFILE: &str = "tag:secretvmm.example,2026:attestation/1";

/// The media type of a token (RFC 9782).
pub const MEDIA_TYPE: &str = "application/eat+cwt";

/// The flag of a secret file that only the process that made it can map (`SECRETMEM_EXCLUSIVE` in
/// include/uapi/linux/secretmem.h of the kernel series).
pub const EXCLUSIVE: u64 = 1;
