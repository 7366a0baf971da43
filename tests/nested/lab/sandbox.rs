// SPDX-License-Identifier: Apache-2.0
//! System calls that the VMM's threads have given up.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretvmm_tests::guest::{Ending, Guest, STEP_LIMIT};
use secretvmm_tests::inject;

use crate::support::{Scratch, on_clean_host, own_guest, power_off};

const MAIN: &str = "secretvmm";
const API: &str = "api";
const VCPU: &str = "vcpu0";
/// It is there until all of the guest's memory is.
const POPULATE: &str = "populate";
const ALL: [&str; 4] = [MAIN, API, VCPU, POPULATE];
/// Asks for the personality and changes nothing; the answer, 0, is one that whoever waits for events can take.
const FORBIDDEN: (i64, u64) = (libc::SYS_personality, 0xffff_ffff);
/// The process's and its own.
const FILTERS: u32 = 2;

/// A VMM with an API and a guest that is about to boot.
fn start(scratch: &Scratch, flags: &[&str]) -> Result<Guest> {
    let socket = scratch.path("api.sock");
    let builder = own_guest()?.memory("1G").arguments(["--api-sock".as_ref(), socket.as_os_str()]);
    builder.arguments(flags.iter().copied()).start()
}

/// Waits until every thread is there and has its filter, which is before the guest's first instruction.
fn wait_for_filters(guest: &Guest) -> Result<()> {
    let deadline = Instant::now() + STEP_LIMIT;
    let filters = |name| inject::filters(guest.pid(), inject::thread_named(guest.pid(), name)?);
    loop {
        let missing = ALL.into_iter().find(|name| filters(name).ok() != Some(FILTERS));
        let Some(name) = missing else { return Ok(()) };
        ensure!(Instant::now() < deadline, "{name} has filters: {:?}", filters(name));
        sleep(Duration::from_millis(20));
    }
}

/// The test runs as root, and so does the VMM.
#[test]
fn every_thread_has_given_up_its_capabilities() -> Result<()> {
    on_clean_host(|| {
        for (flags, kept) in [(&[][..], false), (&["--keep-capabilities"], true)] {
            let scratch = Scratch::new("capabilities")?;
            let guest = start(&scratch, flags)?;
            wait_for_filters(&guest).with_context(|| guest.messages.text())?;
            for name in ALL {
                let thread = inject::thread_named(guest.pid(), name)?;
                let status = std::fs::read_to_string(format!("/proc/{}/task/{thread}/status", guest.pid()))?;
                for set in ["CapPrm", "CapEff"] {
                    let line = status.lines().find(|line| line.starts_with(set)).context("No such line")?;
                    ensure!(line.ends_with("0000000000000000") != kept, "{name}, {flags:?}: {line}");
                }
            }
        }
        Ok(())
    })
}

#[test]
fn forbidden_system_call_ends_the_vmm_whichever_thread_makes_it() -> Result<()> {
    on_clean_host(|| {
        for name in ALL {
            let scratch = Scratch::new("sandbox")?;
            let mut guest = start(&scratch, &[])?;
            wait_for_filters(&guest).with_context(|| guest.messages.text())?;
            inject::system_call(inject::thread_named(guest.pid(), name)?, FORBIDDEN.0, FORBIDDEN.1)?;
            let (ending, said) = (guest.wait(STEP_LIMIT)?, guest.all_messages());
            ensure!(ending == Ending::Code(148), "{name}: ended with {ending:?}: {said}");
            let expected = format!("system call {} is forbidden", FORBIDDEN.0);
            ensure!(said.contains(&expected), "{name}: the VMM does not say which call it was: {said}");
        }
        Ok(())
    })
}

/// The control: without filters the same call ends nothing.
#[test]
fn same_system_call_without_filters_ends_nothing() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("no-sandbox")?;
        let mut guest = start(&scratch, &["--no-seccomp"])?;
        guest.wait_for_shell()?;
        for name in [MAIN, API] {
            let thread = inject::thread_named(guest.pid(), name)?;
            ensure!(inject::filters(guest.pid(), thread)? == 0, "{name} has a filter");
            inject::system_call(thread, FORBIDDEN.0, FORBIDDEN.1)?;
        }
        ensure!(guest.shell("echo still here")? == "still here", "The guest is gone");
        power_off(&mut guest)
    })
}
