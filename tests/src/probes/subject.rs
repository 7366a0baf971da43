// SPDX-License-Identifier: Apache-2.0
//! What the probes of the matrix are pointed at: a process with canary pages in a known mapping.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_canary::PAGE_SIZE;

use super::{ByPolicy, Class, Outcome, Target};
use crate::host::process::{MappedPage, Mapping, frame_at, mappings, resident_pages};
use crate::host::witness::Witness;
use crate::sys;

const HUGE_SIZE: u64 = 2 << 20;

/// A column of the matrix.
pub struct Subject<'a> {
    /// Its process, the pages of its RAM that are there, and the canary.
    pub target: Target,
    /// Its RAM in its address space.
    pub ram: Mapping,
    /// Two addresses, at least, where a canary page lies: where each page has to be tried by itself.
    pub planted: Vec<u64>,
    /// The module in the host's kernel.
    pub witness: &'a Witness,
}

impl<'a> Subject<'a> {
    /// A process whose canary pages are known by their offset in its largest mapping.
    ///
    /// # Errors
    /// The process is gone, or has no page there.
    pub fn new(pid: u32, canary: super::Canary, offsets: &[u64], witness: &'a Witness) -> Result<Self> {
        let writable = mappings(pid)?.into_iter().filter(|map| map.permissions.starts_with("rw"));
        let ram = writable.max_by_key(|map| map.end - map.start).context("The process has no memory")?;
        let pages = pages_of(pid, &ram)?;
        let planted = offsets.iter().map(|offset| ram.start + offset).collect::<Vec<_>>();
        ensure!(planted.iter().all(|at| pages.iter().any(|page| page.hva == *at)), "A canary page is not there");
        Ok(Subject { target: Target { pid, pages, canary }, ram, planted, witness })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.target.pid
    }

    /// The target with the frames that its pages have by now: ordinary memory moves.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) fn target_now(&self) -> Result<Target> {
        Ok(Target { pid: self.pid(), pages: pages_of(self.pid(), &self.ram)?, canary: self.target.canary })
    }

    /// A descriptor of it.
    ///
    /// # Errors
    /// It is gone.
    pub fn pidfd(&self) -> Result<std::os::fd::OwnedFd> {
        sys::pidfd_open(self.pid()).context("pidfd_open failed")
    }

    /// The frame that a planted page has now; a page that was swapped out is read first, which brings it back.
    ///
    /// # Errors
    /// It has none.
    pub fn frame(&self, hva: u64) -> Result<u64> {
        if frame_at(self.pid(), hva)?.is_none() {
            File::open(format!("/proc/{}/mem", self.pid()))?.read_exact_at(&mut [0; 1], hva)?;
        }
        frame_at(self.pid(), hva)?.context("A canary page has no frame")
    }

    /// The frames of the planted pages.
    ///
    /// # Errors
    /// As [`Subject::frame`].
    pub fn frames(&self) -> Result<Vec<u64>> {
        self.planted.iter().map(|&hva| self.frame(hva)).collect()
    }

    /// Does something that might move frames and tells how many of the planted pages have another one now.
    ///
    /// # Errors
    /// As [`Subject::frame`], or of the deed.
    pub fn moved_by(&self, deed: impl FnOnce() -> Result<Result<(), Errno>>) -> Result<Outcome> {
        let before = self.frames()?;
        let answer = deed()?;
        let after = self.frames()?;
        Ok(Outcome::of_move(before.iter().zip(&after).filter(|(was, is)| was != is).count(), answer))
    }

    /// The address and length of what could be one huge page around an address, as far as it is RAM.
    pub fn huge_around(&self, hva: u64) -> (u64, u64) {
        let start = hva / HUGE_SIZE * HUGE_SIZE;
        let end = (start + HUGE_SIZE).min(self.ram.end);
        let start = start.max(self.ram.start);
        (start, end - start)
    }

    /// What a page that was read says.
    pub fn judge(&self, page: &[u8]) -> Outcome {
        match self.target.canary.seed.recognise(page) {
            Some(found) => Outcome::new(Class::Hit, format!("canary page {}", found.index)),
            None => Outcome::new(Class::Absent, "no canary in what was read"),
        }
    }

    /// The number of its descriptor of its RAM.
    ///
    /// # Errors
    /// As [`Target::ram_descriptors`].
    pub fn ram_descriptor(&self) -> Result<i32> {
        self.target.ram_descriptors()?.first().copied().context("No descriptor")
    }

    /// Its RAM's descriptor, taken from it.
    ///
    /// # Errors
    /// [`ByPolicy`]; or it has none.
    pub fn stolen_ram(&self) -> Result<File> {
        sys::pidfd_getfd(&self.pidfd()?, self.ram_descriptor()?)
            .map_err(ByPolicy::or_error)
            .context("pidfd_getfd failed")
    }

    /// Where a planted page lies in the RAM's file.
    pub fn offset(&self, hva: u64) -> u64 {
        hva - self.ram.start
    }

    /// Maps a file of its RAM and looks at the planted pages.
    ///
    /// # Errors
    /// The file cannot be as large as its own mapping.
    pub fn judge_mapped(&self, file: &File) -> Result<Outcome> {
        let area = match crate::area::Area::of_file(file, usize::try_from(self.ram.end - self.ram.start)?) {
            Ok(area) => area,
            Err(errno) => return Ok(Outcome::refused(errno)),
        };
        let mut page = [0; PAGE_SIZE];
        area.get(usize::try_from(self.offset(self.planted[0]))?, &mut page);
        Ok(self.judge(&page))
    }
}

fn pages_of(pid: u32, ram: &Mapping) -> Result<Vec<MappedPage>> {
    let mut pages = resident_pages(pid)?;
    pages.retain(|page| (ram.start..ram.end).contains(&page.hva));
    Ok(pages)
}
