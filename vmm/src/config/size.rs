// SPDX-License-Identifier: Apache-2.0
//! Memory sizes as people write them.

use crate::layout;

/// Rounds a size in bytes up to whole 2 MiB, so that all of it can be mapped by 2M leaves. None if
/// that overflows.
pub fn round_memory(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(layout::RAM_ALIGN)
}

/// Parses a size such as `512M` or `2G` (K, M and G are powers of 1024) and rounds it up to a
/// multiple of 2 MiB.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.strip_prefix(digits) {
        Some("K" | "k") => 10,
        Some("M" | "m") => 20,
        Some("G" | "g") => 30,
        _ => return Err("give a number with K, M or G, such as 512M or 2G".to_owned()),
    };
    let count: u64 = digits.parse().map_err(|_| "give a whole number with K, M or G, such as 512M".to_owned())?;
    let bytes = count.checked_mul(1 << shift).and_then(round_memory);
    bytes.ok_or_else(|| "that is more than any machine has".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_memory_knows_suffixes_and_rounds_up() {
        assert_eq!(parse_memory("512M"), Ok(512 << 20));
        assert_eq!(parse_memory("2g"), Ok(2 << 30));
        assert_eq!(parse_memory("32769K"), Ok(34 << 20));
        assert_eq!(parse_memory("33M"), Ok(34 << 20));
        for text in ["", "2", "2T", "-1M", "M", "1.5G", "2 G", "99999999999G", "18446744073709551615K"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }
}
