// SPDX-License-Identifier: Apache-2.0
//! What a round is to be.

use std::time::Duration;

use super::dice::Dice;
use crate::secret::{EXCLUSIVE, HUGE, HUGE_SIZE};

/// What the victim does until it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// Runs a guest that writes to its memory.
    Guest,
    /// The same, and forks children that write to what they inherit.
    Forks,
    /// Gives new files their size while others fault on them and populate them.
    Sizes,
    /// Runs a guest once, and ends by itself.
    Leaves,
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) scene: Scene,
    /// Of memfd_secret(2).
    pub(super) flags: u32,
    /// Of the file, in bytes.
    pub(super) size: usize,
    /// fallocate(2) before the guest runs, else pages come as they are touched.
    pub(super) populate: bool,
    /// 4 KiB pages where the flags allow.
    pub(super) small: bool,
    /// The victim sends its descriptor; the thief can take it anyway.
    pub(super) sends: bool,
    /// The victim is dead before the thief uses what it took.
    pub(super) kill_first: bool,
    /// How long the driver waits at most before it steals.
    pub(super) patience: Duration,
}

impl Plan {
    /// A victim that lives its life to the end.
    pub(super) const UNDISTURBED: Plan = Plan {
        scene: Scene::Leaves,
        flags: EXCLUSIVE,
        size: HUGE_SIZE,
        populate: true,
        small: false,
        sends: false,
        kill_first: false,
        patience: Duration::ZERO,
    };

    /// A plan by chance. `life` is how long a victim lives that nobody disturbs: on a slow host it is at the same point
    /// later.
    pub(super) fn roll(dice: &mut Dice, life: Duration) -> Self {
        let flags = dice.pick(&[0, 0, EXCLUSIVE, EXCLUSIVE, HUGE, EXCLUSIVE | HUGE]).unwrap_or(0);
        // Large pages, and a tail of small ones where that is allowed.
        let tail = if flags & HUGE == 0 { 4096 * dice.below(9) as usize } else { 0 };
        Plan {
            scene: dice
                .pick(&[Scene::Guest, Scene::Guest, Scene::Forks, Scene::Sizes, Scene::Leaves])
                .unwrap_or(Scene::Guest),
            flags,
            size: HUGE_SIZE * (1 + dice.below(2) as usize) + tail,
            populate: dice.once_in(2),
            small: dice.once_in(3),
            sends: dice.once_in(2),
            kill_first: dice.once_in(3),
            patience: life * dice.pick(&[0, 1, 4, 12]).unwrap_or(0) / 4,
        }
    }

    pub(super) fn exclusive(self) -> bool {
        self.flags & EXCLUSIVE != 0
    }
}
