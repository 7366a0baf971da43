// SPDX-License-Identifier: Apache-2.0
//! Trace events: those of secret memory, which the kernel series adds (include/trace/events/secretmem.h), and any other.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;

const TRACEFS: &str = "/sys/kernel/tracing";
/// For each CPU; enough for thousands of events.
const BUFFER_KIB: &str = "4096";

/// An event, with pages counted in 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A folio of 2^order pages is in a file, at page `index`.
    Populate {
        /// The file.
        ino: u64,
        /// Its page.
        index: u64,
        /// The first frame.
        pfn: u64,
        /// Base-2 logarithm of the pages.
        order: u32,
    },
    /// A folio has left its file.
    Free {
        /// The first frame.
        pfn: u64,
        /// Base-2 logarithm of the pages.
        order: u32,
        /// Withheld from reuse.
        lost: bool,
    },
    /// The kernel maps a page for itself.
    MapAlias {
        /// The file.
        ino: u64,
        /// The frame.
        pfn: u64,
    },
    /// That mapping is gone.
    UnmapAlias {
        /// The file.
        ino: u64,
        /// The frame.
        pfn: u64,
    },
}

/// A trace of its own, of one event or one kind of events. Dropping it ends it.
pub struct Trace {
    folder: PathBuf,
    enable: String,
}

impl Trace {
    /// Records events of secret memory from now on.
    ///
    /// # Errors
    /// As [`Trace::of`].
    pub fn start() -> Result<Self> {
        Self::of("secretmem", None)
    }

    /// Records an event, by its folder in tracefs, from now on; of one thread only, if it is given.
    ///
    /// # Errors
    /// There is no tracefs, or the kernel has no such event.
    pub fn of(event: &str, thread: Option<Pid>) -> Result<Self> {
        let folder = PathBuf::from(format!("{TRACEFS}/instances/secretvmm-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("Cannot create {}", folder.display()))?;
        let trace = Trace { folder, enable: format!("events/{event}/enable") };
        trace.set("buffer_size_kb", BUFFER_KIB)?;
        if let Some(thread) = thread {
            trace.set("set_event_pid", &thread.to_string())?;
        }
        trace.set(&trace.enable, "1")?;
        Ok(trace)
    }

    /// All events of secret memory so far.
    ///
    /// # Errors
    /// Some were lost, or one is not understood.
    pub fn events(&self) -> Result<Vec<Event>> {
        self.lines()?.iter().map(|line| parse(line)).collect()
    }

    /// The lines of all events so far.
    ///
    /// # Errors
    /// Some were lost.
    pub fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.folder.join("trace")).context("Cannot read the trace")?;
        // The head says how many events are in the buffer, and how many there were.
        let counts = text.lines().find_map(|line| line.strip_prefix("# entries-in-buffer/entries-written: "));
        let counts = counts.and_then(|counts| counts.split_ascii_whitespace().next()?.split_once('/'));
        match counts {
            Some((kept, written)) if kept == written => {}
            _ => bail!("The trace lost events, or says nothing of it: {counts:?}"),
        }
        Ok(text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.folder.join(file), value).with_context(|| format!("Cannot set {file} of the trace"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Left behind it costs memory only, and the nested host's end takes it away.
        let _ = self.set(&self.enable, "0");
        let _ = fs::remove_dir(&self.folder);
    }
}

/// `TASK-PID [CPU] FLAGS TIME: EVENT: NAME=VALUE …`
fn parse(line: &str) -> Result<Event> {
    event(line).with_context(|| format!("A trace line is not understood: {line}"))
}

fn event(line: &str) -> Option<Event> {
    let names = ["secretmem_populate", "secretmem_free", "secretmem_map_alias", "secretmem_unmap_alias"];
    let (name, fields) = names.iter().find_map(|name| Some((*name, line.split_once(&format!(": {name}: "))?.1)))?;
    let value = |key: &str| {
        let text = fields.split(' ').find_map(|field| field.strip_prefix(key)?.strip_prefix('='))?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let order = || u32::try_from(value("order")?).ok();
    let pfn = value("pfn")?;
    Some(match name {
        "secretmem_populate" => Event::Populate { ino: value("ino")?, index: value("index")?, pfn, order: order()? },
        "secretmem_free" => Event::Free { pfn, order: order()?, lost: value("lost")? != 0 },
        "secretmem_map_alias" => Event::MapAlias { ino: value("ino")?, pfn },
        _ => Event::UnmapAlias { ino: value("ino")?, pfn },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parse_takes_each_event_apart() {
        let populate = "  secretvmm-77  [000] .....  12.3: secretmem_populate: ino=9 index=512 pfn=0x10a200 order=9";
        let expected = Event::Populate { ino: 9, index: 512, pfn: 0x10_a200, order: 9 };
        assert_eq!(parse(populate).unwrap(), expected);
        let free = " x-1 [000] ..... 1.0: secretmem_free: pfn=0x10 order=0 lost=1";
        assert_eq!(parse(free).unwrap(), Event::Free { pfn: 16, order: 0, lost: true });
        let alias = " x-1 [000] ..... 1.0: secretmem_unmap_alias: ino=9 pfn=0x10";
        assert_eq!(parse(alias).unwrap(), Event::UnmapAlias { ino: 9, pfn: 16 });
        assert!(parse(" x-1 [000] ..... 1.0: sched_switch: pfn=0x10").is_err());
    }
}
