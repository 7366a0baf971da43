// SPDX-License-Identifier: Apache-2.0
//! A vCPU and the thread that runs it.
#![allow(unsafe_code)] // kvm_run's union, read by the exit reason that the kernel gave.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use error_reporter::Report;
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::Error;
use super::kick::{Armed, Kick};
use crate::bus::Buses;
use crate::control::{Command, Control};
use crate::metrics::METRICS;
use crate::outcome::{Outcome, RunError};
use crate::sandbox::{Sandbox, Thread};

/// Enough for the run loop and a device; thirty-two of them are still small.
const STACK: usize = 256 << 10;

/// A vCPU that is ready to run.
pub struct Vcpu {
    id: u8,
    fd: VcpuFd,
    buses: Arc<Buses>,
    control: Arc<Control>,
}

/// A vCPU's running thread.
pub struct VcpuThread {
    kick: Kick,
    thread: JoinHandle<()>,
}

impl Vcpu {
    /// A vCPU whose accesses to devices go to `buses` and that obeys `control`.
    pub fn new(id: u8, fd: VcpuFd, buses: Arc<Buses>, control: Arc<Control>) -> Self {
        Self { id, fd, buses, control }
    }

    /// Starts the thread, which gives up what it does not need and waits for [`Command::Run`].
    pub fn spawn(self, sandbox: Sandbox) -> Result<VcpuThread, Error> {
        let kick = Kick::default();
        let builder = thread::Builder::new().name(format!("vcpu{}", self.id)).stack_size(STACK);
        let thread = builder.spawn({
            let kick = kick.clone();
            move || self.main(&kick, sandbox)
        });
        Ok(VcpuThread { kick, thread: thread.map_err(Error::Thread)? })
    }

    fn main(mut self, kick: &Kick, sandbox: Sandbox) {
        let _alarm = PanicAlarm(self.control.clone());
        if let Err(err) = sandbox.confine(Thread::Vcpu) {
            let failure = RunError::NotConfined(Report::new(&err).to_string());
            return self.control.finish(Outcome::Failure(Arc::new(failure)));
        }
        let armed = kick.arm(&mut self.fd);
        if let Some(outcome) = self.run(&armed) {
            self.control.finish(outcome);
        }
    }

    /// Runs until told to stop (None) or until this vCPU ends the VM.
    fn run(&mut self, armed: &Armed) -> Option<Outcome> {
        loop {
            armed.clear();
            match self.control.command() {
                Command::Run => {}
                Command::Stop => return None,
                Command::Pause => {
                    self.control.park();
                    self.after_pause();
                    continue;
                }
            }
            if let Some(outcome) = self.enter() {
                return Some(outcome);
            }
        }
    }

    /// Runs the guest until an exit that needs a decision, or a kick.
    fn enter(&mut self) -> Option<Outcome> {
        while self.control.command() == Command::Run {
            match self.fd.run() {
                Ok(VcpuExit::IoOut(port, data)) => {
                    METRICS.vcpu.exit_io_out.inc();
                    self.buses.ports.write(port, data);
                }
                Ok(VcpuExit::IoIn(port, data)) => {
                    METRICS.vcpu.exit_io_in.inc();
                    self.buses.ports.read(port, data);
                }
                Ok(VcpuExit::MmioRead(address, data)) => {
                    METRICS.vcpu.exit_mmio_read.inc();
                    self.buses.mmio.read(address, data);
                }
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    METRICS.vcpu.exit_mmio_write.inc();
                    self.buses.mmio.write(address, data);
                }
                Ok(VcpuExit::Shutdown) => return Some(Outcome::TripleFault),
                Ok(VcpuExit::Intr) => return None,
                Err(err) if matches!(err.errno(), libc::EINTR | libc::EAGAIN) => return None,
                Ok(exit) => {
                    let problem = Problem::of(&exit);
                    return Some(self.failure(problem));
                }
                Err(err) if err.errno() == libc::EFAULT => return Some(self.failure(Problem::MemoryFault)),
                Err(err) => return Some(Outcome::Failure(Arc::new(RunError::Run(err)))),
            }
        }
        None
    }

    fn failure(&mut self, problem: Problem) -> Outcome {
        METRICS.vcpu.failures.inc();
        let rip = self.fd.get_regs().map_or(0, |regs| regs.rip);
        Outcome::Failure(Arc::new(match problem {
            Problem::MemoryFault => RunError::MemoryFault { rip },
            Problem::FailEntry { reason, cpu } => RunError::FailEntry { reason, cpu },
            Problem::Internal => RunError::Internal { suberror: self.suberror(), rip },
            Problem::Other(text) => RunError::Unexpected(text),
        }))
    }

    fn suberror(&mut self) -> u32 {
        // SAFETY: asked only after KVM_EXIT_INTERNAL_ERROR, for which the kernel fills this member.
        unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal.suberror }
    }

    /// Tells a guest with kvm-clock that it was stopped, so that its watchdogs do not bark.
    fn after_pause(&self) {
        // EINVAL: this guest has no kvm-clock (yet).
        let _ = self.fd.kvmclock_ctrl();
    }
}

/// An exit without its borrow of the vCPU.
enum Problem {
    MemoryFault,
    FailEntry { reason: u64, cpu: u32 },
    Internal,
    Other(String),
}

impl Problem {
    fn of(exit: &VcpuExit) -> Self {
        match exit {
            VcpuExit::MemoryFault { .. } => Self::MemoryFault,
            VcpuExit::FailEntry(reason, cpu) => Self::FailEntry { reason: *reason, cpu: *cpu },
            VcpuExit::InternalError => Self::Internal,
            other => Self::Other(format!("{other:?}")),
        }
    }
}

/// Ends the VM if the thread that owns it panics.
struct PanicAlarm(Arc<Control>);

impl Drop for PanicAlarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.finish(Outcome::Failure(Arc::new(RunError::Panicked)));
        }
    }
}

impl VcpuThread {
    /// Gets the thread out of the guest, or out of a blocked write, to look at its command.
    pub fn kick(&self) {
        self.kick.kick();
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread's end.
    pub fn join(self) {
        // A panic has been reported by the alarm.
        let _ = self.thread.join();
    }
}
