// SPDX-License-Identifier: Apache-2.0
//! The claims of a token: which VM on which host, and what the kernel says of its memory.
//!
//! Keys of the outer map are those of CWT (RFC 8392) and EAT (RFC 9711), and below -65536 private ones.

use super::cbor::{EncodeError, Value};
use super::claim::{Claim, ClaimError, Fields, claims, words};
use super::hex::{BuildId, Digest, Nonce};

claims! {
    /// All of a token.
    pub struct Claims {
        /// `iat`: when it was made, in seconds since 1970 by the host's clock.
        6 => issued_at: u64,
        /// `eat_nonce`: the verifier's.
        10 => nonce: Nonce,
        /// `eat_profile`: [`super::PROFILE`].
        265 => profile: String,
        /// The host.
        -70001 => host: Host,
        /// The VM.
        -70002 => vm: Vm,
        /// What guest RAM is made of: one entry for each file that backs some of it, because that
        /// is what the kernel counts by.
        -70003 => mem: Vec<Memory>,
    }
}

claims! {
    /// What the host's kernel says of itself when it is asked. `None` is "it does not say so to this process".
    pub struct Host {
        /// Its release (`uname -r`).
        "kernel" => kernel: String,
        /// The build id of its image (/sys/kernel/notes).
        "build-id" => build_id: Option<BuildId>,
        /// The bits of KVM_CAP_SECRETMEM.
        "secretmem" => secretmem: u64,
        /// Whether /dev/mem refuses RAM, or does not exist. Otherwise known only to a VMM that may open it.
        "strict-devmem" => strict_devmem: Option<bool>,
        /// What lockdown forbids (/sys/kernel/security/lockdown).
        "lockdown" => lockdown: Option<Lockdown>,
        /// Whether another kernel can take over this one's memory.
        "kexec" => kexec: Option<Kexec>,
        /// Whether there is a swap area in use (/proc/swaps).
        "swap" => swap: Option<bool>,
        /// Whether pages are being merged (/sys/kernel/mm/ksm/run).
        "ksm" => ksm: Option<bool>,
        /// Yama's ptrace_scope; 0 without Yama.
        "yama" => yama: Option<u64>,
        /// Of the kernel's command line (/proc/cmdline), without its newline.
        "cmdline" => cmdline: Option<Digest>,
    }
}

words! {
    /// What lockdown forbids, each step with what is before it.
    pub enum Lockdown {
        /// Nothing.
        None = "none",
        /// To change the running kernel.
        Integrity = "integrity",
        /// To read its secrets.
        Confidentiality = "confidentiality",
    }
}

words! {
    /// Whether another kernel can take over.
    pub enum Kexec {
        /// The kernel was built without.
        Absent = "absent",
        /// None is loaded, and none can be until the next boot.
        Disabled = "disabled",
        /// None is loaded.
        Possible = "possible",
        /// One is loaded, for a reboot or for a crash.
        Loaded = "loaded",
    }
}

claims! {
    /// What was loaded before the guest ran, by what, as what. SHA-384 all.
    pub struct Vm {
        /// The kernel as it was copied into guest RAM: for each piece its address and length (8 bytes
        /// each, little endian) and its bytes, then the entry's address. A bzImage's first piece is the setup header.
        "kernel" => kernel: Digest,
        /// The initrd as it was copied; none: there is none.
        "initrd" => initrd: Option<Digest>,
        /// The command line as it was copied, without the NUL.
        "cmdline" => cmdline: Digest,
        /// The VM's configuration at the start: JSON as from `GET /vm/config`, without `logger` and
        /// `metrics`, keys sorted, no white space.
        "config" => config: Digest,
        /// The VMM's own program (/proc/self/exe).
        "vmm" => vmm: Digest,
        /// By what the VMM's threads are confined, each once. The VMM says so.
        "sandbox" => sandbox: Vec<Layer>,
    }
}

