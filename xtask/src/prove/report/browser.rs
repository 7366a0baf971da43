// SPDX-License-Identifier: Apache-2.0
//! The report in a real browser shows all of it: every square of the maps, in its colour.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use secretvmm_proof::examine::Findings;

use super::maps::KINDS;
use super::{Look, Report, System};
use crate::prove::cell::USUAL;
use crate::support::process;

/// Without these the browser looks for its maker's hosts.
const QUIET: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Squares of each kind, in each of three pictures.
const SQUARES: usize = 40;

#[test]
#[ignore = "needs Chromium, which cargo xtask test --full installs"]
fn page_in_a_browser_has_every_square_in_its_colour() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let picture = folder.path().join("report.png");
    report().write(folder.path(), &[])?;
    let document = open(&folder.path().join("index.html"), &picture)?;
    assert_eq!(document.matches("<tr>").count(), 2);
    for (_, class, colour, _) in KINDS {
        assert_eq!(document.matches(&format!("<rect class=\"{class}\" x=")).count(), 3 * SQUARES, "{class}");
        // A square is several pixels wide, some of them blended with its neighbours.
        let coloured = pixels(&picture, colour)?;
        assert!(coloured >= 3 * SQUARES, "{coloured} pixels for {class}");
    }
    Ok(())
}

/// A look, and three pictures with squares of every kind.
fn report() -> Report {
    let look = Look { host: USUAL, what: "a guest".into(), frames: 7, reachable: 0, copies: 0, right: true };
    let mut report = Report { looks: vec![look], ..Report::default() };
    let map = KINDS.iter().flat_map(|(block, ..)| [*block; SQUARES]).collect();
    let findings = Findings { map, ..Findings::default() };
    report.draw(System::Series, [findings.clone(), findings.clone(), findings]);
    report
}

/// Opens `page`, writes a PNG to `picture`, and gives the document as the browser has it.
fn open(page: &Path, picture: &Path) -> Result<String> {
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let mut chromium = Command::new("chromium");
    chromium.args(QUIET).args(["--window-size=1280,1700", "--dump-dom"]);
    chromium.arg(option("user-data-dir", &picture.with_extension("profile"))).arg(option("screenshot", picture));
    process::output(chromium.arg(page)).context("Cannot show the report in Chromium")
}

/// How many pixels of the picture have a colour, such as `[5, 80, 174]`.
fn pixels(picture: &Path, colour: [u8; 3]) -> Result<usize> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(picture)?)).read_info()?;
    let mut bytes = vec![0; reader.output_buffer_size().context("The picture is too large")?];
    let info = reader.next_frame(&mut bytes)?;
    ensure!(info.bit_depth == png::BitDepth::Eight, "The picture has an unexpected depth");
    Ok(bytes.chunks_exact(info.color_type.samples()).filter(|pixel| pixel[..3] == colour).count())
}
