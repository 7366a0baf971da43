// SPDX-License-Identifier: Apache-2.0
//! Runs the matrix and says what drifted.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::Moment;
use super::cell::{Cell, LINE};
use super::expectations::{self, Expectation, Yama};
use super::target::{Running, TargetKind};
use crate::host::kernel_log::KernelLog;
use crate::host::witness::Witness;
use crate::probes::{Class, MatrixProbe, Outcome, Subject, matrix};

const PTRACE_SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// How many pages may be missing where khugepaged makes a huge one (Documentation/admin-guide/mm/transhuge.rst): the
/// targets lack some everywhere. `MADV_COLLAPSE` does not care.
const MISSING_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none";

/// What of the matrix is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Columns.
    pub targets: Vec<TargetKind>,
    /// Moments; anonymous memory has only the first.
    pub moments: Vec<Moment>,
    /// What yama forbids; one after the other where both are wanted, this one last.
    pub yama: Yama,
    /// Probes whose name contains this.
    pub filter: Option<String>,
}

/// Runs a plan; prints a line for each result.
///
/// # Errors
/// The module cannot be loaded, a target does not start or does not survive, or the host's kernel complained.
pub fn run(plan: &Plan) -> Result<Vec<Cell>> {
    let table = expectations::table()?;
    let witness = Witness::load()?;
    fs::write(PTRACE_SCOPE, (plan.yama as u8).to_string()).context("The host has no yama, or is past changing it")?;
    // A broken socket is an error, no end.
    #[allow(unsafe_code)]
    // SAFETY: to ignore a signal runs no code.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }?;
    // What khugepaged would do by itself would come between any two probes; one of them asks for it.
    fs::write(MISSING_PAGES, "0").context("khugepaged cannot be held back")?;
    let mut cells = Vec::new();
    for &target in &plan.targets {
        for &moment in &plan.moments {
            if target == TargetKind::Anonymous && moment != Moment::Booted {
                continue;
            }
            let column = Column { target, moment, yama: plan.yama };
            let probed = column.probe(&witness, &table, plan.filter.as_deref());
            cells.extend(probed.with_context(|| format!("{} {moment:?}", target.name()))?);
        }
    }
    Ok(cells)
}

struct Column {
    target: TargetKind,
    moment: Moment,
    yama: Yama,
}

impl Column {
    fn probe(&self, witness: &Witness, table: &[Expectation], filter: Option<&str>) -> Result<Vec<Cell>> {
        let mut log = KernelLog::from_now()?;
        let mut running = Running::start(self.target, self.moment)?;
        let subject = running.subject(witness)?;
        let mut cells = Vec::new();
        for probe in matrix().filter(|probe| filter.is_none_or(|filter| probe.name.contains(filter))) {
            let cell = self.cell(probe, &subject, expectations::of(table, probe.name)?);
            let mut out = std::io::stdout();
            writeln!(out, "{LINE}{}", serde_json::to_string(&cell)?)?;
            cells.push(cell);
        }
        running.assert_alive()?;
        log.assert_clean()?;
        Ok(cells)
    }

    fn cell(&self, probe: &MatrixProbe, subject: &Subject<'_>, expectation: &Expectation) -> Cell {
        let outcome = match expectation.word(self.target, self.yama) {
            "-" => Outcome::new(Class::NotApplicable, ""),
            _ => probe.outcome(subject),
        };
        Cell::new(probe, self.target, self.moment, self.yama, outcome, expectation)
    }
}

/// Says what came otherwise than the table has it.
///
/// # Errors
/// Anything did; or nothing was probed.
pub fn verdict(cells: &[Cell]) -> Result<()> {
    ensure!(!cells.is_empty(), "Nothing was probed");
    let mut drift = String::new();
    for cell in cells.iter().filter(|cell| !cell.ok) {
        let (probe, target, moment) = (&cell.probe, cell.target.name(), cell.moment);
        write!(drift, "\n- {target:<12} {moment:?} yama={} {probe}: expected {}", cell.yama, cell.expected)?;
        write!(drift, "\n+ {:<12} got {} ({})", "", cell.word(), cell.detail)?;
    }
    let wrong = cells.iter().filter(|cell| !cell.ok).count();
    if wrong > 0 {
        bail!("{wrong} of {} cells are not as tests/matrix/expectations.txt has them:{drift}", cells.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(ok: bool) -> Cell {
        Cell {
            probe: "vmsplice".into(),
            row: "pin".into(),
            target: TargetKind::Secret2m,
            moment: Moment::Io,
            yama: 0,
            result: Class::Hit,
            errno: None,
            expected: "EFAULT".into(),
            ok,
            detail: "canary page 3".into(),
        }
    }

    #[test]
    fn verdict_names_each_cell_that_drifted() {
        let said = verdict(&[cell(true), cell(false)]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("1 of 2 cells"), "{said}");
        assert!(said.contains("secret-2m    Io yama=0 vmsplice: expected EFAULT"), "{said}");
        assert!(said.contains("got HIT (canary page 3)"), "{said}");
        assert!(verdict(&[cell(true)]).is_ok());
    }

    #[test]
    fn verdict_of_nothing_is_no_pass() {
        assert!(verdict(&[]).is_err());
    }
}