words! {
    /// A layer of the VMM's sandbox.
    pub enum Layer {
        /// Each thread makes the system calls that it needs (seccomp(2)).
        Seccomp = "seccomp",
        /// Each thread reaches the files that it needs (landlock(7)).
        Landlock = "landlock",
        /// No thread has a capability (capabilities(7)).
        Capabilities = "capabilities",
        /// vCPUs share a core with nothing but this VM (prctl(2), PR_SCHED_CORE), or no core has two threads.
        Core = "core",
    }
}

claims! {
    /// A file that backs guest RAM, as the kernel shows it in /proc/self/fdinfo at the moment of
    /// asking. Counts are of 4 KiB pages.
    pub struct Memory {
        /// What it is made of.
        "backing" => backing: Backing,
        /// The flags that it was made with (`SECRETMEM_*`).
        "flags" => flags: u64,
        /// Resident pages.
        "pages" => pages: u64,
        /// Of these, those in 2 MiB pages.
        "huge" => huge: u64,
        /// Of these, those of the pool reserved at boot.
        "pool" => pool: u64,
        /// Of these, those that the direct map reaches.
        "direct-mapped" => direct_mapped: u64,
        /// Of these, those that KVM has mapped elsewhere in the kernel.
        "aliases" => aliases: u64,
        /// The memslots that it backs. These the VMM says, the kernel tells nobody.
        "slots" => slots: Vec<Slot>,
    }
}

words! {
    /// What guest RAM can be made of for there to be a token.
    pub enum Backing {
        /// memfd_secret(2).
        Secret = "secret",
    }
}

claims! {
    /// A memslot.
    pub struct Slot {
        /// Guest physical address of its first byte.
        "gpa" => gpa: u64,
        /// Its size in bytes.
        "size" => size: u64,
    }
}

impl Claims {
    /// As the payload of a token.
    ///
    /// # Errors
    /// None that could happen.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        self.to_value().encode()
    }

    /// From the payload of a token.
    ///
    /// # Errors
    /// A claim is missing, malformed, or none of the profile.
    pub fn from_value(value: Value) -> Result<Self, ClaimError> {
        <Self as Claim>::from_value(value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::claims;

    /// The error after a change to the encoded claims.
    fn error(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> String {
        let Value::Map(mut entries) = claims().to_value() else { unreachable!() };
        change(&mut entries);
        Claims::from_value(Value::Map(entries)).unwrap_err().to_string()
    }

    fn inner(entries: &mut [(Value, Value)], key: i64) -> &mut Vec<(Value, Value)> {
        let (_, value) = entries.iter_mut().find(|(other, _)| *other == Value::from(key)).unwrap();
        let Value::Map(entries) = value else { unreachable!() };
        entries
    }

    #[test]
    fn claims_survive_the_way_there_and_back() {
        let encoded = claims().encode().unwrap();
        assert_eq!(Claims::from_value(Value::decode(&encoded).unwrap()).unwrap(), claims());
    }

    #[test]
    fn claims_missing_unknown_or_malformed_are_refused_by_name() {
        assert_eq!(error(|all| drop(all.remove(0))), "Claim 6 is missing");
        assert_eq!(error(|all| all.push((Value::from(7), Value::Null))), "Claim 7 is not part of this profile");
        let host = |change: fn(&mut Vec<(Value, Value)>)| error(|all| change(inner(all, -70001)));
        assert_eq!(host(|host| drop(host.pop())), "Claim -70001.cmdline is missing");
        assert_eq!(
            host(|host| host.push(("tee".into(), true.to_value()))),
            "Claim -70001.tee is not part of this profile"
        );
        assert_eq!(host(|host| host[0].1 = Value::Null), "Claim -70001.kernel is not of its type");
        let kexec = |host: &mut Vec<(Value, Value)>| host[5].1 = "maybe".into();
        assert_eq!(host(kexec), "Claim -70001.kexec is not one of the values that this profile has for it");
        let short = |host: &mut Vec<(Value, Value)>| host[9].1 = Value::Bytes(vec![0; 47]);
        assert_eq!(host(short), "Claim -70001.cmdline is not of its type");
        assert_eq!(error(|all| all[5].1 = Value::from(-1)), "Claim -70003 is not of its type");
    }
}
