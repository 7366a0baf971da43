// SPDX-License-Identifier: Apache-2.0
//! Another process of root's: what it reads, or takes to read, without the VMM's doing.

use super::MatrixProbe;

mod another_vm;
mod another_vm_guest;
mod map_files;
mod peek;
mod poke;
mod proc_mem_attached;
mod proc_mem_edges;
mod proc_mem_seek;
mod proc_mem_write;
mod process_vm_write;
mod reopened_fd;
mod stolen_fd_read;
mod stolen_fd_sendfile;
mod stolen_fd_splice;

const PROCESS: &str = "process_vm_readv/writev";
const DEBUGGER: &str = "/proc/PID/mem, PTRACE_PEEK/POKE, gdb, gcore";
const LINKS: &str = "/proc/PID/map_files, reopening /proc/PID/fd";
const STOLEN: &str = "pidfd_getfd + mmap, SCM_RIGHTS + mmap";

pub(super) const PROBES: &[MatrixProbe] = &[
    MatrixProbe::tally("process_vm_readv", PROCESS, super::process_vm::run),
    MatrixProbe::new("process_vm_writev", PROCESS, process_vm_write::run),
    MatrixProbe::tally("/proc/PID/mem", DEBUGGER, super::proc_mem::run),
    MatrixProbe::new("/proc/PID/mem lseek+read", DEBUGGER, proc_mem_seek::run),
    MatrixProbe::new("/proc/PID/mem over page edges", DEBUGGER, proc_mem_edges::run),
    MatrixProbe::new("/proc/PID/mem write", DEBUGGER, proc_mem_write::run),
    MatrixProbe::new("PTRACE_PEEKDATA", DEBUGGER, peek::run),
    MatrixProbe::new("PTRACE_POKEDATA", DEBUGGER, poke::run),
    MatrixProbe::new("ptrace stop + /proc/PID/mem (gcore)", DEBUGGER, proc_mem_attached::run),
    MatrixProbe::new("/proc/PID/map_files", LINKS, map_files::run),
    MatrixProbe::new("reopened /proc/PID/fd", LINKS, reopened_fd::run),
    MatrixProbe::tally("pidfd_getfd + mmap", STOLEN, super::stolen_fd::run),
    MatrixProbe::new("pidfd_getfd + pread", STOLEN, stolen_fd_read::run),
    MatrixProbe::new("pidfd_getfd + sendfile", STOLEN, stolen_fd_sendfile::run),
    MatrixProbe::new("pidfd_getfd + splice", STOLEN, stolen_fd_splice::run),
    MatrixProbe::new("another VM's memslot", "another VM's memslot on the same fd", another_vm::run),
];
