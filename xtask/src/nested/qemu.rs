// SPDX-License-Identifier: Apache-2.0
//! The machine that QEMU is asked for.

use std::ffi::OsString;
use std::fs;
use std::os::fd::RawFd;
use std::path::Path;
use std::process::Command;

use super::cpu::Cpu;
use super::inside;
use super::machine::MachineArgs;
use super::spec::Spec;

/// Always on the kernel command line. A panic ends QEMU (it resets, see
/// `-no-reboot`); an oops does not, so that tests can read about it.
///
/// The tolerance: an emulated CPU has no constant TSC, so built-in KVM keeps the first, coarse
/// calibration as the guests' frequency. When the refined one is off by more than 250 ppm, KVM
/// tries to scale, cannot, and leaves the multiplier at 0: the guests' timers never fire.
const COMMAND_LINE: &str =
    "console=ttyS0 panic=-1 no_timer_check tsc=reliable random.trust_cpu=on kvm.tsc_tolerance_ppm=100000";

/// With the IOMMU. Its interrupt remapping is left out of kernels, which then want to be told that a device whose user
/// can forge interrupts is accepted.
const IOMMU_COMMAND_LINE: &str = "intel_iommu=on iommufd.allow_unsafe_interrupts=1";

/// Files of one run.
pub(super) struct Files<'a> {
    pub(super) initramfs: &'a Path,
    /// What the machine's memory has at the start, if it is not zeroes.
    pub(super) memory: Option<&'a Path>,
    /// Where the kernel's serial console goes.
    pub(super) log: &'a Path,
    /// The channel's end for QEMU, inheritable.
    pub(super) channel: RawFd,
}

/// The command of the QEMU `program` for `spec`, which when it emulates runs on one CPU alone.
///
/// QEMU 7.2 changes a CPU's pending interrupts in VMRUN and #VMEXIT without the lock that its
/// timers and devices hold for it (target/i386/tcg/sysemu/svm_helper.c). An interrupt that arrives
/// in that instant is lost for good, and the nested host hangs within minutes. On one CPU the two
/// threads cannot meet: the change is one instruction.
pub(super) fn command(program: &Path, spec: &Spec, cpu: &Cpu, files: &Files<'_>) -> Command {
    let machine = &spec.machine;
    let kvm = kvm_nests(Path::new("/")) && !machine.icount;
    let mut qemu = if kvm {
        Command::new(program)
    } else {
        let mut taskset = Command::new("taskset");
        taskset.args(["--cpu-list", &cpu.number.to_string()]).arg(program);
        taskset
    };
    // The BIOS is a package of its own, which an emulator unpacked in the cache does not find by itself.
    qemu.args(["-L", "/usr/share/seabios"]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"]);
    qemu.args(accelerator(machine.icount, kvm));
    qemu.args(["-cpu", cpu_model(machine, kvm)]);
    qemu.args(["-m", &machine.mem, "-smp", &machine.smp.to_string()]);
    if let Some(path) = files.memory {
        let mut backend = joined("memory-backend-file,id=memory,share=off,mem-path=", path);
        backend.push(format!(",size={}", machine.mem));
        qemu.arg("-object").arg(backend).args(["-machine", "memory-backend=memory"]);
    }
    if machine.nodes > 1 {
        qemu.args(numa(machine.mib(), machine.smp, machine.nodes));
    }
    qemu.arg("-kernel").arg(&spec.kernel).arg("-initrd").arg(files.initramfs);
    let iommu = if machine.dma { IOMMU_COMMAND_LINE } else { "" };
    qemu.args(["-append", format!("{COMMAND_LINE} {iommu} {}", machine.append).trim_end()]);
    if machine.dma {
        // The IOMMU first: it serves the devices that come after it.
        qemu.args(["-device", "intel-iommu", "-device", "edu"]);
    }

    qemu.arg("-chardev").arg(joined("file,id=log,path=", files.log)).args(["-serial", "chardev:log"]);
    qemu.args(["-device", "virtio-serial-pci", "-chardev", &format!("socket,id=channel,fd={}", files.channel)]);
    qemu.args(["-device", &format!("virtserialport,chardev=channel,name={}", inside::PORT)]);
    qemu.args(["-fsdev", "local,id=machine,path=/,security_model=none,multidevs=remap,readonly=on"]);
    qemu.args(["-device", "virtio-9p-pci,fsdev=machine,mount_tag=machine"]);
    if let Some(monitor) = &spec.monitor {
        let mut address = joined("unix:", monitor);
        address.push(",server=on,wait=off");
        qemu.arg("-qmp").arg(address);
    }
    qemu.args(["-object", "rng-random,id=entropy,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=entropy"]);
    qemu
}

/// Emulated SVM, unless this machine's KVM really nests. Counting instructions
/// needs emulation.
fn accelerator(icount: bool, kvm: bool) -> &'static [&'static str] {
    match (icount, kvm) {
        (true, _) => &["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off", "-rtc", "clock=vm"],
        (false, true) => &["-accel", "kvm"],
        (false, false) => &["-accel", "tcg,thread=multi"],
    }
}

