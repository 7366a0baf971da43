// SPDX-License-Identifier: Apache-2.0
//! The kernel's trace of some events, with the time of each.

use std::fs;

use anyhow::{Context, Result};

const TRACING: &str = "/sys/kernel/tracing";
const MARK: &str = "bench: start";

/// An event and which of its occurrences count: a filter in the kernel's own words, or none.
pub(super) type Event = (&'static str, &'static str);

/// Entries into guests.
pub(super) const KVM_ENTRY: Event = ("kvm/kvm_entry", "0");
/// Beginnings of fallocate(2), number 285.
pub(super) const FALLOCATE_ENTER: Event = ("raw_syscalls/sys_enter", "id == 285");
/// Ends of fallocate(2).
pub(super) const FALLOCATE_EXIT: Event = ("raw_syscalls/sys_exit", "id == 285");

/// Events from a mark on.
pub(super) struct Trace(&'static [Event]);

impl Trace {
    pub(super) fn begin(events: &'static [Event]) -> Result<Self> {
        for (file, value) in [("tracing_on", "0"), ("trace", ""), ("options/overwrite", "0")] {
            write(file, value)?;
        }
        for (event, filter) in events {
            // "0" takes a filter away.
            write(&format!("events/{event}/filter"), filter)?;
            write(&format!("events/{event}/enable"), "1")?;
        }
        write("tracing_on", "1")?;
        write("trace_marker", MARK)?;
        Ok(Trace(events))
    }

    /// What has been traced until now.
    pub(super) fn end(self) -> Result<Traced> {
        write("tracing_on", "0")?;
        Ok(Traced(fs::read_to_string(format!("{TRACING}/trace")).context("Cannot read the trace")?))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        for (event, _) in self.0 {
            // What follows is slower with it on, and goes with the host at the latest.
            let _ = write(&format!("events/{event}/enable"), "0");
        }
    }
}

/// Events in the order of their times.
pub(super) struct Traced(String);

impl Traced {
    /// The time from the mark to the first event of that name.
    pub(super) fn microseconds_to(&self, event: &str) -> Result<u64> {
        let mark = self.0.lines().find(|line| line.contains(MARK)).context("The mark is not in the trace")?;
        let first = self.times(event).next().with_context(|| format!("No {event} in the trace"))??;
        Ok(first - microseconds(mark)?)
    }

    /// The sum of the times between events `begin` and the `end` that follows each.
    pub(super) fn microseconds_between(&self, begin: &str, end: &str) -> Result<u64> {
        let ends = self.times(end).collect::<Result<Vec<_>>>()?;
        let begins = self.times(begin).collect::<Result<Vec<_>>>()?;
        anyhow::ensure!(begins.len() == ends.len(), "{} of {begin}, {} of {end}", begins.len(), ends.len());
        Ok(begins.iter().zip(&ends).map(|(begin, end)| end.saturating_sub(*begin)).sum())
    }

    fn times(&self, event: &str) -> impl Iterator<Item = Result<u64>> {
        let name = format!(": {event}: ");
        self.0.lines().filter(move |line| line.contains(&name)).map(microseconds)
    }
}

fn write(file: &str, value: &str) -> Result<()> {
    fs::write(format!("{TRACING}/{file}"), value).with_context(|| format!("Cannot write {TRACING}/{file}"))
}

/// ` bench-91    [000] .....    12.345678: kvm_entry: …` → 12345678.
fn microseconds(line: &str) -> Result<u64> {
    let stamp = line.split_whitespace().find_map(|word| {
        let (seconds, fraction) = word.strip_suffix(':')?.split_once('.')?;
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        (all_digits(seconds) && all_digits(fraction) && fraction.len() == 6).then(|| format!("{seconds}{fraction}"))
    });
    stamp.with_context(|| format!("No time in {line}"))?.parse().context("Not a time")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn microseconds_reads_a_line_of_the_trace() {
        let line = "     vcpu0-92      [000] .....    12.345678: kvm_entry: vcpu 0, rip 0x1000000";
        assert_eq!(microseconds(line).unwrap(), 12_345_678);
        assert!(microseconds("# entries-in-buffer/entries-written: 1/1").is_err());
    }

    #[test]
    fn traced_measures_from_the_mark_and_between_pairs() {
        let traced = Traced(
            " bench-9 [000] ..... 1.000100: tracing_mark_write: bench: start\n \
             vmm-10 [000] ..... 1.000200: sys_enter: NR 285 (3, 0, 0, 8000000)\n \
             vmm-10 [000] ..... 1.000450: sys_exit: NR 285 = 0\n \
             vmm-10 [000] ..... 1.000500: sys_enter: NR 285 (3, 0, 8000000, 200000)\n \
             vmm-10 [000] ..... 1.000501: sys_exit: NR 285 = 0\n"
                .into(),
        );
        assert_eq!(traced.microseconds_to("sys_exit").unwrap(), 350);
        assert_eq!(traced.microseconds_between("sys_enter", "sys_exit").unwrap(), 251);
        assert_eq!(traced.microseconds_between("kvm_entry", "kvm_exit").unwrap(), 0);
        assert!(traced.microseconds_to("kvm_entry").is_err());
    }
}
