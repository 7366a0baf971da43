// SPDX-License-Identifier: Apache-2.0
//! Which system calls each kind of thread needs, and what for.
//!
//! No thread may execute programs, start processes, trace, mount, load modules or BPF, make memory
//! executable, or reach the network other than through descriptors that were opened before.

use libc::{c_int, c_ulong};
use vmm_sys_util::ioctl::{_IOC_NONE, _IOC_READ, _IOC_WRITE, ioctl_expr};

use super::filter::{Condition, Policy, Thread, is, is_null};

/// `<linux/kvm.h>`.
const KVMIO: u32 = 0xae;
const KVM_CHECK_EXTENSION: c_ulong = ioctl_expr(_IOC_NONE, KVMIO, 0x03, 0);
const KVM_RUN: c_ulong = ioctl_expr(_IOC_NONE, KVMIO, 0x80, 0);
const KVM_GET_REGS: c_ulong = ioctl_expr(_IOC_READ, KVMIO, 0x81, size_of::<kvm_bindings::kvm_regs>() as u32);
const KVM_KVMCLOCK_CTRL: c_ulong = ioctl_expr(_IOC_NONE, KVMIO, 0xad, 0);
/// What glibc from 2.42 on asks of terminals (`<asm-generic/ioctls.h>`; the structure has 44 bytes).
const TCGETS2: c_ulong = ioctl_expr(_IOC_READ, b'T' as u32, 0x2a, 44);
const TCSETS2: c_ulong = ioctl_expr(_IOC_WRITE, b'T' as u32, 0x2b, 44);
/// `<linux/if_tun.h>`.
const TUNSETOFFLOAD: c_ulong = ioctl_expr(_IOC_WRITE, b'T' as u32, 208, size_of::<c_int>() as u32);

/// The policy of a thread.
pub(super) fn of(thread: Thread) -> Policy {
    match thread {
        Thread::Main => main(),
        Thread::Api => api(),
        Thread::Vcpu => vcpu(),
        Thread::Populate => populate(),
    }
}

/// The event loop. It lives longest and does the most: it answers requests, which may name files.
fn main() -> Policy {
    host_sides(common())
        // The event loop itself is made after a VM was started from flags: epoll, its signals, timers
        // and wake-ups, standard input once more.
        .any(&[
            libc::SYS_epoll_create1,
            libc::SYS_signalfd4,
            libc::SYS_timerfd_create,
            libc::SYS_timerfd_gettime,
            libc::SYS_eventfd2,
        ])
        // PATCH /drives opens another file and asks for its kind and size; GET /memory and evidence read
        // /proc and /sys; logs and metrics go to files.
        .any(&[
            libc::SYS_openat,
            libc::SYS_statx,
            libc::SYS_newfstatat,
            libc::SYS_lseek,
            libc::SYS_pread64,
            libc::SYS_getdents64,
            libc::SYS_readlink,
            libc::SYS_readlinkat,
            libc::SYS_uname,
        ])
        // At the end: the files of the sockets go, and threads are waited for.
        .any(&[libc::SYS_unlink, libc::SYS_unlinkat])
        // SIGTSTP is done by SIGSTOP, vCPUs are kicked by the first real-time signal; a panic aborts.
        .if_all(libc::SYS_tgkill, to_this_process(libc::SIGSTOP))
        .if_all(libc::SYS_tgkill, to_this_process(libc::SIGRTMIN()))
        // Whether standard input is a terminal, and its raw mode; for evidence, what KVM can do with secret memory.
        .only(libc::SYS_ioctl, 1, &[libc::TCGETS, TCGETS2, KVM_CHECK_EXTENSION])
}

/// HTTP: clients come in over the listening socket, and calls go to the main thread. It opens nothing.
fn api() -> Policy {
    sockets(common())
        // The runtime is made in this thread: epoll, the descriptor that wakes it, and a pair of sockets
        // that tells the process's own user.
        .any(&[libc::SYS_epoll_create1, libc::SYS_eventfd2])
        .only(libc::SYS_socketpair, 0, &[libc::AF_UNIX as u64])
        .any(&[libc::SYS_setsockopt, libc::SYS_getsockname])
}

