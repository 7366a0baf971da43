// SPDX-License-Identifier: Apache-2.0
//! Filters in force. A filter is for the thread's whole life and a forbidden call ends the process, so
//! each case runs in a process of its own: this test program once more, with the case in its environment.

#![allow(clippy::unwrap_used, clippy::panic, unsafe_code)] // Raw system calls.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::{Sandbox, Thread};
use crate::{lines, outcome, signals};

const CASE: &str = "SECRETVMM_TEST_SECCOMP";
/// Opened before the filter is there, as a thread finds its terminal.
static TERMINAL: OnceLock<File> = OnceLock::new();

/// What a case does once its filter is there.
fn run(case: &'static str) {
    let (thread, call) = case.split_once(' ').unwrap();
    let thread = match thread {
        "start" => Thread::Start,
        "main" => Thread::Main,
        "api" => Thread::Api,
        "populate" => Thread::Populate,
        _ => Thread::Vcpu,
    };
    let sandbox = Sandbox { seccomp: !call.ends_with("unfiltered"), ..Sandbox::default() };
    signals::install_last_resort().unwrap();
    TERMINAL.get_or_init(|| File::options().read(true).write(true).open("/dev/ptmx").unwrap());
    std::thread::spawn(move || {
        match thread {
            Thread::Start => sandbox.begin().unwrap(),
            thread => sandbox.confine(thread).unwrap(),
        }
        make(call.split(' ').next().unwrap());
        // The allocator, a lock and a line are allowed to everybody.
        println!("{}", ["sur", "vived"].concat());
        // SAFETY: ends the process at once, without what the test harness would do.
        unsafe { libc::_exit(0) };
    });
    std::thread::park();
}

fn make(call: &str) {
    // SAFETY: none of these calls touches memory but the constants and the pages they are given.
    unsafe {
        match call {
            "nothing" => 0,
            // It does not take "no waiting" at a write, so it is asked first.
            "terminal" => lines::write_without_waiting(TERMINAL.get().unwrap().as_fd(), b"x").map_or(-1, |_| 0),
            "personality" => libc::syscall(libc::SYS_personality, 0xffff_ffff_u64),
            "openat" => libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/proc/version".as_ptr(), libc::O_RDONLY),
            "unix" => libc::syscall(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0),
            "offload" => libc::syscall(libc::SYS_ioctl, -1, 0x4004_54d0_u64),
            "setsockopt" => libc::syscall(libc::SYS_setsockopt, -1, 0, 0, 0, 0),
            "connect" => libc::syscall(libc::SYS_connect, -1, 0, 0),
            "accept" => libc::syscall(libc::SYS_accept4, -1, 0, 0, 0),
            "sendmsg" => libc::syscall(libc::SYS_sendmsg, -1, 0, 0),
            "recvmsg" => libc::syscall(libc::SYS_recvmsg, -1, 0, 0),
            "send" => libc::syscall(libc::SYS_sendto, -1, 0, 0, 0, 0, 0),
            "sendto" => libc::syscall(libc::SYS_sendto, -1, 0, 0, 0, 1_u64 << 32, 0),
            "recvfrom" => libc::syscall(libc::SYS_recvfrom, -1, 0, 0, 0, 1_u64 << 32, 0),
            "epoll" => libc::syscall(libc::SYS_epoll_ctl, -1, 0, 0, 0),
            "internet" => libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0),
            "execve" => libc::syscall(libc::SYS_execve, c"/bin/true".as_ptr(), 0, 0),
            "executable" => {
                let protection = libc::PROT_READ | libc::PROT_EXEC;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::syscall(libc::SYS_mmap, 0, 4096, protection, flags, -1, 0)
            }
            "evidence" => {
                crate::attestation::host::ask(std::path::Path::new("/"), 0, None).unwrap();
                // KVM_CHECK_EXTENSION; what the filter lets through ends here.
                libc::syscall(libc::SYS_ioctl, -1, 0xae03, 0)
            }
            "getrlimit" => {
                let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit).into()
            }
            "setrlimit" => {
                let limit = libc::rlimit { rlim_cur: 77, rlim_max: 77 };
                // At an address whose lower half is 0, which must not be taken for no address.
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
                let place = libc::mmap((1_usize << 32) as *mut _, 4096, libc::PROT_WRITE, flags, -1, 0);
                assert_eq!(place as usize, 1 << 32);
                place.cast::<libc::rlimit>().write(limit);
                libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, place, 0)
            }
            // Nobody has this number: without the filter nobody is hit.
            "abort-other" => libc::syscall(libc::SYS_tgkill, i32::MAX, i32::MAX, libc::SIGABRT),
            "signal-self" => libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGRTMIN()),
            "own-signals" => libc::fcntl(0, libc::F_SETOWN, 0).into(),
            "dontfork" => libc::syscall(libc::SYS_madvise, 0, 0, libc::MADV_DOFORK),
            "fallocate" => libc::syscall(libc::SYS_fallocate, -1, 0, 0, 1),
            "ioctl" => libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr()),
            other => panic!("{other}"),
        }
    };
}

