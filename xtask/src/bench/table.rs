// SPDX-License-Identifier: Apache-2.0
//! The table of figures, and which of them miss their target.

use super::hosts::{Name, Results};

/// A cell: a figure, or why there is none.
type Cell = Result<Figure, String>;

/// A figure as text, and whether it misses its target.
struct Figure {
    text: String,
    missed: bool,
}

/// One kind of memory: the hosts it was measured on, and its name there. In the order of the table.
struct Column {
    held: Name,
    speed: Name,
    measured: &'static str,
}

const COLUMNS: [Column; 4] = [
    Column { held: Name::StockHeld, speed: Name::StockSpeed, measured: "secret" },
    Column { held: Name::SeriesHeld, speed: Name::SeriesSpeed, measured: "secret" },
    Column { held: Name::PoolHeld, speed: Name::PoolSpeed, measured: "pool" },
    Column { held: Name::SeriesHeld, speed: Name::SeriesSpeed, measured: "thp" },
];
const SERIES: usize = 1;
const POOL: usize = 2;

/// Percent of the guest's memory.
const STAGE2_SHARE: f64 = 99.5;

const HEADER: &str = "\
Nested hosts with 6 GiB on one emulated CPU. \"missed\" marks a target that was not reached.
Populate and free are counts of instructions (-icount); the emulator counts each step of a rep stos, which
a processor does by the cache line. Populated by fallocate where a secret file takes it, then touched page by page.
Work is a grep through the kernel's source folder kernel/ in a tmpfs, the best time of 15. An emulated TLB misses
differently from a processor's, and a busy machine makes times rough: differences below a third say nothing. What
holds anywhere is the number of entries that the direct map needs, which is what a processor's TLBs have to share.
";

/// The whole table as text.
pub(super) fn render(results: &Results) -> String {
    let title =
        ["2 GiB".into(), "Stock".into(), "Series".into(), "Boot pool".into(), "THP".into(), "Must reach".into()];
    let lines = figures(results).into_iter().map(|(name, [stock, series, pool, thp], target)| {
        [name.to_owned(), show(&stock), show(&series), show(&pool), show(&thp), target.to_owned()]
    });
    let work = work(results).map(|(name, cell)| [name.to_owned(), show(&cell)]);
    let mut text = format!("{HEADER}\n{}\n{}", aligned([title].into_iter().chain(lines)), aligned(work));
    results.troubles().for_each(|trouble| text.push_str(&format!("\nTROUBLE: {trouble}\n")));
    text
}

/// Lines whose columns are as wide as their widest cell.
pub(super) fn aligned<const N: usize>(lines: impl IntoIterator<Item = [String; N]>) -> String {
    let lines: Vec<[String; N]> = lines.into_iter().collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let padded = |line: &[String; N]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    lines.iter().map(padded).collect()
}

fn show(cell: &Cell) -> String {
    match cell {
        Ok(Figure { text, missed: false }) => text.clone(),
        Ok(Figure { text, missed: true }) => format!("{text} missed"),
        Err(why) => format!("({why})"),
    }
}

type Line = (&'static str, [Cell; 4], &'static str);

fn figures(results: &Results) -> Vec<Line> {
    let held = |figure, limits| each(|index, column| count(results, column, figure, at(limits, index)));
    let map = |size| each(|index, column| direct_map(results, column, size, index == SERIES || index == POOL));
    let ratio = |figure, limits| each(|index, column| ratio_to_thp(results, column, figure, at(limits, index)));
    vec![
        ("direct map, 2M entries split", held("splits_2m", [Some(0.0); 2]), "0"),
        ("direct map, 1G entries split", held("splits_1g", [Some(2.0), Some(0.0)]), "<= 2, pool 0"),
        ("DirectMap4k before/with/after, MiB", map("4k"), "after = before"),
        ("DirectMap2M before/with/after, MiB", map("2m"), "after = before"),
        ("DirectMap1G before/with/after, MiB", map("1g"), "after = before"),
        ("direct map, entries before/with/after", each(|_, column| entries_of(results, column)), "reported"),
        ("stage 2, share in 2M entries", each(|index, column| stage2(results, column, index)), ">= 99.5 %"),
        ("TLB flushes on all CPUs to populate", held("flushes_fill", [Some(64.0), Some(0.0)]), "<= 64, pool 0"),
        ("TLB flushes on all CPUs to free", held("flushes_free", [None; 2]), "reported"),
        ("populate 1 GiB, ratio to THP", ratio("fill_ns", [Some(1.05), Some(0.3)]), "<= 1.05, pool <= 0.3"),
        (
            "populate 1 GiB, million instructions",
            each(|_, column| instructions(results, column, "fill_ns")),
            "reported",
        ),
        ("free 1 GiB, ratio to THP", ratio("free_ns", [None; 2]), "reported"),
        ("free 1 GiB, million instructions", each(|_, column| instructions(results, column, "free_ns")), "reported"),
        ("host work before/with/after, ms", each(|_, column| work_of(results, column)), "reported"),
    ]
}

