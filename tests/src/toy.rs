// SPDX-License-Identifier: Apache-2.0
//! The smallest guest there is: a few instructions, no VMM but KVM itself. It shows what a host kernel does with a
//! memslot on secret memory, before any of `secretvmm`'s own checks.
#![allow(unsafe_code)] // It gives KVM a mapping by address.

use anyhow::{Context, Result, bail};
use kvm_bindings::{kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use nix::errno::Errno;

use crate::area::Area;
use crate::secret;

const LENGTH: usize = secret::HUGE_SIZE;
/// Where a program lies and runs, in real mode, unless two VMs share the memory.
pub const ENTRY: u16 = 0x1000;
const KVM_CAP_SECRETMEM: u64 = 0x534d_454d;
const KVM_SECRETMEM_MEMSLOT: i32 = 1 << 0;

/// What a toy guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `hlt`.
    Halt,
    /// `mov byte [ds:0], 1; hlt`: writes to the page that it is told.
    Write,
    /// `inc byte [ds:0]; jmp` back: writes there for good.
    Spin,
}

/// The memory behind the toy guest of [`run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ram {
    /// `memfd_secret(2)` as the kernel has it.
    Secret,
    /// Anonymous memory: the control.
    Anonymous,
}

/// How a run of the toy guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest executed its HLT.
    Halted,
    /// `KVM_RUN` failed.
    Failed(Errno),
}

/// A VM with one vCPU in real mode. Its memory begins at guest address 0.
pub struct ToyVm<'a> {
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: &'a Area,
    entry: u16,
}

/// Whether the kernel says that memslots on secret memory run (kernel-patches/README.md, `KVM_CAP_SECRETMEM`).
///
/// # Errors
/// There is no KVM.
pub fn secret_promised() -> Result<bool> {
    let features = Kvm::new().context("Cannot open /dev/kvm")?.check_extension_raw(KVM_CAP_SECRETMEM);
    Ok(features & KVM_SECRETMEM_MEMSLOT != 0)
}

/// Runs one HLT on the given memory.
///
/// # Errors
/// Anything but the run itself failed.
pub fn run(backing: Ram) -> Result<Outcome> {
    let memory = match backing {
        Ram::Anonymous => Area::ordinary(LENGTH),
        Ram::Secret => secret::file(0, LENGTH).and_then(|file| Area::of_file(&file, LENGTH)),
    };
    let memory = memory.context("Cannot map the toy guest's memory")?;
    ToyVm::on(&memory)?.run(Program::Halt, 0)
}

impl Program {
    fn code(self) -> &'static [u8] {
        match self {
            Self::Halt => &[0xf4],
            Self::Write => &[0xc6, 0x06, 0, 0, 1, 0xf4],
            Self::Spin => &[0xfe, 0x06, 0, 0, 0xeb, 0xfa],
        }
    }
}

impl<'a> ToyVm<'a> {
    /// Creates the VM; nothing of its memory is touched.
    ///
    /// # Errors
    /// There is no KVM, or it refuses the memslot.
    pub fn on(memory: &'a Area) -> Result<Self> {
        let vm = Kvm::new().context("Cannot open /dev/kvm")?.create_vm().context("Cannot create a VM")?;
        let slot = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: memory.length() as u64,
            userspace_addr: memory.address(),
        };
        // SAFETY: the mapping outlives the VM, which borrows it, and no Rust object is in it.
        unsafe { vm.set_user_memory_region(slot) }.context("Cannot add the memslot")?;
        let vcpu = vm.create_vcpu(0).context("Cannot create a vCPU")?;
        Ok(ToyVm { vcpu, _vm: vm, memory, entry: ENTRY })
    }

    /// Lets it run somewhere else.
    pub fn entered_at(mut self, entry: u16) -> Self {
        self.entry = entry;
        self
    }

    /// Loads a program, which touches a page, and runs it on the page at `data`, a guest address below 4 GiB.
    ///
    /// # Errors
    /// The guest did something else than its program.
    pub fn run(&mut self, program: Program, data: u64) -> Result<Outcome> {
        self.memory.put(usize::from(self.entry), program.code());
        self.start(data)?;
        ended(self.vcpu.run())
    }

    /// Loads instructions and runs them up to their HLT. What they write at `data` has to be outside of the memory, so
    /// that KVM emulates each; it is lost.
    ///
    /// # Errors
    /// The guest did something else.
    pub fn run_emulated(&mut self, code: &[u8], data: u64) -> Result<Outcome> {
        self.memory.put(usize::from(self.entry), code);
        self.start(data)?;
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioWrite(..)) => {}
                exit => return ended(exit),
            }
        }
    }

    /// Halts with these general registers, in the order of their numbers in instructions.
    ///
    /// # Errors
    /// The guest did something else.
    pub fn run_with_registers(&mut self, registers: [u64; 16]) -> Result<Outcome> {
        self.memory.put(usize::from(self.entry), Program::Halt.code());
        self.start(0)?;
        let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = registers;
        let general = kvm_regs {
            rax,
            rcx,
            rdx,
            rbx,
            rsp,
            rbp,
            rsi,
            rdi,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            ..self.vcpu.get_regs()?
        };
        self.vcpu.set_regs(&general)?;
        ended(self.vcpu.run())
    }

    fn start(&self, data: u64) -> Result<()> {
        let mut system = self.vcpu.get_sregs()?;
        system.cs.base = 0;
        system.cs.selector = 0;
        system.ds.base = data;
        self.vcpu.set_sregs(&system)?;
        let mut general = self.vcpu.get_regs()?;
        general.rip = self.entry.into();
        general.rflags = 2;
        Ok(self.vcpu.set_regs(&general)?)
    }
}

fn ended(exit: Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Result<Outcome> {
    match exit {
        Ok(VcpuExit::Hlt) => Ok(Outcome::Halted),
        Ok(exit) => bail!("The toy guest left with {exit:?} instead of HLT"),
        Err(error) => Ok(Outcome::Failed(Errno::from_raw(error.errno()))),
    }
}
