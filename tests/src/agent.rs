// SPDX-License-Identifier: Apache-2.0
//! What the witness outside looks at: guests that start and end when it says so.
//!
//! `cargo xtask prove` runs the `agent` program inside the nested host and sends it a line for each [`Order`]; each
//! is answered by a line that begins with [`ANSWER`]. Between two orders nothing changes by itself, except what a
//! running guest and its host do anyway.

use std::fs::File;
use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use secretmem::memlock;
use secretvmm_canary::{PAGE_SIZE, Seed};
use secretvmm_proof::orders::{ANSWER, Answer, Leak, Order, Running};

use crate::area::Area;
use crate::artifacts::{GUEST_BZIMAGE, artifact};
use crate::guest::{Guest, GuestBuilder, STEP_LIMIT};
use crate::host::process::{frame_at, mappings};
use crate::host::witness::{Window, Witness, Wound};
use crate::host::{fdinfo, jit, kernel_log::KernelLog};
use crate::secret;

/// Smaller mappings are no guest RAM.
const LARGE: u64 = 1 << 20;

/// Follows the orders in `from` until there are no more, and answers to `to`.
///
/// # Errors
/// An order is none, a guest does not do what it should, or the host's kernel complained.
pub fn serve(from: impl BufRead, mut to: impl Write) -> Result<()> {
    jit::keep()?;
    let mut log = KernelLog::from_now()?;
    let mut stage = Stage::default();
    for line in from.lines() {
        let line = line.context("Cannot read orders")?;
        let order = serde_json::from_str(&line).with_context(|| format!("No order: {line}"))?;
        let answer = stage.follow(order)?;
        log.assert_clean()?;
        writeln!(to, "{ANSWER}{}", serde_json::to_string(&answer)?).context("Cannot answer")?;
        to.flush().context("Cannot answer")?;
    }
    Ok(())
}

/// What is there between two orders.
#[derive(Default)]
struct Stage {
    guest: Option<Guest>,
    held: Option<(File, Area)>,
    leak: Option<Leaked>,
}

/// What maps a frame of the guest into the kernel; dropped, it does so no more.
enum Leaked {
    Window(#[allow(dead_code)] Window<'static>),
    Wound(#[allow(dead_code)] Wound<'static>),
}

impl Stage {
    fn follow(&mut self, order: Order) -> Result<Answer> {
        match order {
            Order::Wait => Ok(Answer::Waited),
            Order::Start { .. } | Order::Hold { .. } if self.guest.is_some() || self.held.is_some() => {
                bail!("There is a guest already, or memory held")
            }
            Order::Start { arguments } => {
                let (guest, running) = start(arguments)?;
                self.guest = Some(guest);
                Ok(Answer::Started(running))
            }
            Order::Stop => {
                let mut guest = self.guest.take().context("No guest runs")?;
                guest.type_line("poweroff -f")?;
                end(guest)
            }
            Order::Kill => {
                let guest = self.guest.take().context("No guest runs")?;
                guest.signal(Signal::SIGKILL)?;
                end(guest)
            }
            Order::Hold { mib } => {
                let (held, running) = hold(mib)?;
                self.held = Some(held);
                Ok(Answer::Started(running))
            }
            Order::Leak { kind } => {
                let guest = self.guest.as_ref().context("No guest runs")?;
                let pfn = first_frame(guest)?;
                self.leak = None;
                self.leak = Some(leak(kind, pfn)?);
                Ok(Answer::Leaked { pfn })
            }
            Order::Mend => {
                self.leak.take().context("There is no leak")?;
                Ok(Answer::Mended)
            }
            Order::Release => {
                self.held.take().context("No memory is held")?;
                Ok(Answer::Ended)
            }
        }
    }
}

/// The frame of the first page of guest RAM.
fn first_frame(guest: &Guest) -> Result<u64> {
    let ram = mappings(guest.pid())?.into_iter().filter(|mapping| mapping.permissions.starts_with("rw"));
    let ram = ram.max_by_key(|mapping| mapping.end - mapping.start).context("The VMM has no memory")?;
    frame_at(guest.pid(), ram.start)?.context("The first page of guest RAM is not there")
}

fn leak(kind: Leak, pfn: u64) -> Result<Leaked> {
    // The module stays loaded, as long as the host runs.
    let witness: &'static Witness = Box::leak(Box::new(Witness::load()?));
    match kind {
        Leak::Vmap => witness.hold(pfn).map(Leaked::Window),
        Leak::Direct => witness.wound("direct", pfn).map(Leaked::Wound),
        Leak::Image => witness.wound("image", pfn).map(Leaked::Wound),
    }
}

/// Takes secret memory in the way of a kernel without the series, page by page.
fn hold(mib: u64) -> Result<((File, Area), Running)> {
    let length = usize::try_from(mib << 20).context("Too much memory")?;
    memlock::make_room(mib << 20).context("Cannot raise the limit of locked memory")?;
    let file = secret::file(0, length).context("Cannot create secret memory")?;
    let area = Area::of_file(&file, length).context("Cannot map secret memory")?;
    let seed = Seed::new(u64::from(std::process::id()) << 32 | 1);
    for (index, offset) in (0..).zip((0..length).step_by(PAGE_SIZE)) {
        area.try_write(offset, 0).context("Secret memory cannot be had")?;
        area.put(offset, &seed.page(index));
    }
    let canaries = (length / PAGE_SIZE) as u64;
    let running = Running {
        pid: std::process::id(),
        seed: seed.to_string(),
        canaries,
        mappings: vec![(area.address(), area.address() + length as u64)],
        secret_pages: canaries,
        direct_mapped: 0,
    };
    Ok(((file, area), running))
}

fn start(arguments: Vec<String>) -> Result<(Guest, Running)> {
    let kernel = artifact(GUEST_BZIMAGE)?;
    let mut guest = GuestBuilder::new(kernel).arguments(arguments).start()?;
    let (canary, _) = guest.wait_for_canary()?;
    guest.wait_for_shell()?;
    let pid = guest.pid();
    let large = |start: u64, end: u64| end - start >= LARGE;
    let mappings = mappings(pid)?
        .into_iter()
        .filter(|mapping| mapping.permissions.starts_with("rw") && large(mapping.start, mapping.end))
        .map(|mapping| (mapping.start, mapping.end))
        .collect();
    let info = fdinfo::of_process(pid).unwrap_or_default();
    let running = Running {
        pid,
        seed: canary.seed.to_string(),
        canaries: canary.pages,
        mappings,
        secret_pages: info.pages,
        direct_mapped: info.direct_mapped,
    };
    Ok((guest, running))
}

fn end(mut guest: Guest) -> Result<Answer> {
    const SETTLE: Duration = Duration::from_millis(200);
    guest.wait(STEP_LIMIT)?;
    // Files that a killed process had open are closed by the kernel a moment after its end.
    std::thread::sleep(SETTLE);
    Ok(Answer::Ended)
}
