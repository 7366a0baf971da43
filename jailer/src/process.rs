// SPDX-License-Identifier: Apache-2.0
//! From this process to the VMM's: descriptors, session, namespace, user, program.
#![allow(unsafe_code)] // close_range, and fork in a process of one thread.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use error_reporter::Report;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{
    ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, getpid, setgroups, setresgid, setresuid, setsid,
};

use crate::error::Error;
use crate::plan::Plan;
use crate::times::Times;
use crate::{limits, root};

/// What the parent of a VMM that runs by itself hears from it: nothing, when the program was executed.
const FAILED: &[u8] = b"!";

/// Every descriptor but the first three goes when the VMM's program is executed.
pub(crate) fn close_others() -> Result<(), Error> {
    // SAFETY: the flag closes nothing now; it takes no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop).map_err(Error::call("Closing inherited descriptors (close_range)"))
}

/// What a daemon has as standard input and output; the jail has none.
pub(crate) fn null() -> Result<File, Error> {
    let path = Path::new("/dev/null");
    File::options().read(true).write(true).open(path).map_err(Error::file("Opening", path))
}

/// Becomes the VMM, or starts it and returns when it has begun.
///
/// # Errors
/// The VMM was not started.
pub(crate) fn start(plan: &Plan, times: Times, null: File) -> Result<(), Error> {
    if !plan.daemonize && !plan.new_pid_ns {
        write_pid(plan, getpid())?;
        return become_vmm(plan, times, None, None).map(|never| match never {});
    }
    let parent_cpu = Times::cpu_us();
    if plan.new_pid_ns {
        unshare(CloneFlags::CLONE_NEWPID).map_err(Error::call("Making a PID namespace (unshare)"))?;
    }
    let (mut heard, mut said) = io::pipe().map_err(Error::file("Making", "a pipe"))?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }.map_err(Error::call("fork"))? {
        ForkResult::Parent { child } => {
            drop(said);
            if let Err(err) = write_pid(plan, child) {
                // A VMM that nobody finds must not go on, on a full disk for instance. It may have ended already.
                let _ = kill(child, Signal::SIGKILL);
                return Err(err);
            }
            let mut word = Vec::new();
            let failed = heard.read_to_end(&mut word).is_err() || word == FAILED;
            // The child has said why.
            std::process::exit(failed.into());
        }
        ForkResult::Child => {
            let daemon = plan.daemonize.then_some(null);
            let Err(err) = become_vmm(plan, times, Some(parent_cpu), daemon);
            let _ = writeln!(io::stderr(), "secretvmm-jailer: error: {}", Report::new(&err));
            let _ = said.write_all(FAILED);
            std::process::exit(1);
        }
    }
}

/// The last steps; after them the program is the VMM's.
fn become_vmm(plan: &Plan, times: Times, parent_cpu: Option<i64>, daemon: Option<File>) -> Result<Infallible, Error> {
    if plan.daemonize || plan.new_pid_ns {
        setsid().map_err(Error::call("Making a session (setsid)"))?;
    }
    if let Err(err) = root::mount_proc() {
        let line = "the VMM cannot tell how the kernel counts its memory (GET /memory)";
        let _ = writeln!(io::stderr(), "secretvmm-jailer: warning: {}; {line}", Report::new(&err));
    }
    limits::set(plan.limits)?;
    drop_privileges(plan)?;
    let mut command = Command::new(Path::new("/").join(&plan.name));
    command.env_clear().arg(format!("--id={}", plan.id)).args(times.arguments(parent_cpu)).args(plan.arguments);
    if let Some(null) = daemon {
        dup2_stdin(&null).and(dup2_stdout(&null)).map_err(Error::call("Leaving the terminal (dup2)"))?;
        // A failure of what follows has nobody to be told to but the parent.
        dup2_stderr(&null).map_err(Error::call("Leaving the terminal (dup2)"))?;
    }
    Err(Error::file("Executing", Path::new("/").join(&plan.name))(command.exec()))
}

fn write_pid(plan: &Plan, pid: Pid) -> Result<(), Error> {
    let path = Path::new("/").join(plan.pid_file());
    fs::write(&path, pid.to_string()).map_err(Error::file("Writing", path))
}

/// The VMM's user and group, and the boot pool's group where the operator has set one.
fn drop_privileges(plan: &Plan) -> Result<(), Error> {
    let groups: Vec<_> = plan.pool.into_iter().collect();
    setgroups(&groups).map_err(Error::call("Leaving all groups (setgroups)"))?;
    setresgid(plan.gid, plan.gid, plan.gid).map_err(Error::call("Taking the group (setresgid)"))?;
    setresuid(plan.uid, plan.uid, plan.uid).map_err(Error::call("Taking the user (setresuid)"))?;
    set_no_new_privs().map_err(Error::call("Giving up new privileges (prctl)"))
}
