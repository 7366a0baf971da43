// SPDX-License-Identifier: Apache-2.0
//! What a verifier wants of a token, as JSON. What it does not mention is not looked at, except what
//! no token may have: see [`super::appraise`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::claims::{Kexec, Layer, Lockdown};
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
/// let policy: secretvmm_evidence::Policy = serde_json::from_str(text)?;
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
    pub build_id: Option<AcceptHost<BuildId>>,
    /// Digests of its kernel's command line.
    pub cmdline: Option<AcceptHost<Digest>>,
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
    /// Layers of the VMM's sandbox that are on, perhaps among others.
    pub sandbox: Option<Vec<Layer>>,
}

/// What its memory has to be, beside secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "MemoryPolicyFile")]
pub struct MemoryPolicy {
    /// The most pages that KVM may have mapped in the kernel at that moment.
    pub max_aliases: u64,
    /// Whether pages may be missing: those of a guest that is still being populated, or that never touched them.
    pub allow_missing_pages: bool,
}

/// The same in a file, where it had another name for one thing before.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MemoryPolicyFile {
    max_aliases: u64,
    allow_missing_pages: Option<bool>,
    all_resident: Option<bool>,
}

impl TryFrom<MemoryPolicyFile> for MemoryPolicy {
    type Error = &'static str;

    fn try_from(file: MemoryPolicyFile) -> Result<Self, Self::Error> {
        let allow_missing_pages = match (file.allow_missing_pages, file.all_resident) {
            (Some(_), Some(_)) => {
                return Err(
                    "all_resident is the old name of the opposite of allow_missing_pages: write only the latter",
                );
            }
            (Some(allow), None) => allow,
            (None, Some(all)) => !all,
            (None, None) => false,
        };
        Ok(MemoryPolicy { max_aliases: file.max_aliases, allow_missing_pages })
    }
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

/// What a claim of the host's may be. A host that does not say is never good, so there is no word for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AcceptHost<T> {
    /// See there.
    Word(HostWord),
    /// One of these.
    OneOf(Vec<T>),
}

impl<T: Clone> AcceptHost<T> {
    /// The same as what any claim may be.
    pub(crate) fn accept(&self) -> Accept<T> {
        match self {
            AcceptHost::Word(HostWord::Reference) => Accept::Word(Word::Reference),
            AcceptHost::OneOf(list) => Accept::OneOf(list.clone()),
        }
    }
}

/// What a claim of the host's may be, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostWord {
    /// One of the reference values.
    Reference,
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
#[allow(clippy::unwrap_used)]
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
            r#"{"max_age_s": 60, "host": {"build_id": "none"}}"#,
            r#"{"max_age_s": 60, "host": {"cmdline": "none"}}"#,
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

    #[test]
    fn policy_old_and_new_name_together_say_what_to_write() {
        let memory = |text: &str| serde_json::from_str::<MemoryPolicy>(text);
        assert!(!memory("{}").unwrap().allow_missing_pages);
        assert!(memory(r#"{"allow_missing_pages": true}"#).unwrap().allow_missing_pages);
        assert!(memory(r#"{"all_resident": false}"#).unwrap().allow_missing_pages);
        assert!(!memory(r#"{"all_resident": true}"#).unwrap().allow_missing_pages);
        let both = memory(r#"{"all_resident": true, "allow_missing_pages": false}"#).unwrap_err().to_string();
        assert!(both.contains("write only the latter") && !both.contains('\n'), "{both}");
    }
}
