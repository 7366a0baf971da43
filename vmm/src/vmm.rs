// SPDX-License-Identifier: Apache-2.0
//! A VM and its life.
//!
//! ```text
//!                 start            pause
//!   Configured ----------> Running -----> Paused
//!        |                    |   <------    |
//!        |                    |    resume    |
//!        +--------- stop -----+------ stop --+----> Stopped
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use kvm_ioctls::VmFd;
use secretvmm_api::{KernelMemory, MemoryBackend, MemoryInfo, MemorySlot};
use vm_memory::GuestMemoryBackend;

use crate::control::{Command, Control};
use crate::devices::virtio::VirtioDevices;
use crate::devices::{KeyboardOff, Platform, SerialConsole};
use crate::kvm::{self, Vcpu, VcpuThread};
use crate::memory::{GuestRam, Populating};
use crate::sandbox::{self, Files, Sandbox, Thread};

/// How long vCPUs may take to leave the guest and the devices for good.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Where a VM stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Built, its vCPUs not started.
    Configured,
    /// vCPU threads are in the guest.
    Running,
    /// vCPU threads wait.
    Paused,
    /// vCPU threads are gone. Final.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "not started yet",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// Why a VM would not change its state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not from this state.
    #[error("A VM that is {state} cannot be {action}")]
    WrongState {
        /// Where it stands.
        state: State,
        /// What was asked: "started", "paused", "resumed".
        action: &'static str,
    },
    /// vCPU threads could not be started.
    #[error("vCPUs could not be started")]
    Start(#[from] kvm::Error),
    /// The main thread could not be confined.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A vCPU would not leave the guest.
    #[error("A vCPU waits for the host and cannot be paused; see whether a disk of the host hangs, and try again")]
    Busy,
}

/// A VM. Dropping it stops it; the fields below are given up in their order, memory last.
pub struct Vmm {
    state: State,
    threads: Vec<VcpuThread>,
    /// Present until [`Self::start`].
    vcpus: Vec<Vcpu>,
    control: Arc<Control>,
    platform: Platform,
    devices: VirtioDevices,
    vm: VmFd,
    populating: Populating,
    ram: GuestRam,
    own_core: bool,
}

impl Vmm {
    /// A VM in [`State::Configured`].
    pub(crate) fn new(
        vcpus: Vec<Vcpu>,
        control: Arc<Control>,
        platform: Platform,
        devices: VirtioDevices,
        vm: VmFd,
        ram: GuestRam,
    ) -> Self {
        let (state, threads, populating) = (State::Configured, Vec::new(), Populating::default());
        Self { state, threads, vcpus, control, platform, devices, vm, populating, ram, own_core: false }
    }

    /// Where the VM stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What vCPU threads and the main thread share.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// The serial console.
    pub fn console(&self) -> &Arc<SerialConsole> {
        &self.platform.console
    }

    /// Asks the guest to shut down, by its keyboard.
    ///
    /// # Errors
    /// It does not listen.
    pub fn press_ctrl_alt_del(&self) -> Result<(), KeyboardOff> {
        self.platform.keyboard.press_ctrl_alt_del()
    }

    /// Asks the guest to shut down, by its power button.
    pub fn press_power_button(&self) {
        self.platform.power_button.press();
    }

    /// The virtio devices.
    pub fn devices(&self) -> &VirtioDevices {
        &self.devices
    }

    /// Whether its vCPUs share a core with each other only.
    pub fn has_own_core(&self) -> bool {
        self.own_core
    }

    /// Guest RAM.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// What KVM says that it can do with secret memory: a mask of `SECRETMEM_*`.
    pub fn secretmem_features(&self) -> u32 {
        kvm::secretmem_features_of_vm(&self.vm)
    }

