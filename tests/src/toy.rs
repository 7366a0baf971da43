//! The smallest guest there is: one instruction, no VMM but KVM itself. It shows what a host kernel does with a memslot
//! on secret memory, before any of `secretvmm`'s own checks.
#![allow(unsafe_code)] // It gives KVM a mapping by address.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use anyhow::{Context, Result, bail};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

const LENGTH: NonZeroUsize = NonZeroUsize::new(1 << 21).unwrap();
/// Where the instruction lies and runs, in real mode.
const ENTRY: u64 = 0x1000;
const HLT: u8 = 0xf4;
const KVM_CAP_SECRETMEM: u64 = 0x534d_454d;
const KVM_SECRETMEM_MEMSLOT: i32 = 1 << 0;

/// The memory behind the toy guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// `memfd_secret(2)` as the kernel has it.
    Secret,
    /// Anonymous memory: the control.
    Anonymous,
}

/// How the toy guest's only run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest executed its HLT.
    Halted,
    /// `KVM_RUN` failed.
    Failed(Errno),
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
pub fn run(backing: Backing) -> Result<Outcome> {
    let memory = Memory::map(backing)?;
    let vm = Kvm::new().context("Cannot open /dev/kvm")?.create_vm().context("Cannot create a VM")?;
    let slot = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: LENGTH.get() as u64,
        userspace_addr: memory.0.as_ptr().addr() as u64,
    };
    // SAFETY: the mapping outlives the VM (it is dropped after it) and nothing else uses it while the guest runs.
    unsafe { vm.set_user_memory_region(slot) }.context("Cannot add the memslot")?;
    let mut vcpu = vm.create_vcpu(0).context("Cannot create a vCPU")?;
    start_at_entry(&vcpu)?;
    match vcpu.run() {
        Ok(VcpuExit::Hlt) => Ok(Outcome::Halted),
        Ok(exit) => bail!("The toy guest left with {exit:?} instead of HLT"),
        Err(error) => Ok(Outcome::Failed(Errno::from_raw(error.errno()))),
    }
}

fn start_at_entry(vcpu: &VcpuFd) -> Result<()> {
    let mut system = vcpu.get_sregs()?;
    system.cs.base = 0;
    system.cs.selector = 0;
    vcpu.set_sregs(&system)?;
    let mut general = vcpu.get_regs()?;
    general.rip = ENTRY;
    general.rflags = 2;
    Ok(vcpu.set_regs(&general)?)
}

/// A shared mapping with the HLT in it.
struct Memory(NonNull<u8>);

impl Memory {
    fn map(backing: Backing) -> Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let address = match backing {
            // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
            Backing::Anonymous => unsafe { mmap_anonymous(None, LENGTH, access, MapFlags::MAP_SHARED) },
            // SAFETY: as above.
            Backing::Secret => unsafe { mmap(None, LENGTH, access, MapFlags::MAP_SHARED, secret_fd()?, 0) },
        }
        .context("Cannot map the toy guest's memory")?;
        let memory = Memory(address.cast());
        // SAFETY: ENTRY lies inside the mapping, which is writable and ours.
        unsafe { memory.0.as_ptr().add(ENTRY as usize).write_volatile(HLT) };
        Ok(memory)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, has this length, and the VM that used it is gone.
        let _ = unsafe { munmap(self.0.cast(), LENGTH.get()) };
    }
}

fn secret_fd() -> Result<OwnedFd> {
    // SAFETY: the call takes flags only.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = Errno::result(fd).context("memfd_secret failed")?;
    // SAFETY: the call has just returned this descriptor to us alone.
    let file = unsafe { File::from_raw_fd(i32::try_from(fd)?) };
    file.set_len(LENGTH.get() as u64).context("Cannot size the secret memory")?;
    Ok(file.into())
}
