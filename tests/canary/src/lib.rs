// SPDX-License-Identifier: Apache-2.0
//! Canary pages: memory contents that a probe can recognise without carrying them.
//!
//! A guest fills pages with words derived from a 64-bit seed and the page's index. A prober that knows the seed
//! recognises such a page by computing what each word should be, so the needle never lies in the prober's own memory
//! (rule 4 of the attestation design). Every VM of a run gets its own seed, so that pages left behind by one are never
//! taken for pages of another.
//!
//! A page is 512 little-endian words of 64 bits. Word 0 hides the index under a mask made of the seed; word `j` is a
//! hash of seed, index and `j`.
//!
//! ```
//! use secretvmm_canary::{Match, Seed};
//! let seed = Seed::new(0x5eed);
//! let page = seed.page(7);
//! assert_eq!(seed.recognise(&page), Some(Match { index: 7, words: 512 }));
//! assert_eq!(Seed::new(1).recognise(&page), None);
//! ```

use std::fmt;
use std::str::FromStr;

/// Bytes in a canary page: one x86-64 base page.
pub const PAGE_SIZE: usize = 4096;

/// 64-bit words in a canary page.
pub const PAGE_WORDS: usize = PAGE_SIZE / 8;

/// Page indices stay below this, so that a random word 0 passes the first check once in 2^40.
const MAX_INDEX: u64 = 1 << 24;

/// Words after word 0 that must match before a page counts as a canary; fewer could be chance, more would overlook a
/// page whose tail was overwritten.
const MIN_WORDS: usize = 8;

/// What a set of canary pages is derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

/// A page that carries a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The page's index, as it was filled.
    pub index: u64,
    /// How many of the 512 words are intact.
    pub words: usize,
}

impl Seed {
    /// A seed with a given value.
    pub const fn new(value: u64) -> Self {
        Seed(value)
    }

    /// The contents of page `index` (below 2^24).
    pub fn page(self, index: u64) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        self.fill(index, &mut page);
        page
    }

    /// Writes page `index` (below 2^24) into `page`.
    pub fn fill(self, index: u64, page: &mut [u8; PAGE_SIZE]) {
        for (position, bytes) in page.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&self.word(index, position as u64).to_le_bytes());
        }
    }

    /// Tells whether `page` carries a canary of this seed. Pages shorter than [`PAGE_SIZE`] never do.
    pub fn recognise(self, page: &[u8]) -> Option<Match> {
        let mut words = page.chunks_exact(8).map(le_word);
        let index = self.index_of(words.next()?)?;
        if page.len() != PAGE_SIZE {
            return None;
        }
        let intact = (1..).zip(words).filter(|&(position, word)| word == self.word(index, position)).count();
        (intact >= MIN_WORDS).then_some(Match { index, words: intact + 1 })
    }

    /// Which page it may be that begins with this word: none other than what [`Seed::recognise`] is worth asking about.
    pub fn index_of(self, first_word: u64) -> Option<u64> {
        let index = first_word ^ mix(self.0);
        (index < MAX_INDEX).then_some(index)
    }

    fn word(self, index: u64, position: u64) -> u64 {
        match position {
            0 => mix(self.0) ^ index,
            _ => mix(mix(self.0 ^ (index << 16)).wrapping_add(position)),
        }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Seed {
    type Err = std::num::ParseIntError;

    /// Reads hexadecimal digits, as [`fmt::Display`] writes them.
    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(digits, 16).map(Seed)
    }
}

fn le_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection whose output looks random.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognise_other_index_reports_that_index() {
        let seed = Seed::new(42);
        assert_eq!(seed.recognise(&seed.page(123_456)), Some(Match { index: 123_456, words: PAGE_WORDS }));
    }

    #[test]
    fn recognise_damaged_page_counts_intact_words() {
        let seed = Seed::new(42);
        let mut page = seed.page(3);
        page[8 * 100..8 * 200].fill(0);
        assert_eq!(seed.recognise(&page), Some(Match { index: 3, words: PAGE_WORDS - 100 }));
    }

    #[test]
    fn recognise_first_word_alone_is_no_match() {
        let seed = Seed::new(42);
        let mut page = [0; PAGE_SIZE];
        page[..8].copy_from_slice(&seed.page(3)[..8]);
        assert_eq!(seed.recognise(&page), None);
    }

    #[test]
    fn recognise_zeros_short_or_empty_page_is_no_match() {
        let seed = Seed::new(42);
        assert_eq!(seed.recognise(&[0; PAGE_SIZE]), None);
        assert_eq!(seed.recognise(&seed.page(0)[..2048]), None);
        assert_eq!(seed.recognise(&[]), None);
    }

    #[test]
    fn seed_display_round_trips() {
        let seed = Seed::new(0x00ab_cdef_0000_0001);
        assert_eq!(seed.to_string().parse(), Ok(seed));
    }
}
