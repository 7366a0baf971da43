// SPDX-License-Identifier: Apache-2.0
//! What the main thread and the vCPU threads share: should the guest run, and how did it end.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::outcome::Outcome;

/// What vCPU threads are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Wait.
    Pause = 0,
    /// Run the guest.
    Run = 1,
    /// Leave the thread.
    Stop = 2,
}

#[derive(Debug, Default)]
struct Inner {
    outcome: Option<Outcome>,
    /// vCPU threads that wait, out of `KVM_RUN`.
    parked: usize,
}

/// Shared between all threads of a VM.
#[derive(Debug)]
pub struct Control {
    command: AtomicU8,
    inner: Mutex<Inner>,
    changed: Condvar,
    finished: EventFd,
}

impl Control {
    /// A control in [`Command::Pause`].
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            command: AtomicU8::new(Command::Pause as u8),
            inner: Mutex::default(),
            changed: Condvar::new(),
            finished: EventFd::new(EFD_NONBLOCK)?,
        }))
    }

    /// What a vCPU thread is to do now. One atomic load: asked before every `KVM_RUN`.
    pub fn command(&self) -> Command {
        match self.command.load(Ordering::SeqCst) {
            0 => Command::Pause,
            1 => Command::Run,
            _ => Command::Stop,
        }
    }

    /// Gives a new command; [`Command::Stop`] is final. Threads inside `KVM_RUN` must be kicked.
    pub fn set(&self, command: Command) {
        let _inner = self.lock();
        if self.command() != Command::Stop {
            self.command.store(command as u8, Ordering::SeqCst);
        }
        self.changed.notify_all();
    }

    /// Takes [`Command::Stop`] back, once no thread obeys it any more, for another VM. Not after
    /// [`Self::finish`].
    pub fn rearm(&self) {
        let inner = self.lock();
        if inner.outcome.is_none() {
            self.command.store(Command::Pause as u8, Ordering::SeqCst);
        }
    }

    /// Ends the VM: the first outcome counts, the main thread wakes, and the calling vCPU thread
    /// will not enter the guest again.
    pub fn finish(&self, outcome: Outcome) {
        self.lock().outcome.get_or_insert(outcome);
        self.set(Command::Stop);
        // A full counter has woken the main thread already.
        let _ = self.finished.write(1);
    }

    /// How the VM ended, if it did.
    pub fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome.clone()
    }

    /// Readable once [`Self::finish`] was called.
    pub fn finished(&self) -> &EventFd {
        &self.finished
    }

    /// Called by a vCPU thread: waits until the command is no longer [`Command::Pause`].
    pub fn park(&self) -> Command {
        let mut inner = self.lock();
        inner.parked += 1;
        self.changed.notify_all();
        while self.command() == Command::Pause {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.parked -= 1;
        self.command()
    }

    /// Called by the main thread: waits up to 10 ms until `count` threads are parked.
    pub fn wait_parked(&self, count: usize) -> bool {
        let wait = std::time::Duration::from_millis(10);
        let result = self.changed.wait_timeout_while(self.lock(), wait, |inner| inner.parked < count);
        let (inner, _) = result.unwrap_or_else(PoisonError::into_inner);
        inner.parked >= count
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn finish_first_outcome_counts_and_stop_is_final() {
        let control = Control::new().unwrap();
        control.set(Command::Run);
        control.finish(Outcome::Reset);
        control.finish(Outcome::PowerOff);
        control.set(Command::Run);
        assert_eq!(control.outcome(), Some(Outcome::Reset));
        assert_eq!(control.command(), Command::Stop);
        assert!(control.finished().read().is_ok());
    }

    #[test]
    fn park_waits_for_a_command_and_is_counted() {
        let control = Control::new().unwrap();
        let waiter = std::thread::spawn({
            let control = control.clone();
            move || control.park()
        });
        while !control.wait_parked(1) {}
        control.set(Command::Run);
        assert_eq!(waiter.join().unwrap(), Command::Run);
        assert!(!control.wait_parked(1));
    }
}