/// Runs the test `name` once more, for this case.
fn output_of(name: &str, case: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &format!("sandbox::tests::{name}")]).env(CASE, case);
    command.output().unwrap()
}

/// In a process that is for one case, runs it and does not return.
fn run_own_case() {
    if let Ok(case) = std::env::var(CASE) {
        run(case.leak());
    }
}

#[test]
fn forbidden_call_ends_the_process_with_its_number() {
    run_own_case();
    for (case, number) in [
        ("start personality", libc::SYS_personality),
        ("start internet", libc::SYS_socket),
        ("start execve", libc::SYS_execve),
        ("start executable", libc::SYS_mmap),
        ("start abort-other", libc::SYS_tgkill),
        ("main personality", libc::SYS_personality),
        ("main internet", libc::SYS_socket),
        ("main ioctl", libc::SYS_ioctl),
        ("main execve", libc::SYS_execve),
        ("main executable", libc::SYS_mmap),
        ("api personality", libc::SYS_personality),
        ("api openat", libc::SYS_openat),
        ("api unix", libc::SYS_socket),
        ("vcpu personality", libc::SYS_personality),
        ("vcpu openat", libc::SYS_openat),
        ("vcpu execve", libc::SYS_execve),
        ("vcpu unix", libc::SYS_socket),
        ("vcpu connect", libc::SYS_connect),
        ("vcpu accept", libc::SYS_accept4),
        ("vcpu sendmsg", libc::SYS_sendmsg),
        ("vcpu recvmsg", libc::SYS_recvmsg),
        ("vcpu sendto", libc::SYS_sendto),
        ("vcpu recvfrom", libc::SYS_recvfrom),
        ("vcpu epoll", libc::SYS_epoll_ctl),
        ("vcpu executable", libc::SYS_mmap),
        ("vcpu ioctl", libc::SYS_ioctl),
        ("main sendmsg", libc::SYS_sendmsg),
        ("main recvmsg", libc::SYS_recvmsg),
        ("main sendto", libc::SYS_sendto),
        ("api execve", libc::SYS_execve),
        ("api executable", libc::SYS_mmap),
        ("api connect", libc::SYS_connect),
        ("api setsockopt", libc::SYS_setsockopt),
        ("api sendmsg", libc::SYS_sendmsg),
        ("api recvmsg", libc::SYS_recvmsg),
        ("populate execve", libc::SYS_execve),
        ("populate executable", libc::SYS_mmap),
        ("populate connect", libc::SYS_connect),
        ("populate send", libc::SYS_sendto),
        ("api fallocate", libc::SYS_fallocate),
        ("populate openat", libc::SYS_openat),
        ("populate unix", libc::SYS_socket),
        ("populate setrlimit", libc::SYS_prlimit64),
        ("main abort-other", libc::SYS_tgkill),
        ("api abort-other", libc::SYS_tgkill),
        ("vcpu abort-other", libc::SYS_tgkill),
        ("populate abort-other", libc::SYS_tgkill),
        ("vcpu signal-self", libc::SYS_tgkill),
        ("main own-signals", libc::SYS_fcntl),
        ("vcpu dontfork", libc::SYS_madvise),
    ] {
        let output = output_of("forbidden_call_ends_the_process_with_its_number", case);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(outcome::BAD_SYSCALL)), "{case}: {said}");
        assert!(said.contains(&format!("system call {number} ")), "{case}: {said}");
    }
}

/// The control: it is the filter that ends it, and what is allowed goes on.
#[test]
fn allowed_call_and_thread_without_filter_go_on() {
    run_own_case();
    for case in [
        "main nothing",
        "main terminal",
        "api terminal",
        "vcpu terminal",
        "populate terminal",
        "main openat",
        "main unix",
        "main connect",
        "main offload",
        "start openat",
        "start unix",
        "start ioctl",
        "start personality unfiltered",
        "main evidence",
        "api nothing",
        "api send",
        "main send",
        "vcpu nothing",
        "vcpu send",
        "populate fallocate",
        "populate getrlimit",
        "main personality unfiltered",
        "api openat unfiltered",
        "vcpu openat unfiltered",
        "vcpu executable unfiltered",
    ] {
        let output = output_of("allowed_call_and_thread_without_filter_go_on", case);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("survived"), "{case}: {:?} {said}", output.status);
    }
}
