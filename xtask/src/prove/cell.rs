// SPDX-License-Identifier: Apache-2.0
//! Kinds of host that the witness outside looks at.

use std::fmt;

use crate::nested::MachineArgs;

/// One kind: what differs between page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    /// Memory in MiB, all that the host has.
    pub(super) memory: u32,
    /// Whether the kernel lies where chance put it.
    pub(super) kaslr: bool,
    /// Whether user mode has page tables of its own.
    pub(super) isolation: bool,
    pub(super) cpus: u32,
    /// Levels of its page tables, 4 or 5.
    pub(super) levels: u8,
}

/// The one that is looked at when no other is asked for.
pub(super) const USUAL: Cell = Cell { memory: 1024, kaslr: true, isolation: false, cpus: 1, levels: 4 };

/// How many kinds there are.
pub(super) const COUNT: u32 = 24;

/// Sizes in MiB.
const SIZES: [u32; 3] = [128, 512, 2048];

impl Cell {
    /// Every size with and without each of the others.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        SIZES.into_iter().flat_map(|memory| {
            (0..8).map(move |bits| Self {
                memory,
                kaslr: bits & 1 != 0,
                isolation: bits & 2 != 0,
                cpus: if bits & 4 != 0 { 2 } else { 1 },
                // Every kind of host meets both in some size.
                levels: if (bits + memory / 512) % 2 == 0 { 4 } else { 5 },
            })
        })
    }

    /// Guest RAM that fits, in MiB.
    pub(super) fn guest(self) -> u32 {
        if self.memory < 256 { 32 } else { self.memory / 8 }
    }

    pub(super) fn machine(self) -> MachineArgs {
        let kaslr = if self.kaslr { "" } else { "nokaslr " };
        let isolation = if self.isolation { "pti=on" } else { "pti=off" };
        MachineArgs {
            mem: format!("{}M", self.memory),
            smp: self.cpus,
            append: format!("{kaslr}{isolation}"),
            la57: self.levels == 5,
            ..MachineArgs::default()
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, kaslr, isolation, cpus, levels } = self;
        write!(f, "{memory} MiB, {cpus} CPU{}, ", if *cpus > 1 { "s" } else { "" })?;
        write!(f, "{levels} levels, KASLR {}, PTI {}", on(*kaslr), on(*isolation))
    }
}

fn on(flag: bool) -> &'static str {
    if flag { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_has_every_combination_once_and_both_depths() {
        let cells: Vec<Cell> = Cell::all().collect();
        assert_eq!(cells.len(), COUNT as usize);
        let same =
            |a: &Cell, b: &Cell| (a.memory, a.kaslr, a.isolation, a.cpus) == (b.memory, b.kaslr, b.isolation, b.cpus);
        assert!(cells.iter().enumerate().all(|(i, a)| !cells[i + 1..].iter().any(|b| same(a, b))));
        let five = cells.iter().filter(|cell| cell.levels == 5).count();
        assert_eq!(five, cells.len() / 2);
    }
}