/// The guest, and the devices on its behalf: nothing that a guest can make happen here opens a file.
fn vcpu() -> Policy {
    host_sides(common()).only(
        libc::SYS_ioctl,
        1,
        &[
            KVM_RUN,
            // After a pause, for kvm-clock.
            KVM_KVMCLOCK_CTRL,
            // Where a guest stood that cannot go on.
            KVM_GET_REGS,
            // What the guest's network driver takes.
            TUNSETOFFLOAD,
        ],
    )
}

/// Guest RAM's pages, and a line in the log, which names the limit.
fn populate() -> Policy {
    common()
        .any(&[libc::SYS_fallocate])
        // Asks for the limit, and does not set it.
        .if_all(libc::SYS_prlimit64, vec![is(0, 0), is_null(2)])
}

/// What any thread needs: memory, locks, time, its own end.
fn common() -> Policy {
    let executable = libc::PROT_EXEC as u64;
    Policy::default()
        // Descriptors that are open: eventfds, sockets, files, pipes, terminal.
        // A line is written to standard error only if that need not be waited for.
        .any(&[libc::SYS_pwritev2, libc::SYS_poll, libc::SYS_ppoll, libc::SYS_fstat])
        .any(&[libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_close])
        // Flags and copies of descriptors; no owner for signals, no leases.
        .only(
            libc::SYS_fcntl,
            1,
            &[libc::F_GETFL, libc::F_SETFL, libc::F_GETFD, libc::F_SETFD, libc::F_DUPFD_CLOEXEC].map(command),
        )
        // The allocator. Nothing becomes executable.
        .any(&[libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap])
        .only(libc::SYS_madvise, 2, &[libc::MADV_DONTNEED, libc::MADV_FREE].map(command))
        .without(libc::SYS_mmap, 2, executable)
        .without(libc::SYS_mprotect, 2, executable)
        // Locks, and waiting.
        .any(&[libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_nanosleep, libc::SYS_clock_nanosleep])
        .any(&[libc::SYS_restart_syscall])
        // Time, on hosts where the vDSO cannot tell it.
        .any(&[libc::SYS_clock_gettime, libc::SYS_gettimeofday])
        // Keys of hash tables, tokens.
        .any(&[libc::SYS_getrandom])
        // A panic aborts, this process and no other.
        .if_all(libc::SYS_tgkill, to_this_process(libc::SIGABRT))
        // Signals: kicks, handlers' ends, and the way to send one.
        .any(&[libc::SYS_rt_sigreturn, libc::SYS_rt_sigprocmask, libc::SYS_sigaltstack])
        .any(&[libc::SYS_getpid, libc::SYS_gettid])
        // A handler that ends the process gives the terminal its settings back first; sockets are
        // made non-blocking.
        .only(libc::SYS_ioctl, 1, &[libc::TCSETS, TCSETS2, libc::FIONBIO])
        .any(&[libc::SYS_exit, libc::SYS_exit_group])
}

/// The host's side of virtio devices, which both the main thread and vCPUs serve.
fn host_sides(policy: Policy) -> Policy {
    sockets(policy)
        // Disks.
        .any(&[libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_fdatasync, libc::SYS_fallocate])
        // Rate limits, vsock's and the metadata service's time limits.
        .any(&[libc::SYS_timerfd_settime])
        // A guest that connects over vsock gets a unix socket of the host's, and no other kind.
        .only(libc::SYS_socket, 0, &[libc::AF_UNIX as u64])
        .any(&[libc::SYS_connect])
}

/// Unix sockets and waiting for them.
fn sockets(policy: Policy) -> Policy {
    policy
        .any(&[libc::SYS_epoll_ctl, libc::SYS_epoll_wait, libc::SYS_epoll_pwait])
        .any(&[libc::SYS_accept4, libc::SYS_recvfrom, libc::SYS_sendto, libc::SYS_recvmsg, libc::SYS_sendmsg])
        .any(&[libc::SYS_shutdown, libc::SYS_getsockopt])
}

/// Conditions of tgkill(2): this process, that signal.
fn to_this_process(number: c_int) -> Vec<Condition> {
    vec![is(0, std::process::id().into()), is(2, number.unsigned_abs().into())]
}

fn command(number: c_int) -> u64 {
    number.unsigned_abs().into()
}
