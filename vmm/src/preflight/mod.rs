// SPDX-License-Identifier: Apache-2.0
//! Everything that can be found out before any memory is mapped, in one fixed order.
//!
//! Each refusal is one line that says what to do. Nothing is left behind: no memory, no VM, no
//! changed terminal.

mod room;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use kvm_ioctls::Kvm;

use crate::config::VmConfig;
use crate::devices::virtio::Opened;
use crate::devices::virtio::block::{self, Block};
use crate::devices::virtio::net::{self, Net};
use crate::devices::virtio::rng::Rng;
use crate::devices::virtio::vsock::{self, Vsock};
use crate::kvm;
use crate::lines;
use crate::loader::{self, Initrd, Kernel, Plan};
use crate::memory::{Pool, RamKind};
use crate::mmds::SharedMmds;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Kernel, initrd or command line.
    #[error(transparent)]
    Loader(#[from] loader::Error),
    /// /dev/kvm.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    /// The host kernel cannot run a guest on secret memory.
    #[error(
        "This host kernel cannot run a guest on secret memory (no KVM_CAP_SECRETMEM): boot a kernel with the secretvmm \
         series (kernel-patches/), or give --backing shared for a guest that the host can read"
    )]
    NoSecretGuests,
    /// The host kernel has the series, but only parts of it.
    #[error(
        "This host kernel has only a part of the secretvmm series (KVM_CAP_SECRETMEM is {0:#x}); boot one with all of it"
    )]
    PartOfTheSeries(u32),
    /// `pool=boot` on a host without a pool.
    #[error("This host has no pool of secret memory; boot it with secretmem=SIZE, or leave pool=boot out")]
    NoPool,
    /// memfd_secret(2) does not work.
    #[error(transparent)]
    Unavailable(#[from] secretmem::Unavailable),
    /// A disk.
    #[error(transparent)]
    Block(#[from] block::Error),
    /// A TAP.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The socket of the vsock device.
    #[error(transparent)]
    Vsock(#[from] vsock::Error),
    /// /dev/urandom.
    #[error("The host's random numbers (/dev/urandom) cannot be opened")]
    Rng(#[source] io::Error),
    /// The file for the serial console.
    #[error("The serial console's output {} cannot be written", path.display())]
    SerialOutput {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Standard output.
    #[error("Standard output cannot be set up for the serial console")]
    StandardOutput(#[source] io::Error),
    /// RLIMIT_MEMLOCK.
    #[error(transparent)]
    Memlock(#[from] secretmem::memlock::Error),
    /// Not enough memory on the host, or in this process's control group.
    #[error(transparent)]
    Room(#[from] room::Error),
}

/// What preflight has opened and decided, for the builder to use.
pub struct Prepared {
    /// The checked kernel image.
    pub kernel: Kernel,
    /// The initrd, if any.
    pub initrd: Option<Initrd>,
    /// Where both go.
    pub plan: Plan,
    /// The open /dev/kvm.
    pub kvm: Kvm,
    /// Virtio devices.
    pub devices: Opened,
    /// Where the serial console goes.
    pub output: File,
}

/// Checks files, KVM, secret memory, limits and free memory, in this order.
pub fn run(config: &VmConfig, mmds: &SharedMmds) -> Result<Prepared, Error> {
    let kernel = Kernel::open(&config.kernel)?;
    let initrd = config.initrd.as_deref().map(Initrd::open).transpose()?;
    loader::check_cmdline(&config.full_cmdline(), kernel.cmdline_limit())?;
    let plan = Plan::new(&kernel, initrd.as_ref().map(Initrd::size), config.mem_size)?;
    let devices = open_devices(config, mmds)?;
    let output = open_output(config)?;
    let kvm = kvm::open()?;
    kvm::check(&kvm, config.cpus)?;
    if let RamKind::Secret(options) = config.backing {
        // First: a kernel whose secret memory is switched off does not show the capability either.
        secretmem::probe()?;
        check_series(kvm::secretmem_features(&kvm), options.pool)?;
        secretmem::memlock::make_room(config.mem_size)?;
    }
    room::check(config.mem_size, config.backing)?;
    Ok(Prepared { kernel, initrd, plan, kvm, devices, output })
}

/// Opens what the devices need of the host.
fn open_devices(config: &VmConfig, mmds: &SharedMmds) -> Result<Opened, Error> {
    let rng = config.entropy.as_ref().map(Rng::open).transpose().map_err(Error::Rng)?;
    let drives = config.drives.iter().map(|drive| Ok((drive.drive_id.clone(), Block::open(drive)?)));
    let networks = config.networks.iter().map(|network| {
        let net = Net::open(network)?;
        net.warn_of_mtu(network);
        let net = if config.mmds.is_some() { net.with_mmds(mmds.clone())? } else { net };
        Ok((network.iface_id.clone(), net))
    });
    Ok(Opened {
        drives: drives.collect::<Result<_, block::Error>>()?,
        networks: networks.collect::<Result<_, net::Error>>()?,
        vsock: config.vsock.as_ref().map(Vsock::open).transpose()?,
        rng,
    })
}

fn open_output(config: &VmConfig) -> Result<File, Error> {
    match &config.serial.serial_out_path {
        Some(path) => lines::open(path).map_err(|source| Error::SerialOutput { path: path.clone(), source }),
        None => io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(Error::StandardOutput),
    }
}

fn check_series(features: u32, pool: Pool) -> Result<(), Error> {
    let needed = kvm::SECRETMEM_MEMSLOT
        | kvm::SECRETMEM_PFNCACHE
        | kvm::SECRETMEM_HUGE
        | kvm::SECRETMEM_EXCLUSIVE
        | kvm::SECRETMEM_IMAGE;
    match features {
        0 => Err(Error::NoSecretGuests),
        some if some & needed != needed => Err(Error::PartOfTheSeries(some)),
        some if pool == Pool::Boot && some & kvm::SECRETMEM_POOL == 0 => Err(Error::NoPool),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmds::Mmds;
    use std::sync::{Arc, Mutex};

    #[test]
    fn check_series_names_what_is_missing() {
        assert!(matches!(check_series(0, Pool::Auto), Err(Error::NoSecretGuests)));
        assert!(matches!(check_series(0b111, Pool::Auto), Err(Error::PartOfTheSeries(7))));
        assert!(check_series(0b110_1111, Pool::Auto).is_ok());
        assert!(matches!(check_series(0b110_1111, Pool::Boot), Err(Error::NoPool)));
        assert!(check_series(0b111_1111, Pool::Boot).is_ok());
    }

    #[test]
    fn run_kernel_is_looked_at_first() {
        let config = VmConfig::new("/nonexistent/bzImage".into());
        assert!(matches!(
            run(&config, &Arc::new(Mutex::new(Mmds::new(0)))),
            Err(Error::Loader(loader::Error::Read { .. }))
        ));
    }
}
