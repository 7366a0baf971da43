// SPDX-License-Identifier: Apache-2.0
//! What a verifier found, in the shape of an EAR (draft-ietf-rats-ear): a status for each part of
//! the evidence, and the reason for each claim.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{MEANING, MEANING_WITH_QUOTE};

/// The profile of the result. No EAR profile of the IETF's: there is no trustworthiness vector,
/// whose tiers for hidden memory presume hardware.
const PROFILE: &str = "tag:secretvmm.example,2026:ear/1";

/// The part about a TPM's quote.
pub(super) const TPM: &str = "tpm";

/// A verdict. The worse is the greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// None: nobody asked, or it did not come to that.
    #[default]
    None,
    /// As it has to be.
    Affirming,
    /// Not as it has to be.
    Contraindicated,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Contraindicated => "contraindicated",
        })
    }
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub claim: &'static str,
    /// The verdict.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// One part of the evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Submod {
    /// The worst of its claims'.
    #[serde(rename = "ear.status")]
    pub status: Status,
    /// Claim by claim.
    pub claims: Vec<Check>,
}

impl Submod {
    pub(super) fn add(&mut self, claim: &'static str, status: Status, reason: impl Into<String>) {
        self.status = self.status.max(status);
        self.claims.push(Check { claim, status, reason: reason.into() });
    }

    /// A claim that is as it has to be, or is not.
    pub(super) fn judge(&mut self, claim: &'static str, verdict: Result<String, String>) {
        match verdict {
            Ok(reason) => self.add(claim, Status::Affirming, reason),
            Err(reason) => self.add(claim, Status::Contraindicated, reason),
        }
    }
}

/// Who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifierId {
    /// The project.
    pub developer: &'static str,
    /// Program and version.
    pub build: &'static str,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Appraisal {
    /// The profile of the result.
    pub eat_profile: &'static str,
    /// When it was verified, in seconds since 1970.
    pub iat: u64,
    /// Who verified.
    #[serde(rename = "ear.verifier-id")]
    pub verifier: VerifierId,
    /// The worst of all.
    #[serde(rename = "ear.status")]
    pub status: Status,
    /// What an affirming token is worth.
    pub meaning: &'static str,
    /// `token`, `host`, `vm` and `mem`; `tpm` if the policy asks for a quote.
    pub submods: BTreeMap<&'static str, Submod>,
}

impl Appraisal {
    pub(super) fn new(now: u64, submods: BTreeMap<&'static str, Submod>) -> Self {
        let status = submods.values().map(|submod| submod.status).max().unwrap_or_default();
        let verifier =
            VerifierId { developer: "secretvmm", build: concat!("secretvmm-verify ", env!("CARGO_PKG_VERSION")) };
        let meaning = if submods.contains_key(TPM) { MEANING_WITH_QUOTE } else { MEANING };
        Self { eat_profile: PROFILE, iat: now, verifier, status, meaning, submods }
    }

    /// Whether the token meets the policy.
    pub fn accepted(&self) -> bool {
        self.status == Status::Affirming
    }

    /// Every claim for which it does not, with its part.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, &Check)> {
        let all = self.submods.iter().flat_map(|(name, submod)| submod.claims.iter().map(move |check| (*name, check)));
        all.filter(|(_, check)| check.status == Status::Contraindicated)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn status_prints_as_it_is_in_json() {
        for status in [Status::None, Status::Affirming, Status::Contraindicated] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.to_string());
        }
    }
}
