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
pub use claims::{Backing, Claims, Host, Kexec, Lockdown, Memory, Slot, Vm};
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
