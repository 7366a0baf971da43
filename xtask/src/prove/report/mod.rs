// SPDX-License-Identifier: Apache-2.0
//! The report: one HTML page that needs nothing else, for people who want to see it.

#[cfg(test)]
mod browser;
mod html;
mod maps;
mod matrix;

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::cell::Cell;
use super::inside;
use super::system::{Moments, System};
use crate::support::paths::create_dir;
use html::escaped;
use maps::Drawn;

const STYLE: &str = include_str!("page.css");

/// What the page shows.
#[derive(Default)]
pub(super) struct Report {
    /// Results of the matrix.
    pub(super) matrix: Vec<inside::Cell>,
    /// Looks from outside, in order.
    pub(super) looks: Vec<Look>,
    /// Memory of each system, before, during and after.
    drawn: Vec<Drawn>,
}

/// A line of the table of looks.
pub(super) struct Look {
    pub(super) host: Cell,
    /// What was looked at: the guest, the control.
    pub(super) what: String,
    pub(super) frames: u64,
    pub(super) reachable: u64,
    pub(super) copies: u64,
    /// As it must be.
    pub(super) right: bool,
}

impl Report {
    /// Adds one system's memory.
    pub(super) fn draw(&mut self, system: System, moments: Moments) {
        self.drawn.push(Drawn { system, moments });
    }

    /// Writes `index.html` into `folder`.
    pub(super) fn write(&self, folder: &Path, objections: &[String]) -> Result<()> {
        create_dir(folder)?;
        let file = folder.join("index.html");
        std::fs::write(&file, self.page(objections)).with_context(|| format!("Cannot write {}", file.display()))?;
        println!("Report: {}", file.display());
        Ok(())
    }

    fn page(&self, objections: &[String]) -> String {
        let mut page = String::new();
        let (class, verdict) = match objections {
            [] => ("proved", "Proved: nothing in the host's kernel reaches the guest."),
            _ => ("refuted", "Not proved."),
        };
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <title>secretvmm: can the host read its guest?</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <h1>Can the host read its guest?</h1>\n<p class=\"verdict {class}\">{verdict}</p>\n"
        );
        for objection in objections {
            let _ = writeln!(page, "<p class=\"objection\">{}</p>", escaped(objection));
        }
        self.looks(&mut page);
        self.maps(&mut page);
        if !self.matrix.is_empty() {
            matrix::table(&mut page, &self.matrix);
        }
        page.push_str("</body>\n</html>\n");
        page
    }

    fn looks(&self, page: &mut String) {
        page.push_str(
            "<h2>The witness outside</h2>\n<p>The machine below stops the host, dumps its physical memory, and follows \
             every page table of the host's kernel. The control's memory must all be found, and each leak that was made \
             on purpose must be seen, or the witness is blind.</p>\n<table id=\"outside\">\n<tr><th>Host</th>\
             <th>Looked at</th><th>Guest frames</th><th>Reached by the kernel</th><th>Copies elsewhere</th></tr>\n",
        );
        for Look { host, what, frames, reachable, copies, right } in &self.looks {
            let class = if *right { "figure refused" } else { "figure drift" };
            let _ = writeln!(
                page,
                "<tr><td>{host}</td><td>{}</td><td class=\"figure\">{frames}</td><td class=\"{class}\">{reachable}</td>\
                 <td class=\"figure\">{copies}</td></tr>",
                escaped(what)
            );
        }
        page.push_str("</table>\n");
    }

    fn maps(&self, page: &mut String) {
        if self.drawn.is_empty() {
            return;
        }
        page.push_str(
            "<h2>Physical memory</h2>\n<p>Each square is 2 MiB of the host's memory, from address 0 on; its colour is how \
             the kernel's direct map has it.</p>\n",
        );
        maps::legend(page);
        page.push_str("<section class=\"maps\" id=\"maps\">\n");
        self.drawn.iter().for_each(|drawn| drawn.figures(page));
        page.push_str("</section>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::cell::USUAL;

    fn page(right: bool, objections: &[&str]) -> String {
        let look = Look { host: USUAL, what: "a <guest>".into(), frames: 7, reachable: 1, copies: 0, right };
        let report = Report { looks: vec![look], ..Report::default() };
        report.page(&objections.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn page_says_the_verdict_and_escapes_text() {
        let proved = page(true, &[]);
        assert!(proved.contains("verdict proved") && !proved.contains("drift\">"));
        assert!(proved.contains("a &lt;guest&gt;"));
        let refuted = page(false, &["frame 1 < 2"]);
        assert!(refuted.contains("verdict refuted") && refuted.contains("figure drift\">1<"));
        assert!(refuted.contains("frame 1 &lt; 2"));
    }
}
