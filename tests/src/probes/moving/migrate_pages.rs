// SPDX-License-Identifier: Apache-2.0
//! `migrate_pages(2)`: all of a process to another node, and back.

use anyhow::Result;

use super::move_pages::other_node;
use crate::probes::{Outcome, Subject};
use crate::sys;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let (from, to) = other_node(subject.frame(subject.planted[0])?)?;
    subject.moved_by(|| Ok(sys::migrate_pages(subject.pid(), from, to).map(drop)))
}
