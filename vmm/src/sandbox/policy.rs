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
        Thread::Start => start(),
        Thread::Main => main(),
        Thread::Api => api(),
        Thread::Vcpu => vcpu(),
        Thread::Populate => populate(),
    }
}

/// The whole process, before it reads anything that somebody else wrote: what a start takes, and what any thread does later.
/// Who takes it over executes no program and reaches no network.
fn start() -> Policy {
    let executable = libc::PROT_EXEC.unsigned_abs();
    Policy::default()
        // Files.
        .any(&[libc::SYS_openat, libc::SYS_open, libc::SYS_close, libc::SYS_read, libc::SYS_write, libc::SYS_readv])
        .any(&[libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev])
        .any(&[libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_lseek, libc::SYS_fsync, libc::SYS_fdatasync])
        .any(&[libc::SYS_fallocate, libc::SYS_ftruncate, libc::SYS_fstat, libc::SYS_stat, libc::SYS_lstat])
        .any(&[libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_access])
        .any(&[libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlink, libc::SYS_readlinkat, libc::SYS_getcwd])
        .any(&[libc::SYS_getdents64, libc::SYS_fcntl, libc::SYS_dup, libc::SYS_dup2, libc::SYS_dup3])
        // A new key, and sockets: made, and removed at the end.
        .any(&[libc::SYS_fchmod, libc::SYS_linkat, libc::SYS_link, libc::SYS_rename, libc::SYS_renameat])
        .any(&[libc::SYS_renameat2, libc::SYS_unlink, libc::SYS_unlinkat])
        // KVM, TAPs, terminals.
        .any(&[libc::SYS_ioctl])
        // Memory. Nothing becomes executable.
        .any(&[libc::SYS_memfd_secret, libc::SYS_memfd_create, libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap])
        .any(&[libc::SYS_madvise, libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_munlock])
        .without(libc::SYS_mmap, 2, executable)
        .without(libc::SYS_mprotect, 2, executable)
        // Threads.
        .any(&[libc::SYS_clone, libc::SYS_clone3, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_futex])
        .any(&[libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_setpriority, libc::SYS_getpriority])
        .any(&[libc::SYS_exit, libc::SYS_exit_group, libc::SYS_set_tid_address, libc::SYS_membarrier])
        // Signals, within the process.
        .any(&[libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack])
        .any(&[libc::SYS_signalfd4, libc::SYS_restart_syscall])
        .if_all(libc::SYS_tgkill, vec![is(0, std::process::id())])
        // Waiting, and time.
        .any(&[libc::SYS_poll, libc::SYS_ppoll, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_wait])
        .any(&[libc::SYS_epoll_pwait, libc::SYS_eventfd2, libc::SYS_timerfd_create, libc::SYS_timerfd_settime])
        .any(&[libc::SYS_timerfd_gettime, libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime])
        .any(&[libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_pipe2])
        // Unix sockets. A MTU is asked of one.
        .only(libc::SYS_socket, 0, &[libc::AF_UNIX.unsigned_abs()])
        .only(libc::SYS_socketpair, 0, &[libc::AF_UNIX.unsigned_abs()])
        .any(&[libc::SYS_bind, libc::SYS_listen, libc::SYS_connect, libc::SYS_accept4, libc::SYS_shutdown])
        .any(&[libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg])
        .any(&[libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_getsockname, libc::SYS_getpeername])
        // Who this is, what it may have, and the rest of the sandbox.
        .any(&[libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid])
        .any(&[libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getgroups, libc::SYS_uname, libc::SYS_sysinfo])
        .any(&[libc::SYS_getrandom, libc::SYS_umask, libc::SYS_getrlimit, libc::SYS_setrlimit])
        .if_all(libc::SYS_prlimit64, vec![is(0, 0)])
        .if_all(libc::SYS_prlimit64, vec![is(0, std::process::id())])
        .any(&[libc::SYS_prctl, libc::SYS_capget, libc::SYS_capset, libc::SYS_seccomp])
        .any(&[libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self])
}

/// The event loop. It lives longest and does the most: it answers requests, which may name files.
fn main() -> Policy {
    sockets(host_sides(common()))
        // A guest that connects over vsock gets a unix socket of the host's, and no other kind.
        .only(libc::SYS_socket, 0, &[libc::AF_UNIX.unsigned_abs()])
        .any(&[libc::SYS_connect])
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
        // A network driver that resets its device has to wait for what it takes, and main tells the TAP then.
        .requests(&[libc::TCGETS, TCGETS2, KVM_CHECK_EXTENSION, TUNSETOFFLOAD])
}

/// HTTP: clients come in over the listening socket, and calls go to the main thread. It opens nothing.
fn api() -> Policy {
    sockets(streams(common()))
        // The runtime is made in this thread: epoll, the descriptor that wakes it, and a pair of sockets
        // that tells the process's own user.
        .any(&[libc::SYS_epoll_create1, libc::SYS_eventfd2])
        .only(libc::SYS_socketpair, 0, &[libc::AF_UNIX.unsigned_abs()])
        .any(&[libc::SYS_getsockname])
}

/// The guest, and the devices on its behalf: nothing that a guest can make happen here opens a file or makes a socket,
/// or takes or gives a descriptor.
fn vcpu() -> Policy {
    host_sides(common()).requests(&[
        KVM_RUN,
        // After a pause, for kvm-clock.
        KVM_KVMCLOCK_CTRL,
        // Where a guest stood that cannot go on.
        KVM_GET_REGS,
        // What the guest's network driver takes.
        TUNSETOFFLOAD,
    ])
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
    let executable = libc::PROT_EXEC.unsigned_abs();
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
        .requests(&[libc::TCSETS, TCSETS2, libc::FIONBIO])
        .any(&[libc::SYS_exit, libc::SYS_exit_group])
}

/// The host's side of virtio devices, which both the main thread and vCPUs serve.
fn host_sides(policy: Policy) -> Policy {
    streams(policy)
        // Disks.
        .any(&[libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_fdatasync, libc::SYS_fallocate])
        // Rate limits, vsock's and the metadata service's time limits.
        .any(&[libc::SYS_timerfd_settime])
}

/// Sockets that are connected: no address, and no descriptors beside the data.
fn streams(policy: Policy) -> Policy {
    policy
        .if_all(libc::SYS_sendto, vec![is_null(4)])
        .if_all(libc::SYS_recvfrom, vec![is_null(4)])
        .any(&[libc::SYS_shutdown])
}

/// Unix sockets and waiting for them.
fn sockets(policy: Policy) -> Policy {
    policy
        .any(&[libc::SYS_epoll_ctl, libc::SYS_epoll_wait, libc::SYS_epoll_pwait])
        .any(&[libc::SYS_accept4, libc::SYS_getsockopt])
}

/// Conditions of tgkill(2): this process, that signal.
fn to_this_process(number: c_int) -> Vec<Condition> {
    vec![is(0, std::process::id()), is(2, number.unsigned_abs())]
}

fn command(number: c_int) -> u32 {
    number.unsigned_abs()
}