fn each(cell: impl Fn(usize, &Column) -> Cell) -> [Cell; 4] {
    std::array::from_fn(|index| cell(index, &COLUMNS[index]))
}

/// The limit of a column: series and pool have some.
fn at([series, pool]: [Option<f64>; 2], index: usize) -> Option<f64> {
    match index {
        SERIES => series,
        POOL => pool,
        _ => None,
    }
}

fn count(results: &Results, column: &Column, figure: &str, limit: Option<f64>) -> Cell {
    let value = results.get(column.held, column.measured, figure)?;
    Ok(Figure { text: value.to_string(), missed: limit.is_some_and(|limit| value as f64 > limit) })
}

/// MiB in entries of one size before, with and after; they are to be as before in the end.
fn direct_map(results: &Results, column: &Column, size: &str, judged: bool) -> Cell {
    let kib = |moment| results.get(column.held, column.measured, &format!("direct_{size}_kib_{moment}"));
    let (before, with, after) = (kib("before")?, kib("with")?, kib("after")?);
    let text = format!("{}/{}/{}", before >> 10, with >> 10, after >> 10);
    Ok(Figure { text, missed: judged && before != after })
}

/// Entries that map memory directly: what the host's TLBs have to share, and 8 bytes of page tables each.
fn entries_of(results: &Results, column: &Column) -> Cell {
    let count = |moment| entries(results, column.held, column.measured, &format!("_{moment}"));
    Ok(reported(format!("{}/{}/{}", count("before")?, count("with")?, count("after")?)))
}

/// Those of one host at one moment.
fn entries(results: &Results, host: Name, measured: &str, moment: &str) -> Result<u64, String> {
    let kib = |size| results.get(host, measured, &format!("direct_{size}_kib{moment}"));
    Ok(kib("4k")? / 4 + (kib("2m")? >> 11) + (kib("1g")? >> 20))
}

fn stage2(results: &Results, column: &Column, index: usize) -> Cell {
    let entries = |size| results.get(column.held, column.measured, &format!("stage2_{size}"));
    let (small, large, huge) = (entries("4k")?, entries("2m")? * 512, entries("1g")? * 512 * 512);
    let share = large as f64 * 100.0 / ((small + large + huge).max(1)) as f64;
    let missed = (index == SERIES || index == POOL) && share < STAGE2_SHARE;
    Ok(Figure { text: format!("{share:.1} %"), missed })
}

fn ratio_to_thp(results: &Results, column: &Column, figure: &str, limit: Option<f64>) -> Cell {
    let value = results.get(column.speed, column.measured, figure)? as f64;
    let thp = results.get(column.speed, "thp", figure)? as f64;
    let ratio = value / thp.max(1.0);
    Ok(Figure { text: format!("{ratio:.2}"), missed: limit.is_some_and(|limit| ratio > limit) })
}

/// One instruction counts as 2 ns (`-icount shift=1`).
fn instructions(results: &Results, column: &Column, figure: &str) -> Cell {
    let nanoseconds = results.get(column.speed, column.measured, figure)?;
    Ok(reported(format!("{:.1}", nanoseconds as f64 / 2e6)))
}

fn work_of(results: &Results, column: &Column) -> Cell {
    let us = |moment| results.get(column.held, column.measured, &format!("work_{moment}_us"));
    Ok(reported(format!("{}/{}/{}", us("before")? / 1000, us("with")? / 1000, us("after")? / 1000)))
}

/// The host's work under each kind of direct map.
fn work(results: &Results) -> [(&'static str, Cell); 4] {
    let shown = |us: u64, entries: u64| Ok(reported(format!("{} ms, {entries} entries", us / 1000)));
    let held = |host, measured, moment: &str| {
        let us = results.get(host, measured, &format!("work_{moment}_us"))?;
        shown(us, entries(results, host, measured, &format!("_{moment}"))?)
    };
    let alone = |host| shown(results.get(host, "host", "work_us")?, entries(results, host, "host", "")?);
    [
        ("host work, direct map of 1G entries", held(Name::SeriesHeld, "thp", "before")),
        ("host work, direct map of 2M entries (nogbpages)", alone(Name::Map2M)),
        ("host work, of 4K entries (debug_pagealloc=on, its work included)", alone(Name::Map4K)),
        ("host work, fragmented by 2 GiB of stock secret memory, now gone", held(Name::StockHeld, "secret", "after")),
    ]
}

fn reported(text: String) -> Figure {
    Figure { text, missed: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_pads_to_the_widest_cell_and_leaves_no_blanks_at_the_end() {
        let lines = [["a".to_owned(), "long".to_owned()], ["wide".to_owned(), "b".to_owned()]];
        assert_eq!(aligned(lines), "a     long\nwide  b\n");
    }

    #[test]
    fn show_marks_what_missed_its_target_and_what_is_absent() {
        assert_eq!(show(&Ok(Figure { text: "7".into(), missed: true })), "7 missed");
        assert_eq!(show(&Ok(reported("7".into()))), "7");
        assert_eq!(show(&Err("not in this kernel".into())), "(not in this kernel)");
    }
}
