// SPDX-License-Identifier: Apache-2.0
//! Chance that repeats itself with its seed.

use std::time::Duration;

/// Marsaglia's xorshift64 (2003).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`, or 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11).checked_rem(limit).unwrap_or(0)
    }

    /// A time below `limit`, in whole µs.
    pub(crate) fn up_to(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX)))
    }

    /// True in one of `times` cases.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of some.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.get(usize::try_from(self.below(of.len() as u64)).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_reaches_every_number_and_repeats_with_its_seed() {
        let rolled =
            |seed| (0..200).map(|_| ()).scan(Dice::new(seed), |dice, ()| Some(dice.below(6))).collect::<Vec<_>>();
        assert!((0..6).all(|number| rolled(3).contains(&number)));
        assert_eq!(rolled(3), rolled(3));
        assert_ne!(rolled(3), rolled(4));
        assert_eq!(Dice::new(0).below(0), 0);
    }
}
