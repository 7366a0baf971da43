// SPDX-License-Identifier: Apache-2.0
//! What a process and its threads make the kernel do, counted by perf events.
#![allow(unsafe_code)] // perf_event_open(2) has no safe form.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::FromRawFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::unistd::Pid;

const TRACING: &str = "/sys/kernel/tracing/events";

/// `struct perf_event_attr` as of version 0 (64 bytes), include/uapi/linux/perf_event.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

const TYPE_SOFTWARE: u32 = 1;
const TYPE_TRACEPOINT: u32 = 2;
const SOFTWARE_PAGE_FAULTS: u64 = 2;
const FLAG_DISABLED: u64 = 1 << 0;
const FLAG_INHERIT: u64 = 1 << 1;
const FLAG_ENABLE_ON_EXEC: u64 = 1 << 12;

/// Counters that start with the process's next `execve` and follow it into its threads.
pub(super) struct Counters {
    pub(super) exits: Counter,
    pub(super) page_faults: Counter,
    pub(super) system_calls: Counter,
}

impl Counters {
    pub(super) fn of(process: Pid) -> Result<Self> {
        Ok(Counters {
            exits: Counter::open(process, TYPE_TRACEPOINT, tracepoint("kvm/kvm_exit")?)?,
            page_faults: Counter::open(process, TYPE_SOFTWARE, SOFTWARE_PAGE_FAULTS)?,
            system_calls: Counter::open(process, TYPE_TRACEPOINT, tracepoint("raw_syscalls/sys_enter")?)?,
        })
    }
}

/// One counter.
pub(super) struct Counter(File);

impl Counter {
    fn open(process: Pid, kind: u32, config: u64) -> Result<Self> {
        let attributes = Attributes {
            kind,
            size: u32::try_from(size_of::<Attributes>())?,
            config,
            flags: FLAG_DISABLED | FLAG_INHERIT | FLAG_ENABLE_ON_EXEC,
            ..Attributes::default()
        };
        // SAFETY: the kernel reads `size` bytes of the structure; any CPU, no group, no flags.
        let descriptor = unsafe { libc::syscall(libc::SYS_perf_event_open, &attributes, process.as_raw(), -1, -1, 0) };
        let descriptor = i32::try_from(Errno::result(descriptor).context("Cannot count events")?)?;
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(Counter(unsafe { File::from_raw_fd(descriptor) }))
    }

    pub(super) fn read(&self) -> Result<u64> {
        let mut value = [0; 8];
        (&self.0).read_exact(&mut value).context("Cannot read a counter")?;
        Ok(u64::from_ne_bytes(value))
    }
}

fn tracepoint(name: &str) -> Result<u64> {
    let path = format!("{TRACING}/{name}/id");
    let text = fs::read_to_string(&path).with_context(|| format!("No tracepoint {path}"))?;
    text.trim().parse().with_context(|| format!("No number in {path}"))
}
