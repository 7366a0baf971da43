// SPDX-License-Identifier: Apache-2.0
//! What the process has given up before it reads anything.

#![allow(clippy::unwrap_used, unsafe_code)] // A child's filter is there before its program.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> (tempfile::TempDir, Ends) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let inherited = File::open("/etc/passwd").unwrap();
    // A descriptor that the program inherits, as std makes all of its own close-on-exec.
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_secretvmm"));
    let child = command.arg("--api-sock").arg(&socket).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "There is no API");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(inherited.as_raw_fd() > 2);
    (folder, Ends(child))
}

#[test]
fn process_has_a_filter_no_core_no_new_privileges_and_no_inherited_file() {
    let (_folder, vmm) = start();
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", vmm.0.id())).unwrap();
    assert!(read("limits").lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")));
    assert!(read("status").lines().any(|line| line == "NoNewPrivs:\t1"), "{}", read("status"));
    // Before it reads a request.
    assert!(read("status").lines().any(|line| line == "Seccomp_filters:\t1"), "{}", read("status"));
    let files = fs::read_dir(format!("/proc/{}/fd", vmm.0.id())).unwrap();
    let open: Vec<_> = files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).collect();
    assert!(!open.iter().any(|path| path.ends_with("passwd")), "{open:?}");
    // The control: the same program's parent has it.
    let own = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|file| fs::read_link(file.path()).ok());
    assert!(own.into_iter().count() > 3);
}

/// Starts the program on a kernel that seems to lack a system call, and waits for its end, or for its API.
fn start_without(call: i64, flags: &[&str]) -> (Option<i32>, String) {
    let action = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let rules = [(call, vec![])].into();
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64).unwrap().try_into().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_secretvmm"));
    command.arg("--api-sock").arg(&socket).args(flags).stdin(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: the filter is made already; to apply it is two system calls.
    unsafe { command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(std::io::Error::other)) };
    let mut child = Ends(command.spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() && child.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "It neither starts nor ends");
        std::thread::sleep(Duration::from_millis(5));
    }
    let code = child.0.try_wait().unwrap().and_then(|status| status.code());
    let mut stderr = child.0.stderr.take().unwrap();
    drop(child);
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    (code, said)
}

#[test]
fn host_without_a_layer_is_refused_with_the_switch_that_does_without() {
    for (call, switch) in [(libc::SYS_landlock_create_ruleset, "--no-landlock"), (libc::SYS_seccomp, "--no-seccomp")] {
        let (code, said) = start_without(call, &[]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.lines().count() == 1 && said.contains(switch), "{said}");
        let (code, said) = start_without(call, &[switch]);
        assert_eq!(code, None, "{said}");
        assert!(said.contains("warning: threads may") && said.contains(switch), "{said}");
    }
}

#[test]
fn file_size_limit_is_an_error_and_not_the_end() {
    let (_folder, vmm) = start();
    let status = fs::read_to_string(format!("/proc/{}/status", vmm.0.id())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_ne!(ignored & 1 << (libc::SIGXFSZ - 1), 0, "{status}");
    // The control: not everything is.
    assert_eq!(ignored & 1 << (libc::SIGXCPU - 1), 0, "{status}");
}

#[test]
fn segmentation_fault_is_told_as_one() {
    let (_folder, mut vmm) = start();
    let pid = rustix::process::Pid::from_raw(vmm.0.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::SEGV).unwrap();
    assert_eq!(vmm.0.wait().unwrap().signal(), Some(libc::SIGSEGV));
}
