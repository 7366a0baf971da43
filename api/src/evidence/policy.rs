//! What a verifier wants of a token, as JSON. What it does not mention is not looked at, except what
//! no token may have: see [`super::appraise`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::claims::{Kexec, Lockdown};
use super::hex::{BuildId, Digest, PcrValue};

/// A policy file.
///
/// ```
/// let text = r#"{
///     "max_age_s": 300,
///     "reference_values": "reference-values.json",
///     "host": { "build_id": "reference", "kexec": ["absent", "disabled"], "swap": false },
///     "vm": { "kernel": "reference", "initrd": "none" }
/// }"#;
/// let policy: secretvmm_api::evidence::Policy = serde_json::from_str(text)?;
/// assert_eq!(policy.mem.max_aliases, 0);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The most seconds that a token may be old.
    pub max_age_s: u64,
    /// The most seconds that the host's clock may be ahead of the verifier's.
    #[serde(default)]
    pub max_ahead_s: u64,
    /// A file with the public key, beside the policy unless its path is absolute.
    #[serde(default)]
    pub public_key: Option<PathBuf>,
    /// A file with [`ReferenceValues`], beside the policy unless its path is absolute.
    #[serde(default)]
    pub reference_values: Option<PathBuf>,
    /// The host.
    #[serde(default)]
    pub host: HostPolicy,
    /// The VM.
    #[serde(default)]
    pub vm: VmPolicy,
    /// Its memory.
    #[serde(default)]
    pub mem: MemoryPolicy,
    /// What the host's TPM has to say, in a quote that is for the token.
    #[serde(default)]
    pub tpm: Option<TpmPolicy>,
}

/// What the host has to be. What it does not say is never what it has to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostPolicy {
    /// Build ids of kernels.
    pub build_id: Option<Accept<BuildId>>,
    /// Digests of its kernel's command line.
    pub cmdline: Option<Accept<Digest>>,
    /// Bits of KVM_CAP_SECRETMEM that are set, perhaps among others.
    pub secretmem: Option<u64>,
    /// Whether /dev/mem refuses RAM.
    pub strict_devmem: Option<bool>,
    /// The least that lockdown forbids.
    pub lockdown: Option<Lockdown>,
    /// How it may stand with kexec.
    pub kexec: Option<Vec<Kexec>>,
    /// Whether it swaps.
    pub swap: Option<bool>,
    /// Whether it merges pages.
    pub ksm: Option<bool>,
    /// The least ptrace_scope of Yama's.
    pub yama: Option<u64>,
}

/// What the VM has to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VmPolicy {
    /// The guest's kernel.
    pub kernel: Option<Accept<Digest>>,
    /// Its initrd.
    pub initrd: Option<Accept<Digest>>,
    /// Its command line.
    pub cmdline: Option<Accept<Digest>>,
    /// The VM's configuration.
    pub config: Option<Accept<Digest>>,
    /// The VMM.
    pub vmm: Option<Accept<Digest>>,
}

/// What its memory has to be, beside hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryPolicy {
    /// The most pages that KVM may have mapped in the kernel at that moment.
    pub max_aliases: u64,
    /// Whether every page has to be there already.
    pub all_resident: bool,
}

/// Which TPM, and what it has to have measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmPolicy {
    /// A file with the public half of its attestation key, beside the policy unless its path is absolute.
    pub key: PathBuf,
    /// PCRs of the SHA-256 bank, by number. The quote has to be over these and no others.
    pub pcrs: BTreeMap<u8, PcrValue>,
}

/// What a claim may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Accept<T> {
    /// See there.
    Word(Word),
    /// One of these.
    OneOf(Vec<T>),
}

/// What a claim may be, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// One of the reference values.
    Reference,
    /// Not there.
    None,
}

/// What is known to be good, each by a name; `cargo xtask reference` writes such a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReferenceValues {
    /// Hosts.
    pub host: HostReferences,
    /// VMs.
    pub vm: VmReferences,
}

/// Of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostReferences {
    /// Build ids of kernels.
    pub build_id: BTreeMap<String, BuildId>,
    /// Digests of kernels' command lines.
    pub cmdline: BTreeMap<String, Digest>,
}

/// Of VMs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VmReferences {
    /// Guest kernels.
    pub kernel: BTreeMap<String, Digest>,
    /// Initrds.
    pub initrd: BTreeMap<String, Digest>,
    /// Command lines.
    pub cmdline: BTreeMap<String, Digest>,
    /// Configurations.
    pub config: BTreeMap<String, Digest>,
    /// VMMs.
    pub vmm: BTreeMap<String, Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_unknown_fields_words_and_malformed_digests_are_refused() {
        for text in [
            r"{}",
            r#"{"max_age_s": -1}"#,
            r#"{"max_age_s": 60, "max_age": 60}"#,
            r#"{"max_age_s": 60, "host": {"swaps": false}}"#,
            r#"{"max_age_s": 60, "host": {"kexec": ["never"]}}"#,
            r#"{"max_age_s": 60, "host": {"lockdown": "full"}}"#,
            r#"{"max_age_s": 60, "host": {"build_id": "any"}}"#,
            r#"{"max_age_s": 60, "vm": {"kernel": ["00"]}}"#,
            r#"{"max_age_s": 60, "mem": {"max_direct_mapped": 1}}"#,
            r#"{"max_age_s": 60, "tpm": {"key": "ak.pem"}}"#,
            r#"{"max_age_s": 60, "tpm": {"key": "ak.pem", "pcrs": {}, "nonce": ""}}"#,
            r#"{"max_age_s": 60, "tpm": {"key": "ak.pem", "pcrs": {"256": "00"}}}"#,
            r#"{"max_age_s": 60, "tpm": {"key": "ak.pem", "pcrs": {"0": "00"}}}"#,
        ] {
            assert!(serde_json::from_str::<Policy>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<ReferenceValues>(r#"{"vm": {"kernels": {}}}"#).is_err());
    }
}
