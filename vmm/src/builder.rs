// SPDX-License-Identifier: Apache-2.0
//! One linear recipe, from a checked configuration to a VM that can be started.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use kvm_ioctls::{Cap, Kvm, VmFd};

use crate::arch::x86_64::boot_params::{self, BootInfo};
use crate::arch::x86_64::cpuid::{self, Topology};
use crate::arch::x86_64::regs::{self, Entry};
use crate::arch::x86_64::{self, acpi, msr, reset_vector};
use crate::attestation::{self, Measured};
use crate::bus::{self, Buses, PortBus};
use crate::config::{Resolved, VmConfig};
use crate::control::Control;
use crate::devices::virtio::{self, VirtioDevices};
use crate::devices::{AcpiPm, BootTimer, I8042, Platform, PowerButton, Pvpanic, SerialConsole, acpi_pm};
use crate::kvm::{self, Vcpu};
use crate::layout;
use crate::loader::{self, Kernel};
use crate::memory::{self, GuestMemory, GuestRam};
use crate::preflight::Prepared;
use crate::vmm::Vmm;

/// What can go wrong while a VM is built. The guest has not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    /// Loading the kernel, initrd or command line.
    #[error(transparent)]
    Loader(#[from] loader::Error),
    /// The configuration cannot be measured.
    #[error(transparent)]
    Measure(#[from] attestation::Error),
    /// Registers, CPUID and tables.
    #[error(transparent)]
    Arch(#[from] x86_64::Error),
    /// Two devices on one port.
    #[error(transparent)]
    Bus(#[from] bus::Overlap),
    /// A virtio device.
    #[error(transparent)]
    Virtio(#[from] virtio::AttachError),
    /// Standard output or an event descriptor.
    #[error("Console could not be set up")]
    Console(#[source] io::Error),
    /// KVM did not say what it supports, or create a vCPU.
    #[error("KVM could not {what}")]
    Vcpu {
        /// What was being done.
        what: &'static str,
        /// The kernel's answer.
        source: kvm_ioctls::Error,
    },
}

/// Builds the VM: memory, memslots, contents, interrupts, devices, tables, vCPUs. Its threads obey `control`. With it
/// comes what was measured, if somebody wants it.
pub fn build(config: &Resolved, prepared: Prepared, control: Arc<Control>) -> Result<(Vmm, Option<Measured>), Error> {
    let begun = Instant::now();
    let Prepared { mut kernel, mut initrd, plan, kvm, devices, output } = prepared;
    let ram = GuestRam::create(config.backing, config.mem_size)?;
    let memory = ram.memory();
    let vm = kvm::create(&kvm, memory)?;
    let cmdline = config.full_cmdline();
    plan.load(memory, &mut kernel, initrd.as_mut(), &cmdline)?;
    let measured = if config.start.measured {
        Some(Measured::new(plan.measure(memory, &kernel, &cmdline)?, config)?)
    } else {
        None
    };
    let platform = platform(&vm, output, config, &control)?;
    let mut buses = Buses { ports: port_bus(&platform, &control)?, ..Buses::default() };
    if config.start.boot_timer {
        buses.mmio.insert(layout::BOOT_TIMER, 1, Arc::new(BootTimer::new(begun)))?;
    }
    let devices = VirtioDevices::attach(devices, &vm, memory, &mut buses.mmio)?;
    let buses = Arc::new(buses);
    acpi::write_tables(memory, config.cpus, devices.slots())?;
    reset_vector::write(memory)?;
    let entry = write_boot_info(memory, &kernel, &BootInfo { ram: config.mem_size, initrd: plan.initrd })?;
    let vcpus = vcpus(&kvm, &vm, config.cpus, entry)?;
    let vcpus = vcpus.into_iter().map(|(id, fd)| Vcpu::new(id, fd, buses.clone(), control.clone())).collect();
    kvm::install_kick_handler()?;
    Ok((Vmm::new(vcpus, control, platform, devices, vm, ram), measured))
}

fn platform(vm: &VmFd, output: File, config: &VmConfig, control: &Arc<Control>) -> Result<Platform, Error> {
    let interrupt = kvm::connect_irq(vm, layout::COM1_GSI)?;
    let console = SerialConsole::new(interrupt, output).map_err(Error::Console)?;
    if let Some(limit) = config.serial.rate_limiter {
        console.limit(limit).map_err(Error::Console)?;
    }
    let keyboard = I8042::new(control.clone(), kvm::connect_irq(vm, layout::KEYBOARD_GSI)?);
    let power_button = PowerButton::new(kvm::connect_irq(vm, layout::POWER_BUTTON_GSI)?);
    Ok(Platform { console: Arc::new(console), keyboard: Arc::new(keyboard), power_button })
}

fn port_bus(platform: &Platform, control: &Arc<Control>) -> Result<PortBus, Error> {
    let mut bus = PortBus::default();
    bus.insert(layout::COM1_PORT, SerialConsole::PORTS, platform.console.clone())?;
    bus.insert(layout::I8042_PORT, I8042::PORTS, platform.keyboard.clone())?;
    bus.insert(layout::PVPANIC_PORT, Pvpanic::PORTS, Arc::new(Pvpanic::new(control.clone())))?;
    bus.insert(layout::ACPI_PM_PORT, acpi_pm::PORTS, Arc::new(AcpiPm::new(control.clone())))?;
    Ok(bus)
}

/// Writes what the kernel reads first, by the protocol of its format.
fn write_boot_info(memory: &GuestMemory, kernel: &Kernel, info: &BootInfo) -> Result<Entry, Error> {
    let entry = match kernel {
        Kernel::BzImage(image) => {
            boot_params::write_zero_page(memory, image.header(), info)?;
            Entry::Long(image.entry())
        }
        Kernel::Elf(image) => {
            boot_params::write_pvh_info(memory, info)?;
            Entry::Pvh(image.entry())
        }
    };
    regs::write_boot_tables(memory, entry)?;
    Ok(entry)
}

/// Creates all vCPUs. The first one starts at `entry`; the others wait for its INIT and SIPI.
fn vcpus(kvm: &Kvm, vm: &VmFd, cpus: u8, entry: Entry) -> Result<Vec<(u8, kvm_ioctls::VcpuFd)>, Error> {
    let error = |what| move |source| Error::Vcpu { what, source };
    let supported = kvm.get_supported_cpuid(cpuid::MAX_ENTRIES).map_err(error("list its CPUID leaves"))?;
    let topology = Topology { cpus, tsc_deadline: kvm.check_extension(Cap::TscDeadlineTimer) };
    let mut vcpus = Vec::new();
    for id in 0..cpus {
        let fd = vm.create_vcpu(u64::from(id)).map_err(error("create a vCPU"))?;
        kvm::enforce_features(kvm, &fd);
        cpuid::set_cpuid(&fd, &supported, topology, id)?;
        msr::set_boot_msrs(&fd)?;
        regs::set_fpu(&fd)?;
        if let Some(mask) = cpuid::xcr0_mask(&supported) {
            regs::set_xcr0(&fd, mask)?;
        }
        regs::set_local_apic(&fd)?;
        vcpus.push((id, fd));
    }
    if let Some((_, boot)) = vcpus.first() {
        regs::set_boot_registers(boot, entry)?;
    }
    Ok(vcpus)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    /// What a hostile guest can do with ports: any port, any width, any byte.
    #[test]
    fn port_bus_any_access_is_harmless() {
        let control = Control::new().unwrap();
        let output = || File::options().write(true).open("/dev/null").unwrap();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let platform = Platform {
            console: Arc::new(SerialConsole::new(event(), output()).unwrap()),
            keyboard: Arc::new(I8042::new(control.clone(), event())),
            power_button: PowerButton::new(event()),
        };
        let bus = port_bus(&platform, &control).unwrap();
        for port in 0..=u16::MAX {
            for byte in [0, 1, 0x34, 0x55, 0xfe, 0xff] {
                for width in [1, 2, 4] {
                    bus.write(port, &[byte; 4][..width]);
                    bus.read(port, &mut [byte; 4][..width]);
                }
            }
        }
        assert!(control.outcome().is_some(), "some of that asked for a reset");
    }
}
