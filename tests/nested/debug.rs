//! The kernel with all its checks, which also runs the lab's tests: what its leak detector finds when guests are gone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Error, ErrorKind};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use secretmem::memlock;
use secretvmm_tests::area::Area;
use secretvmm_tests::guest::STEP_LIMIT;
use secretvmm_tests::holder::Holder;
use secretvmm_tests::host::fdinfo;
use secretvmm_tests::host::process::frames_of;
use secretvmm_tests::secret;
use secretvmm_tests::toy::{Outcome, Program, ToyVm};

use crate::lab::race;
use crate::support::{assert_hidden, on_clean_host, own_guest, power_off};

/// Documentation/dev-tools/kmemleak.rst.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// kmemleak reports nothing that is younger than 5 s.
const AGE: Duration = Duration::from_secs(6);

#[test]
fn guests_leave_no_kernel_memory_behind() -> Result<()> {
    on_clean_host(|| {
        order("scan")?;
        order("clear")?;
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        assert_hidden(&guest)?;
        power_off(&mut guest)?;
        let mut guest = own_guest()?.memory("128M").start()?;
        guest.wait_for_shell()?;
        guest.signal(Signal::SIGKILL)?;
        guest.wait(STEP_LIMIT)?;

        assert_no_leaks()
    })
}

/// Ten thousand guests, in four parts that as many hosts run as the machine has CPUs: hours on one.
#[test]
fn first_2500_guests_leave_the_host_as_it_was() -> Result<()> {
    race_without_leaks(1)
}

#[test]
fn fourth_2500_guests_leave_the_host_as_it_was() -> Result<()> {
    race_without_leaks(4)
}

#[test]
fn second_2500_guests_leave_the_host_as_it_was() -> Result<()> {
    race_without_leaks(2)
}

#[test]
fn third_2500_guests_leave_the_host_as_it_was() -> Result<()> {
    race_without_leaks(3)
}

/// A quarter of the ten thousand, and what the leak detector finds after it. It looks at all memory every ten minutes by
/// itself, for minutes on this host: once, in the end, is enough.
fn race_without_leaks(seed: u32) -> Result<()> {
    order("scan=off")?;
    order("clear")?;
    race::run(2500, 10, seed)?;
    assert_no_leaks()?;
    order("scan=on")
}

#[test]
fn hibernation_is_refused_as_long_as_there_is_one_secret_page() -> Result<()> {
    on_clean_host(|| {
        ensure!(may_hibernate()?, "INVALID: this kernel never hibernates");
        // The descriptor is closed; the mapping alone keeps the page.
        let holder = Holder::start(&["--mib", "2", "--close"])?;
        ensure!(holder.result == "held", "No secret memory: {}", holder.result);
        assert_no_hibernation()?;
        drop(holder);
        ensure!(may_hibernate()?, "Hibernation is still refused");

        let memory = Area::of_file(&secret::file(0, secret::HUGE_SIZE)?, secret::HUGE_SIZE)?;
        let mut guest = ToyVm::on(&memory)?;
        ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The guest does not run");
        assert_no_hibernation()?;
        ensure!(guest.run(Program::Write, 0x8000)? == Outcome::Halted, "The guest does not go on");
        drop(guest);
        drop(memory);
        ensure!(may_hibernate()?, "Hibernation is still refused");
        Ok(())
    })
}

#[test]
fn memory_with_secret_pages_is_not_taken_offline() -> Result<()> {
    on_clean_host(|| {
        memlock::make_room(SECRET_BYTES as u64)?;
        let file = secret::file(0, SECRET_BYTES)?;
        let memory = Area::of_file(&file, SECRET_BYTES)?;
        memory.touch();
        let before = frames_of(&memory)?;
        let block_bytes = hexadecimal(&format!("{BLOCKS}/block_size_bytes"))?;
        let with = before.iter().map(|frame| frame * 4096 / block_bytes).collect::<BTreeSet<_>>();

        let others = blocks()?.into_iter().filter(|block| !with.contains(block)).collect::<Vec<_>>();
        let taken = others.iter().rev().find(|&&block| offline(block).is_ok_and(|done| done));
        let taken = taken.context("INVALID: no block of memory without secret pages goes offline")?;
        fs::write(format!("{BLOCKS}/memory{taken}/state"), "online").context("Cannot bring it back")?;

        for block in with {
            ensure!(!offline(block)?, "Block {block} went offline with secret pages in it");
        }
        let frame = before[0] * 4096;
        let soft = fs::write(format!("{BLOCKS}/soft_offline_page"), format!("{frame:#x}"));
        ensure!(soft.is_err(), "A secret frame was taken offline");
        ensure!(frames_of(&memory)? == before, "Secret pages were moved");
        let info = fdinfo::of_file(&file)?;
        ensure!(info.direct_mapped == 0 && info.pages == before.len() as u64, "Not as it was: {info:?}");
        Ok(())
    })
}

/// Secret memory that lies in one or two blocks.
const SECRET_BYTES: usize = 16 << 20;
/// Documentation/admin-guide/mm/memory-hotplug.rst.
const BLOCKS: &str = "/sys/devices/system/memory";

/// Whether there is a way to hibernate: without one, the kernel says `[disabled]`.
fn may_hibernate() -> Result<bool> {
    let ways = fs::read_to_string("/sys/power/disk").context("This kernel knows no hibernation")?;
    Ok(!ways.contains("[disabled]"))
}

fn assert_no_hibernation() -> Result<()> {
    ensure!(!may_hibernate()?, "A way to hibernate is offered");
    let tried = fs::write("/sys/power/state", "disk").map_err(|error| error.kind());
    ensure!(tried == Err(ErrorKind::PermissionDenied), "Hibernation: {tried:?}");
    Ok(())
}

/// Numbers of the blocks of memory.
fn blocks() -> Result<Vec<u64>> {
    let entries = fs::read_dir(BLOCKS).context("This kernel cannot take memory offline")?;
    let number =
        |entry: Result<fs::DirEntry, Error>| entry.ok()?.file_name().to_str()?.strip_prefix("memory")?.parse().ok();
    let mut blocks = entries.filter_map(number).collect::<Vec<_>>();
    blocks.sort_unstable();
    Ok(blocks)
}

/// Whether a block goes offline. The kernel tries for good until a signal ends it.
fn offline(block: u64) -> Result<bool> {
    let script = format!("echo offline >{BLOCKS}/memory{block}/state");
    let mut command = Command::new("timeout");
    command.args(["--signal=INT", "--kill-after=60", "10", "bash", "-c", &script]);
    Ok(command.output().context("Cannot run a shell")?.status.success())
}

fn hexadecimal(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("Cannot read {path}"))?;
    u64::from_str_radix(text.trim(), 16).with_context(|| format!("{path} is no number: {text}"))
}

/// Asserts that the kernel has lost no memory since kmemleak's list was cleared.
fn assert_no_leaks() -> Result<()> {
    sleep(AGE);
    // The first scan notes what has changed meanwhile, the second reports.
    order("scan")?;
    order("scan")?;
    let leaks = fs::read_to_string(KMEMLEAK).context("Cannot read kmemleak's report")?;
    ensure!(leaks.is_empty(), "The host's kernel lost memory:\n{leaks}");
    Ok(())
}

fn order(word: &str) -> Result<()> {
    fs::write(KMEMLEAK, word).with_context(|| format!("kmemleak does not take {word}"))
}
