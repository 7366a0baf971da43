// SPDX-License-Identifier: Apache-2.0
//! `move_pages(2)`: the canary pages to another node.

use anyhow::{Context, Result, ensure};

use crate::host::numa::Nodes;
use crate::probes::{Outcome, Subject};
use crate::sys;

pub(super) fn run(subject: &Subject<'_>) -> Result<Outcome> {
    let (_, to) = other_node(subject.frame(subject.planted[0])?)?;
    subject.moved_by(|| Ok(sys::move_pages(subject.pid(), &subject.planted, to.cast_signed())))
}

/// The node of a frame, and the other one of a host with two.
pub(super) fn other_node(frame: u64) -> Result<(u32, u32)> {
    let nodes = Nodes::read()?;
    ensure!(nodes.count() == 2, "The host has {} nodes instead of 2", nodes.count());
    let node = nodes.of_frame(frame).context("A frame of no node")?;
    Ok((node, 1 - node))
}