    /// What guest RAM is made of, and what the kernel says of it at this moment.
    ///
    /// # Errors
    /// /proc is not there.
    pub fn memory_info(&self) -> io::Result<MemoryInfo> {
        let kernel = self.ram.kernel_info()?;
        let slots = self.ram.memory().iter().map(|region| region.slot());
        Ok(MemoryInfo {
            backing: if kernel.is_some() { MemoryBackend::Secret } else { MemoryBackend::Shared },
            slots: slots.map(|slot| MemorySlot { gpa: slot.gpa, size: slot.size }).collect(),
            kernel: kernel.map(|info| KernelMemory {
                pages: info.pages,
                direct_mapped: info.direct_mapped,
                aliases: info.aliases,
                huge: info.huge,
                pool: info.pool,
            }),
        })
    }

    /// Starts the vCPU threads, and confines them and the calling thread before any of them enters the guest.
    /// The calling thread can then open `files` only.
    pub fn start(&mut self, sandbox: Sandbox, files: &Files) -> Result<(), Error> {
        self.expect(State::Configured, "started")?;
        // Before files are given up: it looks into /sys.
        self.own_core = sandbox.own_core();
        sandbox.confine_files(files)?;
        for vcpu in std::mem::take(&mut self.vcpus) {
            self.threads.push(vcpu.spawn(sandbox)?);
        }
        // Keys are in this thread's registers.
        sandbox.leave_core();
        self.populating = self.ram.populate_beside_guest(sandbox).map_err(kvm::Error::Thread)?;
        // After the threads, which would have inherited it.
        sandbox.confine(Thread::Main)?;
        self.control.set(Command::Run);
        self.state = State::Running;
        Ok(())
    }

    /// Takes all vCPUs out of the guest, and the devices' hands off its memory; returns when they are. If one cannot be had within a
    /// second, all go on.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.expect(State::Running, "paused")?;
        self.control.set(Command::Pause);
        for _ in 0..100 {
            self.kick();
            // A vCPU that ended the VM in the meantime will not park any more.
            if self.control.wait_parked(self.threads.len()) || self.control.command() == Command::Stop {
                self.devices.host_sides().iter().for_each(|side| side.pause());
                self.state = State::Paused;
                return Ok(());
            }
        }
        self.control.set(Command::Run);
        Err(Error::Busy)
    }

    /// Lets all vCPUs go on.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.expect(State::Paused, "resumed")?;
        self.devices.host_sides().iter().for_each(|side| side.resume());
        self.control.set(Command::Run);
        self.state = State::Running;
        Ok(())
    }

    /// Ends the vCPU threads and waits for them, for [`STOP_LIMIT`] at most. From any state; a second call does
    /// nothing.
    pub fn stop(&mut self) {
        if self.state == State::Stopped {
            return;
        }
        self.control.set(Command::Stop);
        let deadline = Instant::now() + STOP_LIMIT;
        // Again and again: a thread may have been just before a call that waits.
        while !self.threads.iter().all(VcpuThread::is_finished) && Instant::now() < deadline {
            self.kick();
            std::thread::sleep(Duration::from_millis(1));
        }
        for thread in self.threads.extract_if(.., |thread| thread.is_finished()) {
            thread.join();
        }
        if self.is_stuck() {
            log::error!(
                "{} vCPUs did not stop within {STOP_LIMIT:?}, as the host does not answer them (a disk that hangs?); \
                 the process ends all the same",
                self.threads.len()
            );
        }
        self.vcpus.clear();
        self.populating = Populating::default();
        self.state = State::Stopped;
    }

    /// Whether threads of a VM that was stopped still wait for the host: its memory must not go before the process.
    pub fn is_stuck(&self) -> bool {
        !self.threads.is_empty()
    }

    fn kick(&self) {
        for thread in &self.threads {
            thread.kick();
        }
    }

    fn expect(&self, state: State, action: &'static str) -> Result<(), Error> {
        if self.state == state { Ok(()) } else { Err(Error::WrongState { state: self.state, action }) }
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        self.stop();
    }
}
