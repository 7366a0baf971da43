//! The report in a real browser: what it shows, and the picture of it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup;
use crate::support::cache;
use crate::support::process;

/// Debian's package, which `setup` leaves out: nothing else needs it.
const PACKAGE: &str = "chromium";

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

/// Width and height of the window: the whole page.
const WINDOW: &str = "--window-size=1280,1700";

/// Opens `page`, writes a PNG to `picture`, and gives the document as the browser has it.
pub(super) fn open(page: &Path, picture: &Path) -> Result<String> {
    setup::ensure(&[PACKAGE])?;
    let profile = picture.with_extension("profile");
    let mut screenshot = std::ffi::OsString::from("--screenshot=");
    screenshot.push(picture);
    let mut data = std::ffi::OsString::from("--user-data-dir=");
    data.push(&profile);
    let mut chromium = Command::new("chromium");
    chromium.args(QUIET).arg(WINDOW).arg(data).arg(screenshot).arg("--dump-dom").arg(page);
    let document = process::output(&mut chromium).context("Cannot show the report in Chromium");
    cache::remove(&profile)?;
    document
}

/// How many pixels of the picture have a colour, such as `[5, 80, 174]`.
pub(super) fn pixels(picture: &Path, colour: [u8; 3]) -> Result<usize> {
    let file = File::open(picture).with_context(|| format!("Cannot open {}", picture.display()))?;
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().context("The picture is no PNG")?;
    let mut bytes = vec![0; reader.output_buffer_size().context("The picture is too large")?];
    let info = reader.next_frame(&mut bytes).context("The picture is damaged")?;
    ensure!(info.bit_depth == png::BitDepth::Eight, "The picture has an unexpected depth");
    Ok(bytes.chunks_exact(info.color_type.samples()).filter(|pixel| pixel[..3] == colour).count())
}
