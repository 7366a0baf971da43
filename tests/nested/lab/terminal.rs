// SPDX-License-Identifier: Apache-2.0
//! The console on a terminal, and its settings on every way out.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use secretvmm_tests::guest::{Ending, Guest, GuestBuilder, STEP_LIMIT};

use crate::support::{on_clean_host, own_guest};

const CTRL_A: u8 = 1;

#[test]
fn ctrl_a_x_quits_and_restores_the_terminal() -> Result<()> {
    restores_after(&own_guest()?, |guest| guest.type_bytes(&[CTRL_A, b'x']), Ending::Code(0))
}

#[test]
fn power_off_restores_the_terminal() -> Result<()> {
    restores_after(&own_guest()?, |guest| guest.type_line("poweroff -f"), Ending::Code(0))
}

#[test]
fn sigterm_restores_the_terminal() -> Result<()> {
    restores_after(&own_guest()?, |guest| guest.signal(Signal::SIGTERM), Ending::Code(143))
}

#[test]
fn sighup_restores_the_terminal() -> Result<()> {
    restores_after(&own_guest()?, |guest| guest.signal(Signal::SIGHUP), Ending::Code(129))
}

#[test]
fn ctrl_c_reaches_the_guest() -> Result<()> {
    on_clean_host(|| {
        let (mut guest, _terminal) = own_guest()?.memory("512M").start_on_terminal()?;
        guest.wait_for_shell()?;
        guest.type_line("sleep 1000; echo slept''-enough")?;
        sleep(Duration::from_secs(2));
        guest.type_bytes(&[3])?;
        guest.expect("# ", STEP_LIMIT)?;
        ensure!(guest.shell("echo still here")?.ends_with("still here"), "The guest is gone");
        Ok(())
    })
}

#[test]
fn input_that_ends_leaves_the_guest_running() -> Result<()> {
    on_clean_host(|| {
        let mut guest = own_guest()?.memory("512M").start()?;
        guest.close_input();
        guest.wait_for_shell()?;
        let busy = processor_ticks(guest.pid())?;
        sleep(Duration::from_secs(3));
        ensure!(guest.is_running()?, "The VM ended with its input: {}", guest.all_messages());
        let ticks = processor_ticks(guest.pid())? - busy;
        // 100 ticks a second: a loop on the closed input would take nearly 300.
        ensure!(ticks < 200, "The VMM used {ticks} ticks in 3 s on an idle guest with its input closed");
        guest.signal(Signal::SIGTERM)?;
        ensure!(guest.wait(STEP_LIMIT)? == Ending::Code(143), "SIGTERM did not end it");
        Ok(())
    })
}

fn restores_after(builder: &GuestBuilder, end: impl FnOnce(&mut Guest) -> Result<()>, expected: Ending) -> Result<()> {
    on_clean_host(|| {
        let (mut guest, terminal) = builder.clone().memory("512M").start_on_terminal()?;
        let before = settings_when_cooked(&terminal)?;
        guest.wait_for_shell()?;
        let during = tcgetattr(&terminal)?;
        ensure!(!during.local_flags.contains(LocalFlags::ICANON), "The terminal is not raw while the guest runs");
        end(&mut guest)?;
        let ending = guest.wait(STEP_LIMIT)?;
        ensure!(ending == expected, "Ended with {ending:?}: {}", guest.all_messages());
        ensure!(tcgetattr(&terminal)? == before, "The terminal is not as it was");
        Ok(())
    })
}

/// A new terminal's settings: what the kernel gives every one, as another new one shows.
fn settings_when_cooked(terminal: &OwnedFd) -> Result<Termios> {
    let fresh = nix::pty::openpty(None, None)?;
    ensure!(nix::unistd::isatty(terminal)?, "Not a terminal");
    Ok(tcgetattr(&fresh.slave)?)
}

/// User and system time of a process in clock ticks (proc_pid_stat(5), fields 14 and 15).
fn processor_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<_> = after_name.split_ascii_whitespace().skip(11).take(2).collect();
    Ok(fields.iter().map(|field| field.parse::<u64>()).sum::<Result<u64, _>>()?)
}
