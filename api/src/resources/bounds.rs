// SPDX-License-Identifier: Apache-2.0
//! Numbers with bounds.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, Error, Unexpected};

/// A number that may have bounds.
pub(super) trait Number: PartialOrd + Display + Copy + Into<u64> {}

impl<T: PartialOrd + Display + Copy + Into<u64>> Number for T {}

/// Reads a number that has to be in `range`.
pub(super) fn within<'de, T, D>(deserializer: D, range: RangeInclusive<T>) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Number,
    D: Deserializer<'de>,
{
    check(T::deserialize(deserializer)?, &range)
}

/// Reads null or a number that has to be in `range`.
pub(super) fn within_or_null<'de, T, D>(deserializer: D, range: RangeInclusive<T>) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + Number,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer)?.map(|number| check(number, &range)).transpose()
}

fn check<T: Number, E: Error>(number: T, range: &RangeInclusive<T>) -> Result<T, E> {
    if range.contains(&number) {
        return Ok(number);
    }
    let expected = format!("a number from {} to {}", range.start(), range.end());
    Err(E::invalid_value(Unexpected::Unsigned(number.into()), &expected.as_str()))
}
