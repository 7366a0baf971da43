// SPDX-License-Identifier: Apache-2.0
//! The one description of a VM, wherever it came from.

mod resources;
mod size;

use std::ops::Deref;
use std::path::PathBuf;

use secretvmm_api::{Drive, Entropy, MmdsConfig, NetworkInterface, Serial, Vsock};

pub use resources::{machine_of, read_json};
pub use size::{parse_memory, round_memory};

use crate::devices::virtio::vsock;
use crate::layout;
use crate::memory::{Huge, Pool, Populate, RamKind, SecretOptions};

/// Used when no command line is given.
pub const DEFAULT_CMDLINE: &str = "console=ttyS0 8250.nr_uarts=1 reboot=k panic=-1";
/// Used when no memory size is given, in bytes.
pub const DEFAULT_MEMORY: u64 = 512 << 20;
/// The most vCPUs a VM can have.
pub const MAX_CPUS: u8 = 32;

/// Everything that makes up one VM. Paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmConfig {
    /// A bzImage or a PVH vmlinux.
    pub kernel: PathBuf,
    /// An initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel command line; [`Self::full_cmdline`] has the root device too.
    pub cmdline: String,
    /// Guest RAM in bytes, a multiple of 2 MiB (see [`round_memory`]).
    pub mem_size: u64,
    /// vCPUs.
    pub cpus: u8,
    /// Whether two vCPUs are threads of one core, as far as the API tells.
    pub smt: bool,
    /// What guest RAM is made of.
    pub backing: RamKind,
    /// Disks, the root device first.
    pub drives: Vec<Drive>,
    /// Network interfaces.
    pub networks: Vec<NetworkInterface>,
    /// Sockets between host and guest.
    pub vsock: Option<Vsock>,
    /// The entropy device.
    pub entropy: Option<Entropy>,
    /// The serial console.
    pub serial: Serial,
    /// How the guest reaches its metadata.
    pub mmds: Option<MmdsConfig>,
}

/// What the process was told beside a VM's configuration, and decides how it is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// There is Firecracker's boot timer.
    pub boot_timer: bool,
    /// What is loaded is measured, for attestation: it takes time.
    pub measured: bool,
}

/// A configuration that makes sense, with everything decided: what `GET /vm/config` tells is what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    config: VmConfig,
    /// How it is started.
    pub start: Start,
}

impl Deref for Resolved {
    type Target = VmConfig;

    fn deref(&self) -> &VmConfig {
        &self.config
    }
}

