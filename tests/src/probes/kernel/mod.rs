// SPDX-License-Identifier: Apache-2.0
//! The host's kernel: what its own interfaces show of a frame, and what new code in it would find.

use super::MatrixProbe;

mod bpf;
mod bpf_kernel;
mod bpf_user;
mod dev_mem_map;
mod dev_mem_read;
mod direct_map_scan;
mod emulated;
mod kdump;
mod kexec;
mod kprobe;
mod ptdump;
mod registers;
mod touch;
mod walk;
mod window;

const KCORE: &str = "/proc/kcore, every segment";
const MODULE: &str = "module scanning the whole direct map";
const TRACING: &str = "BPF probe_read_kernel, kprobe/ftrace @addr";
const OWN: &str = "the VMM's own write(); code injected by ptrace; BPF probe_read_user in VMM context";

/// Runs before any other: what these read of a target stays in the host's memory, where a scan finds it.
pub(super) const FIRST: &[MatrixProbe] =
    &[MatrixProbe::new("module: scan of the direct map", MODULE, direct_map_scan::run)];

pub(super) const PROBES: &[MatrixProbe] = &[
    MatrixProbe::tally("/proc/kcore, direct map and image", KCORE, super::kcore::run),
    MatrixProbe::new("/dev/mem read", "/dev/mem", dev_mem_read::run),
    MatrixProbe::new("/dev/mem mmap", "/dev/mem", dev_mem_map::run),
    MatrixProbe::new("page-table dump", "the direct map", ptdump::run),
    MatrixProbe::new("module: walk of every kernel mapping", MODULE, walk::run),
    MatrixProbe::new("module: read on every CPU", MODULE, touch::run),
    MatrixProbe::new("module: vmap of the frame", "same-frame control", window::run),
    MatrixProbe::new("BPF probe_read_kernel", TRACING, bpf_kernel::run),
    MatrixProbe::new("kprobe fetch @address", TRACING, kprobe::run),
    MatrixProbe::new("trace event kvm_emulate_insn", "KVM's trace events", emulated::run),
    MatrixProbe::new("/proc/kcore, a guest's registers", "vCPU registers in the kernel", registers::run),
    MatrixProbe::new("BPF probe_read_user in the VMM", OWN, bpf_user::run),
    MatrixProbe::new("kexec_load", "kdump/vmcore, kexec", kexec::run),
    MatrixProbe::new("kexec_file_load, for a crash (kdump)", "kdump/vmcore, kexec", kdump::run),
];
