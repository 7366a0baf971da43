// SPDX-License-Identifier: Apache-2.0
//! The thread that populates guest RAM beside the guest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use error_reporter::Report;
use rustix::process::setpriority_process;
use rustix::thread::gettid;

use super::{Backing, Error};
use crate::sandbox::{Sandbox, Thread};

/// Bytes a call: one TLB flush each, and as long as an end may have to wait.
const STEP: u64 = 32 << 20;
/// The vCPUs come first: they populate what the guest touches.
const NICE: i32 = 19;
const STACK: usize = 64 << 10;

/// Guest RAM that is being populated. Dropping it ends that.
#[derive(Debug, Default)]
pub struct Populating {
    end: Arc<AtomicBool>,
    /// None if nothing is to be done.
    thread: Option<JoinHandle<()>>,
}

impl Populating {
    pub(super) fn start(backing: &Arc<Backing>, sandbox: Sandbox) -> io::Result<Self> {
        if backing.to_populate().is_none() {
            return Ok(Self::default());
        }
        let end = Arc::new(AtomicBool::new(false));
        let builder = thread::Builder::new().name("populate".into()).stack_size(STACK);
        let thread = builder.spawn({
            let (backing, end) = (backing.clone(), end.clone());
            move || populate(&backing, &end, sandbox)
        })?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Populating {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has logged why, if it did not get through.
            let _ = thread.join();
        }
    }
}

/// What cannot be populated now comes when the guest touches it, or ends the VM then.
fn populate(backing: &Backing, end: &AtomicBool, sandbox: Sandbox) {
    let Some(file) = backing.to_populate() else { return };
    if let Err(err) = setpriority_process(Some(gettid()), NICE) {
        log::warn!("guest memory is populated at full priority: {err}");
    }
    if let Err(err) = sandbox.confine(Thread::Populate) {
        return log::error!("guest memory is not populated: {}", Report::new(&err));
    }
    for offset in (0..file.size()).step_by(STEP as usize) {
        if end.load(Ordering::Relaxed) {
            return;
        }
        if let Err(err) = file.populate(offset, STEP.min(file.size() - offset)) {
            let err = Error::from(err).explain(backing.kind(), file.size());
            return log::warn!("the VM ends when its guest touches memory that is not there: {}", Report::new(&err));
        }
    }
    log::info!("{} MiB of guest memory are there", file.size() >> 20);
}
