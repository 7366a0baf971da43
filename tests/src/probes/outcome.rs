// SPDX-License-Identifier: Apache-2.0
//! What a probe of the matrix brings back.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Tally, Verdict};
use crate::sys::ByPolicy;

/// The class of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Class {
    /// A canary was read.
    Hit,
    /// The kernel did to the memory what was asked (wrote, pinned, moved, mapped it), where no contents come out.
    Took,
    /// It was read with success, and no canary was there.
    Absent,
    /// Nothing was refused, and the frames are the same as before.
    Stayed,
    /// Every attempt was refused, by the memory.
    Refused,
    /// Refused before the memory was reached, by rules on processes.
    Policy,
    /// The target has nothing that this probe is about.
    NotApplicable,
    /// The probe itself did not work: it says nothing.
    Invalid,
}

/// A result, and the particulars for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it comes to.
    pub class: Class,
    /// Of a refusal.
    pub errno: Option<Errno>,
    /// Counts and the like; never compared.
    pub detail: String,
}

impl Outcome {
    /// A result without errno.
    pub fn new(class: Class, detail: impl Into<String>) -> Self {
        Outcome { class, errno: None, detail: detail.into() }
    }

    /// A refusal by the memory.
    pub fn refused(errno: Errno) -> Self {
        Outcome { class: Class::Refused, errno: Some(errno), detail: String::new() }
    }

    /// What a call comes to that takes memory and brings nothing out.
    pub fn took<T>(result: Result<T, Errno>) -> Self {
        match result {
            Ok(_) => Outcome::new(Class::Took, ""),
            Err(errno) => Outcome::refused(errno),
        }
    }

    /// Frames that were to be moved: `changed` of them were, and the call's own answer.
    pub fn of_move(changed: usize, answer: Result<(), Errno>) -> Self {
        match (changed, answer) {
            (1.., _) => Outcome::new(Class::Took, format!("{changed} frames changed")),
            (0, Err(errno)) => Outcome::refused(errno),
            (0, Ok(())) => Outcome::new(Class::Stayed, ""),
        }
    }

    /// What a table of expectations has for it: the class, or a refusal's errno.
    pub fn word(&self) -> String {
        match (self.class, self.errno) {
            (Class::Refused, Some(errno)) => format!("{errno:?}"),
            (class, _) => class.word().to_owned(),
        }
    }
}

impl Class {
    /// As the table of expectations and the result file have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Took => "TOOK",
            Self::Absent => "ABSENT",
            Self::Stayed => "STAYED",
            Self::Refused => "REFUSED",
            Self::Policy => "POLICY",
            Self::NotApplicable => "-",
            Self::Invalid => "INVALID",
        }
    }
}

impl From<&Tally> for Outcome {
    fn from(tally: &Tally) -> Self {
        let class = match tally.verdict() {
            Verdict::Hit => Class::Hit,
            Verdict::Refused => Class::Refused,
            Verdict::Absent => Class::Absent,
        };
        let errno = (class == Class::Refused).then(|| tally.main_refusal()).flatten();
        Outcome { class, errno, detail: tally.to_string() }
    }
}

impl From<anyhow::Error> for Outcome {
    /// A probe that failed: by policy, or for a reason that makes it invalid.
    fn from(error: anyhow::Error) -> Self {
        match error.downcast_ref::<ByPolicy>() {
            Some(ByPolicy(errno)) => Outcome { class: Class::Policy, errno: Some(*errno), detail: String::new() },
            None => Outcome::new(Class::Invalid, format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn policy_is_told_from_failure_through_its_context() {
        let refused: anyhow::Result<()> = Err(ByPolicy::or_error(Errno::EPERM)).context("Cannot attach");
        assert_eq!(refused.map_err(Outcome::from).err().map(|outcome| outcome.class), Some(Class::Policy));
        let failed: anyhow::Result<()> = Err(ByPolicy::or_error(Errno::ESRCH)).context("Cannot attach");
        assert_eq!(failed.map_err(Outcome::from).err().map(|outcome| outcome.class), Some(Class::Invalid));
    }

    #[test]
    fn word_of_a_refusal_is_its_errno_and_frames_that_stayed_are_no_refusal() {
        assert_eq!(Outcome::refused(Errno::EFAULT).word(), "EFAULT");
        assert_eq!(Outcome::of_move(0, Ok(())).word(), "STAYED");
        assert_eq!(Outcome::of_move(0, Err(Errno::EINVAL)).word(), "EINVAL");
        assert_eq!(Outcome::of_move(1, Err(Errno::EINVAL)).word(), "TOOK");
    }
}