/// A configuration that makes no sense on any host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Fewer than 1 or more than [`MAX_CPUS`].
    #[error("A VM has 1 to {MAX_CPUS} vCPUs, not {0}")]
    Cpus(u8),
    /// A core that would have one thread, among others that have two.
    #[error("With smt, vCPUs come in pairs; give 1 or an even vcpu_count, not {0}")]
    OddThreads(u8),
    /// Less than the smallest guest.
    #[error("A VM needs at least {} MiB of memory, not {} KiB", layout::RAM_MIN >> 20, .0 >> 10)]
    MemoryTooSmall(u64),
    /// More than an address can say.
    #[error("{0} MiB of memory are more than any machine has")]
    MemoryTooLarge(u64),
    /// Both names of one flag.
    #[error("--memory is the old name of --backing; give --backing alone")]
    BackingTwice,
    /// Tokens that nobody could ask for.
    #[error("--attestation-key needs the API, which tokens are asked from; give --api-sock")]
    KeyWithoutApi,
    /// 2 MiB pages or the pool for ordinary memory.
    #[error("Pages of 2 MiB and of the boot pool are for secret memory; shared memory has neither")]
    SharedPages,
    /// The pool has no small pages.
    #[error("The boot pool has pages of 2 MiB only; leave out huge=off or pool=boot")]
    SmallPoolPages,
    /// Nothing to start.
    #[error("There is no kernel to start; give a boot source first")]
    NoKernel,
    /// Two root devices.
    #[error("Drives {0:?} and {1:?} are both the root device; only one can be")]
    TwoRoots(String, String),
    /// Two devices of one name.
    #[error("Two {kind} are called {id:?}; give each an id of its own")]
    DuplicateId {
        /// "drives" or "network interfaces".
        kind: &'static str,
        /// Their id.
        id: String,
    },
    /// Two network interfaces of one address.
    #[error("Two network interfaces have the MAC address {0}")]
    DuplicateMac(secretvmm_api::MacAddr),
    /// More devices than the interrupt controller has pins for.
    #[error("{0} virtio devices are more than the {max} that a VM has room for", max = layout::VIRTIO_MAX)]
    TooManyDevices(usize),
    /// A vsock device that no guest can have.
    #[error(transparent)]
    Vsock(#[from] vsock::Error),
    /// MMDS on an interface that is not there.
    #[error("MMDS is to be reached over network interface {0:?}, which does not exist")]
    MmdsInterface(String),
    /// Something of Firecracker's that this VMM does not have.
    #[error("{0}")]
    Refused(&'static str),
    /// A configuration or metadata file cannot be read.
    #[error("JSON file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A configuration or metadata file is no valid JSON, or says something unknown.
    #[error("JSON file {} is not valid", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
}

impl VmConfig {
    /// A VM with this kernel and defaults for the rest.
    pub fn new(kernel: PathBuf) -> Self {
        Self {
            kernel,
            initrd: None,
            cmdline: DEFAULT_CMDLINE.to_owned(),
            mem_size: DEFAULT_MEMORY,
            cpus: 1,
            smt: false,
            backing: RamKind::default(),
            drives: Vec::new(),
            networks: Vec::new(),
            vsock: None,
            entropy: None,
            serial: Serial::default(),
            mmds: None,
        }
    }

    /// Decides what is left open.
    ///
    /// Evidence tells of all pages: with it they are there before the guest runs, unless somebody wanted it otherwise.
    ///
    /// # Errors
    /// As [`VmConfig::validate`].
    pub fn resolve(mut self, start: Start) -> Result<Resolved, Error> {
        self.validate()?;
        if let RamKind::Secret(SecretOptions { populate: populate @ Populate::Background, .. }) = &mut self.backing
            && start.measured
        {
            *populate = Populate::All;
        }
        Ok(Resolved { config: self, start })
    }

    /// Checks what can be checked without asking the host.
    pub fn validate(&self) -> Result<(), Error> {
        if !(1..=MAX_CPUS).contains(&self.cpus) {
            return Err(Error::Cpus(self.cpus));
        }
        if self.smt && self.cpus > 1 && !self.cpus.is_multiple_of(2) {
            return Err(Error::OddThreads(self.cpus));
        }
        if self.mem_size < layout::RAM_MIN {
            return Err(Error::MemoryTooSmall(self.mem_size));
        }
        if self.mem_size > 1 << 46 {
            return Err(Error::MemoryTooLarge(self.mem_size >> 20));
        }
        if let RamKind::Secret(SecretOptions { huge: Huge::Off, pool: Pool::Boot, .. }) = self.backing {
            return Err(Error::SmallPoolPages);
        }
        self.validate_devices()
    }

    fn validate_devices(&self) -> Result<(), Error> {
        unique("drives", self.drives.iter().map(|drive| &drive.drive_id))?;
        unique("network interfaces", self.networks.iter().map(|network| &network.iface_id))?;
        let mut roots = self.drives.iter().filter(|drive| drive.is_root_device).map(|drive| &drive.drive_id);
        if let (Some(one), Some(other)) = (roots.next(), roots.next()) {
            return Err(Error::TwoRoots(one.clone(), other.clone()));
        }
        let macs: Vec<_> = self.networks.iter().filter_map(|network| network.guest_mac).collect();
        if let Some(mac) = macs.iter().enumerate().find(|(at, mac)| macs.iter().take(*at).any(|other| other == *mac)) {
            return Err(Error::DuplicateMac(*mac.1));
        }
        let devices = self.drives.len()
            + self.networks.len()
            + usize::from(self.vsock.is_some())
            + usize::from(self.entropy.is_some());
        if devices > layout::VIRTIO_MAX {
            return Err(Error::TooManyDevices(devices));
        }
        if let Some(vsock) = &self.vsock {
            vsock::check_cid(vsock.guest_cid)?;
        }
        let known = |id: &&String| self.networks.iter().any(|network| network.iface_id == **id);
        match self.mmds.iter().flat_map(|mmds| &mmds.network_interfaces).find(|id| !known(id)) {
            Some(id) => Err(Error::MmdsInterface(id.clone())),
            None => Ok(()),
        }
    }

    /// The command line with what the root device adds to it.
    pub fn full_cmdline(&self) -> String {
        let Some(root) = self.drives.iter().find(|drive| drive.is_root_device) else { return self.cmdline.clone() };
        let device = root.partuuid.as_ref().map_or("/dev/vda".to_owned(), |uuid| format!("PARTUUID={uuid}"));
        let access = if root.is_read_only == Some(true) { "ro" } else { "rw" };
        // What follows "--" is the init program's.
        let (kernel, init) = match self.cmdline.split_once(" -- ") {
            Some((kernel, init)) => (kernel, format!(" -- {init}")),
            None => (self.cmdline.as_str(), String::new()),
        };
        format!("{kernel} root={device} {access}{init}")
    }
}

fn unique<'a>(kind: &'static str, ids: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    let mut seen = std::collections::BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(Error::DuplicateId { kind, id: id.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests {
    use super::*;

    fn drive(id: &str, root: bool) -> Drive {
        let text = format!(r#"{{"drive_id": "{id}", "is_root_device": {root}, "path_on_host": "/d"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn validate_limits() {
        let mut config = VmConfig::new("k".into());
        assert!(config.validate().is_ok());
        config.cpus = 33;
        assert!(matches!(config.validate(), Err(Error::Cpus(33))));
        config.cpus = 0;
        assert!(config.validate().is_err());
        config.cpus = 32;
        config.smt = true;
        assert!(config.validate().is_ok());
        config.cpus = 3;
        assert!(matches!(config.validate(), Err(Error::OddThreads(3))));
        config.cpus = 1;
        config.mem_size = layout::RAM_MIN - 1;
        assert!(matches!(config.validate(), Err(Error::MemoryTooSmall(_))));
        config.mem_size = u64::MAX;
        assert!(matches!(config.validate(), Err(Error::MemoryTooLarge(_))));
    }

    #[test]
    fn validate_small_pages_of_the_pool_are_refused() {
        let mut config = VmConfig::new("k".into());
        let options = SecretOptions { huge: Huge::Off, pool: Pool::Boot, ..SecretOptions::default() };
        config.backing = RamKind::Secret(options);
        assert!(matches!(config.validate(), Err(Error::SmallPoolPages)));
    }

    #[test]
    fn validate_devices_that_clash_are_refused() {
        let mut config = VmConfig::new("k".into());
        config.drives = vec![drive("a", true), drive("a", false)];
        assert!(matches!(config.validate(), Err(Error::DuplicateId { .. })));
        config.drives = vec![drive("a", true), drive("b", true)];
        assert!(matches!(config.validate(), Err(Error::TwoRoots(..))));
        config.drives = (0..20).map(|index| drive(&index.to_string(), false)).collect();
        assert!(matches!(config.validate(), Err(Error::TooManyDevices(20))));
        config.drives.clear();
        for cid in [0, 2, u32::MAX] {
            config.vsock = Some(Vsock { vsock_id: None, guest_cid: cid, uds_path: "/s".into() });
            assert!(matches!(config.validate(), Err(Error::Vsock(vsock::Error::Cid(_)))));
        }
    }

    #[test]
    fn full_cmdline_names_the_root_device_before_inits_words() {
        let mut config = VmConfig::new("k".into());
        config.cmdline = "quiet -- single".into();
        assert_eq!(config.full_cmdline(), "quiet -- single");
        config.drives = vec![drive("data", false), drive("root", true)];
        assert_eq!(config.full_cmdline(), "quiet root=/dev/vda rw -- single");
        config.drives[1].is_read_only = Some(true);
        config.drives[1].partuuid = Some("0eaa91a0-01".into());
        assert_eq!(config.full_cmdline(), "quiet root=PARTUUID=0eaa91a0-01 ro -- single");
    }

    #[test]
    fn resolve_populates_before_the_guest_only_what_is_measured_and_was_left_open() {
        let backing = |populate| RamKind::Secret(SecretOptions { populate, ..SecretOptions::default() });
        for (before, measured, after) in [
            (Populate::Background, true, Populate::All),
            (Populate::Background, false, Populate::Background),
            (Populate::Touch, true, Populate::Touch),
        ] {
            let config = VmConfig { backing: backing(before), ..VmConfig::new("/k".into()) };
            let resolved = config.resolve(Start { measured, boot_timer: false }).unwrap();
            assert_eq!(resolved.backing, backing(after), "{before:?}, measured: {measured}");
        }
    }
}
