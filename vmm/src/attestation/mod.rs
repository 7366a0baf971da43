// SPDX-License-Identifier: Apache-2.0
//! Evidence for somebody who is not on the host: what was loaded, measured before the guest runs,
//! and what the kernel says of itself and of guest RAM at the moment of asking, signed.
//!
//! Without a hardware TEE that means: a key controlled by this host says that its kernel reports
//! this (`secretvmm_evidence::MEANING`). docs/attestation.md has the format.

mod hidden;
pub(crate) mod host;
mod key;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use secretvmm_evidence::{
    Backing, Claims, Digest, Hasher, Layer, Memory, Nonce, PROFILE, PublicKey, Slot, Vm, cbor, cose,
};
use vm_memory::GuestMemoryBackend;

pub use key::Error as KeyError;

use self::hidden::HiddenKey;
use crate::config::VmConfig;
use crate::loader::Loaded;
use crate::memory::GuestRam;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No `--attestation-key`.
    #[error("There is no key to sign with; start secretvmm with --attestation-key FILE")]
    NoKey,
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No memfd_secret(2), or no locked memory left.
    #[error("The attestation key cannot be kept from the host's kernel")]
    Hidden(#[from] secretmem::AllocError),
    /// The VMM's own program.
    #[error("The VMM's own program (/proc/self/exe) cannot be measured")]
    Program(#[source] io::Error),
    /// A path that is no UTF-8.
    #[error("The VM's configuration cannot be measured")]
    Config(#[from] serde_json::Error),
    /// Nothing was measured.
    #[error("What the VM has loaded was not measured")]
    NotMeasured,
    /// `--backing shared`.
    #[error(
        "Guest memory is ordinary memory, which this host can read (--backing shared): there is nothing to attest; \
         start the VM on secret memory"
    )]
    Shared,
    /// A kernel without the series.
    #[error("KVM says nothing of secret memory (no KVM_CAP_SECRETMEM): there is nothing to attest without the series")]
    NoSeries,
    /// /proc is not there.
    #[error("The kernel could not be asked about itself and guest memory (/proc)")]
    Ask(#[source] io::Error),
    /// Before 1970.
    #[error("The host's clock is not set")]
    Clock,
    /// The claims could not be written.
    #[error("The token could not be written")]
    Encode(#[from] cbor::EncodeError),
}

/// What was measured before the VM ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    loaded: Loaded,
    config: Digest,
}

impl Measured {
    /// With the configuration that the VM is built from.
    ///
    /// # Errors
    /// It has a path that is no UTF-8.
    pub fn new(loaded: Loaded, config: &VmConfig) -> Result<Self, Error> {
        Ok(Self { loaded, config: Digest::of(canonical(config)?.as_bytes()) })
    }
}

/// What `GET /vm/config` answers without the process's own `logger` and `metrics`: keys sorted, no
/// white space (RFC 8785, for what there is in it).
fn canonical(config: &VmConfig) -> Result<String, Error> {
    let mut resources = serde_json::to_value(config.to_resources())?;
    resources.sort_all_objects();
    if let Some(object) = resources.as_object_mut() {
        object.remove("logger");
        object.remove("metrics");
    }
    Ok(resources.to_string())
}

/// Makes tokens.
#[derive(Debug)]
pub struct Attestor {
    key: HiddenKey,
    vmm: Digest,
    strict_devmem: Option<bool>,
}

/// What a token is about, beside the host.
pub struct Facts<'a> {
    /// Guest RAM, of which the kernel is asked.
    pub ram: &'a GuestRam,
    /// What KVM says that it can do with secret memory: a mask of `SECRETMEM_*`.
    pub secretmem: u32,
    /// What was measured before the VM ran; None if nobody wanted it.
    pub measured: Option<&'a Measured>,
    /// By what the VMM's threads are confined.
    pub sandbox: Vec<Layer>,
}

impl Attestor {
    /// With the key in a file, which is made if there is none.
    ///
    /// # Errors
    /// The file is not for this user alone, or has no key.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (key, vmm) = (HiddenKey::open(path)?, own_program().map_err(Error::Program)?);
        log::info!("Tokens are signed with the key in {}", path.display());
        Ok(Self { key, vmm, strict_devmem: host::strict_devmem(Path::new("/")) })
    }

    /// A token about a VM that has been started.
    ///
    /// # Errors
    /// There is nothing to attest, or the kernel cannot be asked.
    pub fn token(&self, nonce: Nonce, facts: &Facts<'_>) -> Result<Vec<u8>, Error> {
        let memory = memory(facts.ram)?;
        let secretmem = facts.secretmem;
        if secretmem == 0 {
            return Err(Error::NoSeries);
        }
        let Measured { loaded, config } = *facts.measured.ok_or(Error::NotMeasured)?;
        let claims = Claims {
            issued_at: SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Error::Clock)?.as_secs(),
            nonce,
            profile: PROFILE.to_owned(),
            host: host::ask(Path::new("/"), secretmem, self.strict_devmem).map_err(Error::Ask)?,
            vm: Vm {
                kernel: loaded.kernel,
                initrd: loaded.initrd,
                cmdline: loaded.cmdline,
                config,
                vmm: self.vmm,
                sandbox: facts.sandbox.clone(),
            },
            mem: vec![memory],
        };
        Ok(self.key.lend(|key| cose::sign(&claims, key))?)
    }
}

/// The public half of the key in a file.
///
/// # Errors
/// As [`Attestor::open`]; and there is none.
pub fn public_key(path: &Path) -> Result<PublicKey, Error> {
    Ok(key::open(path)?.public())
}

/// The digest of the program that runs, also when its file has been replaced.
///
/// # Errors
/// /proc is not there.
pub fn own_program() -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    io::copy(&mut File::open("/proc/self/exe")?, &mut hasher)?;
    Ok(hasher.finish())
}

/// What the kernel says of guest RAM, all of which is one file.
fn memory(ram: &GuestRam) -> Result<Memory, Error> {
    let info = ram.kernel_info().map_err(Error::Ask)?.ok_or(Error::Shared)?;
    let slots = ram.memory().iter().map(|region| region.slot());
    Ok(Memory {
        backing: Backing::Secret,
        flags: info.flags,
        pages: info.pages,
        huge: info.huge,
        pool: info.pool,
        direct_mapped: info.direct_mapped,
        aliases: info.aliases,
        slots: slots.map(|slot| Slot { gpa: slot.gpa, size: slot.size }).collect(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn canonical_configuration_is_sorted_and_has_no_logger() {
        let text = canonical(&VmConfig::new("/k".into())).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let object = value.as_object().unwrap();
        assert!(!object.contains_key("logger") && !object.contains_key("metrics"));
        assert_eq!(value["boot-source"]["kernel_image_path"], "/k");
        let at = |key: &str| text.find(&format!("\"{key}\":")).unwrap();
        let keys = ["balloon", "boot-source", "boot_args", "initrd_path", "kernel_image_path", "cpu-config", "vsock"];
        assert!(keys.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{text}");
        assert!(!text.contains([' ', '\n']) || text.contains("console=ttyS0 "), "{text}");
        let other = VmConfig { cpus: 2, ..VmConfig::new("/k".into()) };
        assert_ne!(canonical(&other).unwrap(), text);
    }

    #[test]
    fn own_program_is_this_test() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(own_program().unwrap(), Digest::of(&program));
    }
}
