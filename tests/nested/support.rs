// SPDX-License-Identifier: Apache-2.0
//! What every suite needs.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use secretmem::{FdInfo, Mode};
use secretvmm_tests::artifacts::{GUEST_BZIMAGE, artifact};
use secretvmm_tests::guest::{Ending, Guest, GuestBuilder, STEP_LIMIT};
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::host::kernel_log::KernelLog;

/// Runs a test and fails it if the host's kernel complained meanwhile.
pub(crate) fn on_clean_host(test: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut log = KernelLog::from_now()?;
    test()?;
    log.assert_clean()
}

/// The project's own guest, from its bzImage.
pub(crate) fn own_guest() -> Result<GuestBuilder> {
    Ok(GuestBuilder::new(artifact(GUEST_BZIMAGE)?))
}

/// Asserts that the guest's memory is secret memory, some of it there, none of it in the direct map.
pub(crate) fn assert_hidden(guest: &Guest) -> Result<FdInfo> {
    let info = fdinfo::of_process(guest.pid())?;
    ensure!(info.pages > 0, "The guest has no page of secret memory");
    let exclusive = u64::from(Mode::EXCLUSIVE.bits());
    ensure!(info.flags & exclusive != 0, "Others who get the descriptor can map it: {info:?}");
    ensure!(info.direct_mapped == 0, "The kernel maps {} of the guest's {} pages", info.direct_mapped, info.pages);
    Ok(info)
}

/// Waits until a guest that is populated while it runs has all of its 4 KiB pages.
pub(crate) fn wait_until_populated(guest: &Guest, pages: u64) -> Result<()> {
    let deadline = Instant::now() + STEP_LIMIT;
    loop {
        let info = fdinfo::of_process(guest.pid())?;
        match info.pages == pages {
            true => return Ok(()),
            false if Instant::now() > deadline => bail!("Not populated after {STEP_LIMIT:?}: {info:?}"),
            false => sleep(Duration::from_millis(100)),
        }
    }
}

/// Powers the demo guest off from its shell and asserts a clean end.
pub(crate) fn power_off(guest: &mut Guest) -> Result<()> {
    guest.type_line("poweroff -f")?;
    let ending = guest.wait(STEP_LIMIT)?;
    ensure!(ending == Ending::Code(0), "Power-off ended with {ending:?}: {}", guest.all_messages());
    Ok(())
}

/// Asserts that `secretvmm` refuses to start: exit code `code`, one line on stderr that contains every word of `says`,
/// nothing on the console.
pub(crate) fn assert_refused(builder: &GuestBuilder, code: i32, says: &[&str]) -> Result<()> {
    let mut guest = builder.start()?;
    let ending = guest.wait(STEP_LIMIT)?;
    let messages = guest.all_messages();
    ensure!(ending == Ending::Code(code), "Ended with {ending:?} instead of code {code}: {messages}");
    for word in says {
        ensure!(messages.contains(word), "The error does not say {word:?}: {messages}");
    }
    ensure!(!messages.contains("panicked"), "secretvmm panicked: {messages}");
    ensure!(guest.console.text().is_empty(), "Something was printed: {}", guest.console.text());
    Ok(())
}

/// Asserts a refusal by the preflight: exit code 3 and exactly one line.
pub(crate) fn assert_preflight_refuses(builder: &GuestBuilder, says: &[&str]) -> Result<()> {
    assert_refused(builder, 3, says)?;
    let mut guest = builder.start()?;
    guest.wait(STEP_LIMIT)?;
    let messages = guest.all_messages();
    let lines: Vec<_> = messages.lines().filter(|line| !line.starts_with("secretvmm: warning:")).collect();
    ensure!(lines.len() == 1 && lines[0].starts_with("secretvmm: error: "), "Not a one-line error:\n{messages}");
    Ok(())
}

/// A folder of a test's own, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("secretvmm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn file(&self, name: &str, contents: &[u8]) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, contents)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind lies on the nested host's tmpfs and goes with it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where a program of ours lies.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists());
    found.with_context(|| format!("There is no {name} in PATH"))
}

/// Packs an initial RAM disk of busybox and an init script.
pub(crate) fn initrd_with_init(scratch: &Scratch, script: &str) -> Result<PathBuf> {
    secretvmm_tests::initrd::pack(&scratch.0, &[], script)
}

/// The first `bytes` of a file.
pub(crate) fn head(path: &Path, bytes: usize) -> Result<Vec<u8>> {
    let mut contents = std::fs::read(path)?;
    contents.truncate(bytes);
    Ok(contents)
}
