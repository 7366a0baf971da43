// SPDX-License-Identifier: Apache-2.0
//! A quote of a TPM 2.0 that is for one token: which PCRs the host had when its TPM was asked, after the token was made.
//!
//! ```text
//!   token --SHA-256--> qualifying data --tpm2_quote(1)--> TPMS_ATTEST + ECDSA signature ~~~> submod(...)
//!                      PCRs, attestation key in the TPM ---^
//! ```
//!
//! TPM 2.0 Library, part 2: 10.12 (TPMS_ATTEST), 10.6 (PCR selections); part 3: 18.4 (TPM2_Quote). One kind is taken:
//! ECDSA on P-256 with SHA-256, of PCRs in the SHA-256 bank. That a key is a TPM's at all, and one that signs nothing
//! but what the TPM made, is for those to find out who put it into the policy.

use std::collections::{BTreeMap, BTreeSet};

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use sha2::{Digest as _, Sha256};

use super::appraisal::Submod;
use super::hex::PcrValue;
use super::policy::TpmPolicy;

/// The most bytes that a quote or its signature can have.
pub const MAX_LEN: usize = 4096;

/// TPM_GENERATED_VALUE: nothing that a TPM signs for others begins so.
const GENERATED: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_QUOTE.
const QUOTE: u16 = 0x8018;
/// TPM_ALG_SHA256.
const SHA256: u16 = 0x000b;

/// The public half of a TPM's attestation key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteKey(VerifyingKey);

/// Why a key is none.
#[derive(Debug, thiserror::Error)]
#[error("It is no public key on P-256 in PEM")]
pub struct NotQuoteKey;

impl QuoteKey {
    /// Reads SubjectPublicKeyInfo in PEM, as `tpm2_createak -f pem` writes it.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pem(pem: &str) -> Result<Self, NotQuoteKey> {
        VerifyingKey::from_public_key_pem(pem).map(Self).map_err(|_| NotQuoteKey)
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}

/// A quote as it came, of which nothing is known yet.
#[derive(Debug, Clone, Copy)]
pub struct Quote<'a> {
    /// Who has to have signed it.
    pub key: &'a QuoteKey,
    /// TPMS_ATTEST.
    pub message: &'a [u8],
    /// Its ECDSA signature, in DER.
    pub signature: &'a [u8],
}

/// Holds a quote against the token that it has to be for, and the PCRs against the policy.
pub(super) fn submod(token: &[u8], quote: Option<&Quote<'_>>, policy: &TpmPolicy) -> Submod {
    let mut report = Submod::default();
    let Some(quote) = quote else {
        report.judge("signature", Err("there is no quote, and the policy asks for one".into()));
        return report;
    };
    let good = quote.key.verifies(quote.message, quote.signature);
    report.judge(
        "signature",
        match good {
            true => Ok("it is this attestation key's, and of every bit of the quote".into()),
            false => Err("it is not this attestation key's of this quote".into()),
        },
    );
    if good {
        judge_attest(&mut report, token, &Attest::read(quote.message), policy);
    }
    report
}

fn judge_attest(report: &mut Submod, token: &[u8], attest: &Result<Attest, Malformed>, policy: &TpmPolicy) {
    match attest {
        Ok(attest) => {
            let same = attest.qualifying_data == Sha256::digest(token).as_slice();
            report.judge(
                "token",
                match same {
                    true => Ok("it is for this token".into()),
                    false => Err("it is for something else than this token: a replay".into()),
                },
            );
            report.judge("pcrs", attest.judge_pcrs(&policy.pcrs));
        }
        Err(why) => report.judge("form", Err(why.to_string())),
    }
}

/// What a quote says.
#[derive(Debug, PartialEq, Eq)]
struct Attest {
    qualifying_data: Vec<u8>,
    /// Of the SHA-256 bank.
    pcrs: BTreeSet<u8>,
    /// SHA-256 of their values, one after the other.
    digest: Vec<u8>,
}

/// Why it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Malformed {
    #[error("the key signed something that no TPM made")]
    NotOfTpm,
    #[error("it is another attestation than a quote")]
    NoQuote,
    #[error("it is not over PCRs of the SHA-256 bank alone")]
    OtherBank,
    #[error("it is cut off, or longer than it says")]
    Length,
}

impl Attest {
    fn read(message: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = Reader(message);
        if bytes.number::<4>()? != u64::from(GENERATED) {
            return Err(Malformed::NotOfTpm);
        }
        if bytes.number::<2>()? != u64::from(QUOTE) {
            return Err(Malformed::NoQuote);
        }
        // Who signed: the signature says it better.
        bytes.sized()?;
        let qualifying_data = bytes.sized()?.to_vec();
        // Clock, resets, restarts, whether the clock is safe; the TPM's firmware.
        bytes.take(8 + 4 + 4 + 1 + 8)?;
        if bytes.number::<4>()? != 1 || bytes.number::<2>()? != u64::from(SHA256) {
            return Err(Malformed::OtherBank);
        }
        let length = bytes.take(1)?[0].into();
        let bitmap = bytes.take(length)?;
        let numbers =
            (0..=u8::MAX).filter(|&pcr| bitmap.get(usize::from(pcr / 8)).is_some_and(|b| b >> (pcr % 8) & 1 != 0));
        let attest = Attest { qualifying_data, pcrs: numbers.collect(), digest: bytes.sized()?.to_vec() };
        if bytes.0.is_empty() { Ok(attest) } else { Err(Malformed::Length) }
    }

    fn judge_pcrs(&self, wanted: &BTreeMap<u8, PcrValue>) -> Result<String, String> {
        let list = |numbers: &mut dyn Iterator<Item = &u8>| numbers.map(u8::to_string).collect::<Vec<_>>().join(", ");
        let (is, want) = (list(&mut self.pcrs.iter()), list(&mut wanted.keys()));
        if wanted.is_empty() {
            return Err("the policy names no PCR".into());
        }
        if !self.pcrs.iter().eq(wanted.keys()) {
            return Err(format!("it is over PCRs {is} and has to be over {want}"));
        }
        let values: Vec<u8> = wanted.values().flat_map(|value| value.as_bytes()).copied().collect();
        match self.digest == Sha256::digest(values).as_slice() {
            true => Ok(format!("{is} have the policy's values")),
            false => Err(format!("{is} have other values than the policy's")),
        }
    }
}

/// Big-endian fields, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const BYTES: usize>(&mut self) -> Result<u64, Malformed> {
        Ok(self.take(BYTES)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Bytes behind their number, which has 16 bits: a TPM2B.
    fn sized(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number::<2>()?;
        self.take(usize::try_from(length).map_err(|_| Malformed::Length)?)
    }
}

#[cfg(test)]
mod tests;
