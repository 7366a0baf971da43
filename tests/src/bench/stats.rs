//! KVM's statistics of a VM, read from the descriptor that `KVM_GET_STATS_FD` gives (Documentation/virt/kvm/api.rst).
#![allow(unsafe_code)] // kvm-ioctls has no wrapper for KVM_GET_STATS_FD.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use kvm_ioctls::VmFd;
use nix::errno::Errno;

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;
/// Bytes of `struct kvm_stats_header`, and of `struct kvm_stats_desc` before its name.
const HEADER: usize = 24;
const DESCRIPTOR: usize = 16;
/// Where the descriptor has its value's offset in the data block.
const VALUE_OFFSET: usize = 8;

/// A VM's statistics.
pub struct Stats {
    file: File,
}

impl Stats {
    /// Opens them.
    ///
    /// # Errors
    /// The kernel is older than 5.14.
    pub fn of(vm: &VmFd) -> Result<Self> {
        // SAFETY: the ioctl takes no argument, and the VM's descriptor is open.
        let fd = unsafe { libc::ioctl(vm.as_raw_fd(), KVM_GET_STATS_FD, 0) };
        let fd = Errno::result(fd).context("KVM_GET_STATS_FD failed")?;
        // SAFETY: the call has just returned this descriptor to us alone.
        Ok(Stats { file: unsafe { File::from_raw_fd(fd) } })
    }

    /// The value of the statistic `name` at this moment.
    ///
    /// # Errors
    /// This kernel does not have it.
    pub fn value(&self, name: &str) -> Result<u64> {
        let header = self.read(0, HEADER)?;
        let field = |at| word(&header, at).map(|value| value as usize);
        let (name_size, count) = (field(4)?, field(8)?);
        let (descriptors, data) = (field(16)?, field(20)?);
        for index in 0..count {
            let descriptor = self.read(descriptors + index * (DESCRIPTOR + name_size), DESCRIPTOR + name_size)?;
            if is_named(&descriptor, name) {
                let value = self.read(data + word(&descriptor, VALUE_OFFSET)? as usize, 8)?;
                return Ok(u64::from_ne_bytes(value.try_into().unwrap_or_default()));
            }
        }
        Err(anyhow::anyhow!("KVM has no statistic {name}"))
    }

    fn read(&self, offset: usize, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset as u64).context("Cannot read KVM's statistics")?;
        Ok(bytes)
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_ne_bytes).context("KVM's statistics are cut short")
}

/// Whether the name at the end of a descriptor, padded with zeros, is `name`.
fn is_named(descriptor: &[u8], name: &str) -> bool {
    let padded = descriptor.get(DESCRIPTOR..).unwrap_or_default();
    padded.split(|byte| *byte == 0).next() == Some(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_named_compares_up_to_the_padding() {
        let mut descriptor = vec![7; DESCRIPTOR];
        descriptor.extend(b"pages_2m\0\0\0\0");
        assert!(is_named(&descriptor, "pages_2m"));
        assert!(!is_named(&descriptor, "pages_2"));
        assert!(!is_named(&[], "pages_2m"));
    }
}
