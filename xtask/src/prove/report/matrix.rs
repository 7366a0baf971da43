// SPDX-License-Identifier: Apache-2.0
//! The matrix as a table: a row for each probe, a column for each kind of memory.

use std::fmt::Write;

use super::html::escaped;
use crate::prove::inside::Cell;

/// Columns: the target's name, and for people.
const TARGETS: [(&str, &str); 5] = [
    ("anonymous", "Ordinary memory"),
    ("memfd", "Guest on memfd"),
    ("secret-4k", "Hidden, 4K"),
    ("secret-2m", "Hidden, 2M"),
    ("secret-pool", "Hidden, boot pool"),
];

pub(super) fn table(page: &mut String, cells: &[Cell]) {
    page.push_str(
        "<h2>The matrix</h2>\n<p>Every way to read a guest that was tried, as root on the host. What an ordinary guest \
         gives away is the control. Yellow is known to read hidden memory and outside what is claimed: new code in the \
         kernel, and the VMM's own hand.</p>\n<table id=\"matrix\">\n<tr><th>Probe</th>",
    );
    for (_, title) in TARGETS {
        let _ = write!(page, "<th>{title}</th>");
    }
    page.push_str("</tr>\n");
    let mut seen: Vec<&str> = Vec::new();
    for Cell { probe, row, .. } in cells {
        if !seen.contains(&probe.as_str()) {
            seen.push(probe);
            let _ = write!(page, "<tr><td title=\"{}\">{}</td>", escaped(row), escaped(probe));
            for (target, _) in TARGETS {
                cell(page, cells.iter().find(|cell| cell.probe == *probe && cell.target == target));
            }
            page.push_str("</tr>\n");
        }
    }
    page.push_str("</table>\n");
}

fn cell(page: &mut String, cell: Option<&Cell>) {
    let Some(cell) = cell else {
        page.push_str("<td class=\"none\"></td>");
        return;
    };
    let _ = write!(
        page,
        "<td class=\"{}{}\">{}</td>",
        class(cell),
        if cell.ok { "" } else { " drift" },
        escaped(cell.word())
    );
}

fn class(cell: &Cell) -> &'static str {
    match (cell.got_through(), cell.is_secret(), cell.word()) {
        (_, _, "-") => "none",
        (true, true, _) if cell.ok => "known",
        (true, ..) => "hit",
        (false, _, "POLICY" | "INVALID") => "policy",
        (false, ..) => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_row_a_probe_and_marks_what_drifted() {
        let made = |probe: &str, target: &str, result: &str, ok: bool| Cell {
            probe: probe.into(),
            row: "r".into(),
            target: target.into(),
            result: result.into(),
            errno: None,
            expected: "HIT".into(),
            ok,
        };
        let mut page = String::new();
        table(
            &mut page,
            &[
                made("a", "memfd", "HIT", true),
                made("a", "secret-2m", "ABSENT", true),
                made("b", "secret-4k", "HIT", true),
                made("b", "secret-2m", "HIT", false),
            ],
        );
        assert_eq!(page.matches("<tr>").count(), 3);
        assert!(page.contains("<td class=\"hit\">HIT</td>") && page.contains("<td class=\"refused\">ABSENT</td>"));
        assert!(page.contains("<td class=\"known\">HIT</td>") && page.contains("<td class=\"hit drift\">HIT</td>"));
    }
}
