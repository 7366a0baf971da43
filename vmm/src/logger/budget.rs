// SPDX-License-Identifier: Apache-2.0
//! How often a place in the source may say something, so that nobody fills a disk or silences the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log::{Level, Record};

/// Messages that one place may have at once.
const BURST: u32 = 30;
/// After how long it has one more: with 150 bytes each, 2 MB a day.
const REFILL: Duration = Duration::from_secs(6);

/// A place in the source. There are as many as there are calls of the log macros: a guest makes no new ones.
type Place = (&'static str, u32);

/// What each place has left.
#[derive(Debug, Default)]
pub(super) struct Budgets(HashMap<Place, Budget>);

#[derive(Debug)]
struct Budget {
    left: u32,
    since: Instant,
    left_out: u64,
}

impl Budgets {
    /// Whether this message may be said, and how many of its place were left out before it.
    ///
    /// Debug and trace messages have no budget: whoever asks for them wants them all.
    pub(super) fn take(&mut self, record: &Record, now: Instant) -> Option<u64> {
        if record.level() >= Level::Debug {
            return Some(0);
        }
        let place = (record.file_static().unwrap_or_default(), record.line().unwrap_or_default());
        self.0.entry(place).or_insert_with(|| Budget { left: BURST, since: now, left_out: 0 }).take(now)
    }
}

impl Budget {
    fn take(&mut self, now: Instant) -> Option<u64> {
        let refills = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        if let Ok(refills @ 1..) = u32::try_from(refills) {
            self.left = self.left.saturating_add(refills).min(BURST);
            self.since += REFILL * refills;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, level: Level) -> Record<'static> {
        Record::builder().level(level).file_static(Some("f.rs")).line(Some(line)).build()
    }

    #[test]
    fn flood_of_one_place_leaves_the_others_theirs_and_is_counted() {
        let (mut budgets, start) = (Budgets::default(), Instant::now());
        let flood = at(1, Level::Warn);
        let said = (0..10_000).filter(|_| budgets.take(&flood, start).is_some()).count();
        assert_eq!(said, BURST as usize);
        assert_eq!(budgets.take(&at(2, Level::Error), start), Some(0));
        assert_eq!(budgets.take(&flood, start + REFILL), Some(10_000 - u64::from(BURST)));
        assert_eq!(budgets.take(&flood, start + REFILL), None);
        assert_eq!(budgets.take(&at(3, Level::Debug), start), Some(0));
    }

    #[test]
    fn day_of_flood_is_bounded() {
        let (mut budgets, start) = (Budgets::default(), Instant::now());
        let said = (0..86_400 * 10)
            .filter(|tenth| budgets.take(&at(1, Level::Warn), start + Duration::from_millis(100) * *tenth).is_some());
        assert!(said.count() <= 86_400 / 6 + BURST as usize);
        assert_eq!(budgets.0.len(), 1);
    }
}
