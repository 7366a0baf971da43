// SPDX-License-Identifier: Apache-2.0
//! A device that is given the memory through iommufd (Documentation/userspace-api/iommufd.rst), as VFIO's users do, and
//! copies it: QEMU's edu device (its docs/specs/edu.txt), behind an emulated IOMMU.
//!
//! The iommufd is the target's, since memory is pinned for the process that maps it; all else is ours.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use crate::area::Area;
use crate::probes::{Outcome, Subject};
use crate::sys::ioctl;
use crate::tracee::Tracee;

const DEVICES: &str = "/sys/bus/pci/devices";
const EDU: (&str, &str) = ("0x1234", "0x11e8");

/// include/uapi/linux/vfio.h.
const VFIO_DEVICE_GET_REGION_INFO: u64 = 0x3b6c;
const VFIO_DEVICE_BIND_IOMMUFD: u64 = 0x3b76;
const VFIO_DEVICE_ATTACH_IOMMUFD_PT: u64 = 0x3b77;
const BAR0: u32 = 0;
const CONFIG: u32 = 7;
/// include/uapi/linux/iommufd.h.
const IOMMU_IOAS_ALLOC: u64 = 0x3b81;
const IOMMU_IOAS_MAP: u64 = 0x3b85;
const FIXED_WRITEABLE_READABLE: u32 = 7;

const PCI_COMMAND: u64 = 4;
const MEMORY_AND_MASTER: u16 = 6;

/// Registers of the device, and its buffer; a copy may not reach the buffer's end.
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const BUFFER: u32 = 0x4_0000;
const RUN: u32 = 1;
const TO_MEMORY: u32 = 2;
const PART: u32 = 2048;

/// Where the device sees the target's page, and ours.
const THEIRS: u32 = 0x10_0000;
const OURS: u32 = 0x20_0000;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let mut tracee = Tracee::attach(subject.pid())?;
    let number = tracee.open("/dev/iommu", libc::O_RDWR)?;
    let outcome = copy(&mut tracee, number, subject);
    tracee.close(number)?;
    outcome
}

fn copy(tracee: &mut Tracee, number: u64, subject: &Subject<'_>) -> Result<Outcome> {
    let iommu = tracee.take(number)?;
    let device = Edu::open(&iommu)?;
    let theirs = tracee.put(&map(device.space, subject.planted[0], THEIRS))?;
    if let Err(errno) = tracee.call(libc::SYS_ioctl, &[number, IOMMU_IOAS_MAP, theirs])? {
        return Ok(Outcome::refused(errno));
    }
    let ours = Area::ordinary(PAGE_SIZE)?;
    ioctl(&iommu, IOMMU_IOAS_MAP, &mut map(device.space, ours.address(), OURS)).context("Our own page is refused")?;
    for at in (0..PAGE_SIZE as u32).step_by(PART as usize) {
        device.order(THEIRS + at, BUFFER, RUN)?;
        device.order(BUFFER, OURS + at, RUN | TO_MEMORY)?;
    }
    let mut page = [0; PAGE_SIZE];
    ours.get(0, &mut page);
    Ok(subject.judge(&page))
}

/// struct iommu_ioas_map for one page.
fn map(space: u32, address: u64, iova: u32) -> Vec<u8> {
    let words = [40, FIXED_WRITEABLE_READABLE, space, 0].map(u32::to_le_bytes).concat();
    [words, [address, PAGE_SIZE as u64, iova.into()].map(u64::to_le_bytes).concat()].concat()
}

/// The device, in an address space that is empty at first.
struct Edu {
    file: File,
    registers: u64,
    /// The address space's number.
    space: u32,
}

impl Edu {
    fn open(iommu: &File) -> Result<Self> {
        let node = node()?;
        let file = OpenOptions::new().read(true).write(true).open(&node);
        let file = file.with_context(|| format!("Cannot open {}", node.display()))?;
        let iommufd = iommu.as_raw_fd().cast_unsigned();
        let bound = ioctl(&file, VFIO_DEVICE_BIND_IOMMUFD, &mut [16, 0, iommufd, 0].map(u32::to_le_bytes).concat());
        bound.context("The device is not bound to the iommufd")?;
        let mut space = [12u32, 0, 0].map(u32::to_le_bytes).concat();
        ioctl(iommu, IOMMU_IOAS_ALLOC, &mut space).context("No address space for devices")?;
        let space = u32::from_le_bytes(space[8..12].try_into()?);
        let attached = ioctl(&file, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &mut [12, 0, space].map(u32::to_le_bytes).concat());
        attached.context("The device does not get the address space")?;
        let config = region(&file, CONFIG)?;
        file.write_all_at(&MEMORY_AND_MASTER.to_le_bytes(), config + PCI_COMMAND)?;
        Ok(Edu { registers: region(&file, BAR0)?, file, space })
    }

    /// Has it copy [`PART`] bytes and waits for the end: it takes 100 ms.
    fn order(&self, from: u32, to: u32, command: u32) -> Result<()> {
        for (register, value) in [(SOURCE, from), (DESTINATION, to), (COUNT, PART), (COMMAND, command)] {
            self.file.write_all_at(&value.to_le_bytes(), self.registers + register)?;
        }
        for _ in 0..500 {
            sleep(Duration::from_millis(20));
            let mut now = [0; 4];
            self.file.read_exact_at(&mut now, self.registers + COMMAND)?;
            if u32::from_le_bytes(now) & RUN == 0 {
                return Ok(());
            }
        }
        bail!("The device does not end its copy")
    }
}

/// Where a region of the device begins in its file (struct vfio_region_info).
fn region(file: &File, index: u32) -> Result<u64, Errno> {
    let mut info = [32, 0, index, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
    ioctl(file, VFIO_DEVICE_GET_REGION_INFO, &mut info)?;
    let offset = info[24..32].try_into().map_err(|_| Errno::EINVAL)?;
    Ok(u64::from_le_bytes(offset))
}

/// The device's file, after it was given to vfio-pci.
fn node() -> Result<PathBuf> {
    let device = find()?;
    fs::write(device.join("driver_override"), "vfio-pci").context("The device takes no other driver")?;
    if !device.join("driver").exists() {
        let name = device.file_name().context("A device without name")?;
        fs::write("/sys/bus/pci/drivers_probe", name.as_encoded_bytes())
            .context("vfio-pci does not take the device")?;
    }
    let mut names = fs::read_dir(device.join("vfio-dev")).context("The device is not vfio-pci's")?;
    let entry = names.next().context("The device has no number")??;
    Ok(Path::new("/dev/vfio/devices").join(entry.file_name()))
}

fn find() -> Result<PathBuf> {
    for entry in fs::read_dir(DEVICES).with_context(|| format!("Cannot list {DEVICES}"))? {
        let path = entry?.path();
        let is = |name, number| fs::read_to_string(path.join(name)).is_ok_and(|text: String| text.trim() == number);
        if is("vendor", EDU.0) && is("device", EDU.1) {
            ensure!(path.join("iommu_group").exists(), "The device is behind no IOMMU");
            return Ok(path);
        }
    }
    bail!("The host has no edu device (cargo xtask host --dma)")
}
