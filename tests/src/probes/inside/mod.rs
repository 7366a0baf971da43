// SPDX-License-Identifier: Apache-2.0
//! The VMM's own process, made to do what it never does: system calls injected by ptrace, with its memory, rights and
//! descriptors, and its seccomp filter suspended.

use super::MatrixProbe;

mod aio;
mod core_dump;
mod direct_io;
mod dma;
mod exec;
mod fork;
mod pass_fd;
mod pin;
mod pipe_write;
mod ram_disk;
mod rdma;
mod remote_write;
mod second_mapping;
mod uring;
mod uring_fixed;
mod uring_write;
mod vmsplice;
mod xdp;
mod zerocopy;

const PINNED: &str =
    "O_DIRECT, AIO, vmsplice, splice, sendfile, MSG_ZEROCOPY, io_uring buffers, AF_XDP umem, VFIO/RDMA pin";
const OWN: &str = "the VMM's own write(); code injected by ptrace; BPF probe_read_user in VMM context";
const CHILD: &str = "fork child, fd kept over exec";
const CORE: &str = "core dump, also after MADV_DODUMP";

pub(super) const PROBES: &[MatrixProbe] = &[
    MatrixProbe::new("SCM_RIGHTS + mmap", "pidfd_getfd + mmap, SCM_RIGHTS + mmap", pass_fd::run),
    MatrixProbe::new("fork child", CHILD, fork::run),
    MatrixProbe::new("fd kept over exec + mmap", CHILD, exec::run),
    MatrixProbe::new("second mapping + process_vm_readv", "process_vm_readv/writev", second_mapping::run),
    MatrixProbe::new("O_DIRECT write", PINNED, direct_io::run),
    MatrixProbe::new("AIO write", PINNED, aio::run),
    MatrixProbe::new("vmsplice", PINNED, vmsplice::run),
    MatrixProbe::new("MSG_ZEROCOPY", PINNED, zerocopy::run),
    MatrixProbe::new("io_uring registered buffer", PINNED, uring_fixed::run),
    MatrixProbe::new("AF_XDP umem", PINNED, xdp::run),
    MatrixProbe::new("iommufd, a device's DMA", PINNED, dma::run),
    MatrixProbe::new("RDMA memory region", PINNED, rdma::run),
    MatrixProbe::new("long-term pin (as VFIO, RDMA)", PINNED, pin::slow),
    MatrixProbe::new("long-term pin, fast", PINNED, pin::fast),
    MatrixProbe::new("the VMM's write()", OWN, pipe_write::run),
    MatrixProbe::new("the VMM's io_uring write", OWN, uring_write::run),
    MatrixProbe::new("the VMM's process_vm_writev", OWN, remote_write::run),
    MatrixProbe::new("core dump", CORE, core_dump::as_it_is),
    MatrixProbe::new("core dump, MADV_DODUMP, every filter bit", CORE, core_dump::of_everything),
];
