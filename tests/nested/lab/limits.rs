// SPDX-License-Identifier: Apache-2.0
//! Every limit answers with an errno of its own (Documentation/admin-guide/mm/memfd_secret.rst of the series). The
//! kernel's selftest `memfd_secret` covers sizes, modes of `fallocate(2)`, flags and RLIMIT_MEMLOCK; here is what it
//! cannot: other users, and a limit that is hit half-way. Control groups are in `preflight`.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use secretvmm_tests::area::Area;
use secretvmm_tests::holder::Holder;
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::secret::{self, EXCLUSIVE, HUGE, HUGE_SIZE, POOL, UNCACHED};
use secretvmm_tests::toy::{Outcome, Program, ToyVm};

use crate::support::{Scratch, on_clean_host, program};

const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

#[test]
fn memlock_of_another_user_is_edquot_and_counts_to_the_page() -> Result<()> {
    on_clean_host(|| {
        let scratch = Scratch::new("memlock")?;
        // Somebody without rights may not look into root's folders.
        fs::copy(program("hold")?, scratch.path("hold"))?;
        let path = format!("PATH={}:/usr/bin:/bin", scratch.path("").display());
        let start = |mib: u64, arguments: &[&str]| {
            let limit = format!("--memlock={0}:{0}", mib << 20);
            let wrapper = [&["env", &path, "prlimit", &limit][..], &NOBODY].concat();
            Holder::start_under(&wrapper, arguments)
        };
        let exact = start(8, &["--mib", "8"])?;
        ensure!(exact.result == "held" && exact.pages == 2048, "8 MiB at a limit of 8 MiB: {}", exact.result);
        // The user's other process has it all.
        let second = start(8, &["--mib", "2"])?;
        ensure!(second.result == "fallocate EDQUOT" && second.pages == 0, "Beside it: {}", second.result);
        drop((exact, second));
        let again = start(8, &["--mib", "8"])?;
        ensure!(again.result == "held", "After the first was gone: {}", again.result);
        drop(again);
        let half = start(7, &["--mib", "8"])?;
        ensure!(half.result == "fallocate EDQUOT" && half.pages == 7 * 256, "{}, {} pages", half.result, half.pages);
        let touched = start(7, &["--mib", "8", "--touch"])?;
        ensure!(touched.result == "touch EFAULT", "Touched beyond the limit: {}", touched.result);
        Ok(())
    })
}

#[test]
fn sizes_and_flags_that_cannot_be_have_an_errno_each() -> Result<()> {
    on_clean_host(|| {
        let file = secret::file(0, HUGE_SIZE)?;
        let length = HUGE_SIZE as i64;
        let cases = [
            ("populate beyond the size", secret::populate(&file, 0, length + 1), Errno::EINVAL),
            ("populate all there can be", secret::populate(&file, 0, i64::MAX), Errno::EINVAL),
            ("populate past all numbers", secret::populate(&file, length, i64::MAX), Errno::EFBIG),
            ("populate nothing", secret::populate(&file, 0, 0), Errno::EINVAL),
            ("a flag nobody knows", secret::create(0x10).map(drop), Errno::EINVAL),
            ("uncached from the pool", secret::create(UNCACHED | POOL).map(drop), Errno::EINVAL),
            ("no pool", secret::create(POOL).map(drop), Errno::ENOMEM),
            ("half a huge page", secret::file(HUGE, HUGE_SIZE / 2).map(drop), Errno::EINVAL),
            ("a second size", nix::unistd::ftruncate(&file, length * 2), Errno::EINVAL),
        ];
        for (what, result, expected) in cases {
            ensure!(result == Err(expected), "{what}: {result:?} instead of {expected}");
        }
        ensure!(fdinfo::of_file(&file)?.pages == 0, "A refused call populated");
        secret::populate(&file, 0, length)?;
        ensure!(fdinfo::of_file(&file)?.pages == 512, "Nothing is populated");
        Ok(())
    })
}

#[test]
fn guest_beyond_the_memlock_limit_fails_and_goes_on_when_there_is_room() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    on_clean_host(|| {
        let file = secret::file(0, 2 * HUGE_SIZE)?;
        let memory = Area::of_file(&file, 2 * HUGE_SIZE)?;
        let mut guest = ToyVm::on(&memory)?;
        ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The control did not run");
        let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        setrlimit(Resource::RLIMIT_MEMLOCK, HUGE_SIZE as u64, hard)?;
        let beyond = guest.run(Program::Write, HUGE_SIZE as u64);
        setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
        ensure!(beyond.as_ref().is_ok_and(|outcome| *outcome == Outcome::Failed(Errno::EFAULT)), "Got {beyond:?}");
        ensure!(guest.run(Program::Write, HUGE_SIZE as u64)? == Outcome::Halted, "The guest does not go on");
        Ok(())
    })
}

#[test]
fn memslot_on_uncached_memory_is_refused() -> Result<()> {
    on_clean_host(|| {
        let cached = Area::of_file(&secret::file(EXCLUSIVE, HUGE_SIZE)?, HUGE_SIZE)?;
        ensure!(ToyVm::on(&cached).is_ok(), "The control has no memslot");
        let uncached = Area::of_file(&secret::file(UNCACHED, HUGE_SIZE)?, HUGE_SIZE)?;
        let refused = ToyVm::on(&uncached).err().context("KVM took uncached memory")?;
        ensure!(format!("{refused:#}").contains("Invalid argument"), "Refused with {refused:#}");
        Ok(())
    })
}

#[test]
fn uncached_memory_that_comes_under_a_memslot_is_refused() -> Result<()> {
    on_clean_host(|| {
        let memory = Area::of_file(&secret::file(0, HUGE_SIZE)?, HUGE_SIZE)?;
        let mut guest = ToyVm::on(&memory)?;
        ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The control did not run");
        memory.replace(&secret::file(0, HUGE_SIZE)?)?;
        ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The control did not run on another file");
        memory.replace(&secret::file(UNCACHED, HUGE_SIZE)?)?;
        let refused = guest.run(Program::Write, 0x8000)?;
        ensure!(refused == Outcome::Failed(Errno::EFAULT), "KVM maps uncached memory: {refused:?}");
        ensure!(memory.try_read(0x8000) == Ok(0), "The guest has written there");
        Ok(())
    })
}
