// SPDX-License-Identifier: Apache-2.0
//! Physical memory as pictures, a square for each 2 MiB.

use std::fmt::Write;

use secretvmm_proof::map::Block;

use crate::prove::system::{Moments, System};

/// Squares in a row.
const COLUMNS: usize = 32;

/// Distance between squares.
const STEP: usize = 10;
/// Their side.
const SIDE: usize = 9;

/// One system's memory.
pub(super) struct Drawn {
    pub(super) system: System,
    pub(super) moments: Moments,
}

/// Every kind of square: its class, its colour in `page.css`, its meaning.
pub(super) const KINDS: [(Block, &str, [u8; 3], &str); 8] = [
    (Block::Giant, "giant", [0x1a, 0x7f, 0x37], "mapped, in an entry of 1 GiB"),
    (Block::Large, "large", [0x4a, 0xc2, 0x6b], "mapped, an entry of 2 MiB"),
    (Block::Small, "small", [0xd4, 0xa7, 0x2c], "mapped, 512 entries of 4 KiB"),
    (Block::Pierced, "pierced", [0xe1, 0x6f, 0x24], "mapped in part"),
    (Block::Guest, "guest", [0x05, 0x50, 0xae], "the guest's, missing as one entry"),
    (Block::Shredded, "shredded", [0x82, 0x50, 0xdf], "the guest's, missing as entries of 4 KiB"),
    (Block::Absent, "absent", [0x8c, 0x95, 0x9f], "missing, and not the guest's: the pool, or reserved"),
    (Block::Exposed, "exposed", [0xcf, 0x22, 0x2e], "the guest's, and mapped"),
];

/// What the colours mean.
pub(super) fn legend(page: &mut String) {
    page.push_str("<ul class=\"legend\">\n");
    for (_, class, _, meaning) in KINDS {
        let _ = writeln!(
            page,
            "<li><svg viewBox=\"0 0 9 9\"><rect class=\"{class}\" width=\"9\" height=\"9\"/></svg>{meaning}</li>"
        );
    }
    page.push_str("</ul>\n");
}

impl Drawn {
    /// Three pictures in a row.
    pub(super) fn figures(&self, page: &mut String) {
        for (moment, findings) in ["before", "during", "after"].into_iter().zip(&self.moments) {
            let [small, large, giant] = findings.entries;
            let _ = writeln!(
                page,
                "<figure><figcaption><b>{}</b>, {moment}: the direct map has {giant} entries of 1G, {large} of 2M, \
                 {small} of 4K</figcaption>",
                self.system.title()
            );
            picture(page, &findings.map);
            page.push_str("</figure>\n");
        }
    }
}

fn picture(page: &mut String, map: &[Block]) {
    let rows = map.len().div_ceil(COLUMNS);
    let _ = writeln!(page, "<svg class=\"memory\" viewBox=\"0 0 {} {}\">", COLUMNS * STEP, rows * STEP);
    for (number, block) in map.iter().enumerate() {
        let Some((_, class, ..)) = KINDS.iter().find(|(kind, ..)| kind == block) else { continue };
        let (x, y) = (number % COLUMNS * STEP, number / COLUMNS * STEP);
        let _ = write!(page, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{SIDE}\" height=\"{SIDE}\"/>");
    }
    page.push_str("</svg>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_has_a_square_for_each_block_that_is_memory() {
        let mut page = String::new();
        let mut map = vec![Block::Large; COLUMNS + 1];
        map[3] = Block::Nothing;
        map[COLUMNS] = Block::Exposed;
        picture(&mut page, &map);
        assert_eq!(page.matches("<rect").count(), COLUMNS);
        assert!(page.contains("class=\"exposed\" x=\"0\" y=\"10\""));
        assert!(page.contains(&format!("viewBox=\"0 0 {} 20\"", COLUMNS * STEP)));
    }
}
