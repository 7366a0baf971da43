// SPDX-License-Identifier: Apache-2.0
//! A kprobe event that fetches words at an address of the direct map (Documentation/trace/kprobetrace.rst).

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use crate::probes::{Class, Outcome, Subject, kcore};

const TRACING: &str = "/sys/kernel/tracing";
/// How every event begins here.
pub(super) const EVENT: &str = "p:secretvmm/fetch";
/// A system call that nobody else makes, and its function.
const FUNCTION: &str = "__x64_sys_getppid";
/// What a canary is recognised by, at the least.
const WORDS: usize = 12;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let address = kcore::direct_map_address(subject.frame(subject.planted[0])?)?;
    let mut event = format!("{EVENT} {FUNCTION}");
    for word in 0..WORDS {
        write!(event, " w{word}=@{:#x}:x64", address + 8 * word as u64)?;
    }
    let line = trace_one(&event, || {
        let _ = nix::unistd::getppid();
        Ok(())
    })?;
    let values = line.split(' ').filter_map(|word| word.split_once('=').map(|(_, value)| value)).collect::<Vec<_>>();
    ensure!(values.len() == WORDS, "The event has {} of {WORDS} words: {line}", values.len());
    if values.iter().all(|value| *value == "(fault)") {
        return Ok(Outcome { errno: Some(Errno::EFAULT), ..Outcome::new(Class::Refused, "every word (fault)") });
    }
    let mut page = [0; PAGE_SIZE];
    for (value, word) in values.iter().zip(page.chunks_exact_mut(8)) {
        let value = u64::from_str_radix(value.trim_start_matches("0x"), 16).with_context(|| line.clone())?;
        word.copy_from_slice(&value.to_le_bytes());
    }
    Ok(subject.judge(&page))
}

/// Sets the event, lets it happen by a deed, removes it; gives its first line.
pub(super) fn trace_one(event: &str, deed: impl FnOnce() -> Result<()>) -> Result<String> {
    put("kprobe_events", event)?;
    put("trace", "")?;
    put("events/secretvmm/fetch/enable", "1")?;
    let done = deed();
    put("events/secretvmm/fetch/enable", "0")?;
    let trace = fs::read_to_string(format!("{TRACING}/trace"))?;
    // To open it for a new content removes every event.
    put("kprobe_events", "")?;
    done?;
    let line = trace.lines().find_map(|line| line.split_once(" fetch: ").map(|(_, what)| what.to_owned()));
    line.context("The event did not happen")
}

fn put(file: &str, text: &str) -> Result<()> {
    fs::write(format!("{TRACING}/{file}"), text).with_context(|| format!("Cannot write {file}"))
}