/// Emulated, `rep stosb` writes byte by byte. Without ERMS kernels clear pages by words of 8 bytes, so that a guest with
/// 512 MiB boots in a third of the time. Where instructions are counted it stays, as figures from elsewhere have it.
fn cpu_model(machine: &MachineArgs, kvm: bool) -> &'static str {
    match (kvm, machine.la57, machine.icount) {
        (true, _, _) => "host",
        (false, true, true) => "max",
        (false, true, false) => "max,erms=off",
        (false, false, true) => "max,la57=off",
        (false, false, false) => "max,la57=off,erms=off",
    }
}

/// Options for `nodes` nodes with the same share of the memory in MiB; the CPUs are on the first.
fn numa(mib: u64, cpus: u32, nodes: u32) -> Vec<String> {
    let nodes = u64::from(nodes);
    let node = |number: u64| {
        // The first takes what does not divide.
        let share = if number == 0 { mib - mib / nodes * (nodes - 1) } else { mib / nodes };
        let cpus = if number == 0 { format!(",cpus=0-{}", cpus - 1) } else { String::new() };
        let memory = format!("memory-backend-ram,id=node{number},size={share}M");
        ["-object".into(), memory, "-numa".into(), format!("node,nodeid={number},memdev=node{number}{cpus}")]
    };
    (0..nodes).flat_map(node).collect()
}

/// Whether a hardware KVM module says that it nests. A /dev/kvm alone proves
/// nothing: a paravirtual one emulates guests and would pass tests falsely.
fn kvm_nests(root: &Path) -> bool {
    let nested = |module: &str| {
        let path = root.join(format!("sys/module/{module}/parameters/nested"));
        fs::read_to_string(path).is_ok_and(|value| matches!(value.trim(), "Y" | "1"))
    };
    let usable = fs::File::options().read(true).write(true).open(root.join("dev/kvm")).is_ok();
    usable && (nested("kvm_intel") || nested("kvm_amd"))
}

/// A path in a QEMU option: commas are doubled there.
fn joined(option: &str, path: &Path) -> OsString {
    let mut text = OsString::from(option);
    text.push(path.to_string_lossy().replace(',', ",,"));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::support::{cache, paths::create_dir};

    #[test]
    fn accelerator_icount_never_takes_kvm() {
        assert!(accelerator(true, true).contains(&"tcg,thread=single"));
        assert!(accelerator(false, true).contains(&"kvm"));
        assert!(accelerator(false, false).contains(&"tcg,thread=multi"));
    }

    #[test]
    fn numa_shares_all_memory_and_puts_the_cpus_first() {
        let options = numa(7 << 10, 2, 3).join(" ");
        for part in ["id=node0,size=2390M", "id=node1,size=2389M", "id=node2,size=2389M", "memdev=node0,cpus=0-1"] {
            assert!(options.contains(part), "{part} in {options}");
        }
        assert_eq!(options.matches("cpus=").count(), 1);
    }

    #[test]
    fn kvm_nests_needs_a_hardware_module_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let parameters = root.join("sys/module/kvm_amd/parameters");
        create_dir(&root.join("dev")).unwrap();
        create_dir(&parameters).unwrap();
        fs::write(root.join("dev/kvm"), "").unwrap();
        assert!(!kvm_nests(root), "a /dev/kvm alone");
        fs::write(parameters.join("nested"), "0\n").unwrap();
        assert!(!kvm_nests(root));
        fs::write(parameters.join("nested"), "1\n").unwrap();
        assert!(kvm_nests(root));
        cache::remove(&root.join("dev/kvm")).unwrap();
        assert!(!kvm_nests(root), "no /dev/kvm");
    }

    #[test]
    fn joined_doubles_commas() {
        assert_eq!(joined("file,path=", Path::new("/a,b")), "file,path=/a,,b");
    }
}
