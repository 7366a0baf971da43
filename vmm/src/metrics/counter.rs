// SPDX-License-Identifier: Apache-2.0
//! The two kinds of figures.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Counts events. Writing it out says how many there were since the last time that it was written,
/// as Firecracker's counters do.
#[derive(Debug, Default)]
pub struct Counter {
    total: AtomicU64,
    written: AtomicU64,
}

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.total.fetch_add(count, Ordering::Relaxed);
    }

    /// All so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

impl Serialize for Counter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let total = self.total();
        serializer.serialize_u64(total - self.written.swap(total, Ordering::Relaxed).min(total))
    }
}

/// The latest value of something that is measured again and again.
#[derive(Debug, Default)]
pub struct Latest(AtomicU64);

impl Latest {
    /// Takes a time, in whole microseconds.
    pub fn set(&self, time: Duration) {
        self.0.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Serialize for Latest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn counter_is_written_as_what_is_new() {
        let counter = Counter::default();
        counter.add(3);
        assert_eq!(serde_json::to_string(&counter).unwrap(), "3");
        assert_eq!(serde_json::to_string(&counter).unwrap(), "0");
        counter.inc();
        assert_eq!((serde_json::to_string(&counter).unwrap().as_str(), counter.total()), ("1", 4));
    }

    #[test]
    fn latest_is_written_as_it_is() {
        let latest = Latest::default();
        latest.set(Duration::from_millis(2));
        assert_eq!(serde_json::to_string(&latest).unwrap(), "2000");
        assert_eq!(serde_json::to_string(&latest).unwrap(), "2000");
    }
}
