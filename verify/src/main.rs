// SPDX-License-Identifier: Apache-2.0
//! `secretvmm-verify`: is this token fresh, by that key, and does it say what the policy asks?

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Parser;
use secretvmm_evidence::quote::{self, Quote, QuoteKey};
use secretvmm_evidence::{Appraisal, Expected, Nonce, Policy, PublicKey, ReferenceValues, appraise, cbor};
use serde::de::DeserializeOwned;

/// The most bytes of a policy, of reference values, of a key.
const MAX_TEXT: u64 = 1 << 20;

/// Verify a token of secretvmm's against a policy
///
/// Prints the result as JSON, with the reason for each claim, and each refusal as a line on stderr.
///
/// Without a hardware TEE a token says no more than this: a key controlled by the host says that
/// its kernel reports these facts. Whoever controls the host can use the key.
///
/// Exit codes: 0 the token meets the policy; 1 it does not; 2 nothing was verified.
#[derive(Debug, Parser)]
#[command(name = "secretvmm-verify", version)]
struct Cli {
    /// What the token has to say: JSON, see docs/attestation.md
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The nonce that the token was asked for with
    #[arg(long, value_name = "HEX")]
    nonce: Nonce,
    /// The host's public key in PEM; otherwise the policy names it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A TPM's quote of the token, for a policy that asks for one: see docs/attestation.md
    #[arg(long, value_name = "FILE", requires = "quote_signature")]
    quote: Option<PathBuf>,
    /// The quote's signature
    #[arg(long, value_name = "FILE", requires = "quote")]
    quote_signature: Option<PathBuf>,
    /// The token, as `secretvmm attest --output` writes it
    #[arg(value_name = "TOKEN")]
    token: PathBuf,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(appraisal) => ExitCode::from(u8::from(!appraisal.accepted())),
        Err(err) => {
            eprintln!("secretvmm-verify: error: {err:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<Appraisal> {
    let policy: Policy = read_json(&cli.policy)?;
    let beside = |path: &PathBuf| cli.policy.parent().unwrap_or(Path::new("")).join(path);
    let references: ReferenceValues =
        policy.reference_values.as_ref().map(|path| read_json(&beside(path))).transpose()?.unwrap_or_default();
    let Some(key) = cli.key.clone().or_else(|| policy.public_key.as_ref().map(beside)) else {
        bail!("There is no key to verify with: give --key, or public_key in the policy");
    };
    let key = PublicKey::from_pem(&read_text(&key)?).with_context(|| format!("{} is of no use", key.display()))?;
    let token = read_some(&cli.token, cbor::MAX_LEN)?;
    let quote = QuoteFiles::read(cli, &policy, beside)?;
    let quote = quote.as_ref().map(QuoteFiles::quote);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("The clock is before 1970")?.as_secs();
    let (nonce, references, quote) = (&cli.nonce, &references, quote.as_ref());
    let appraisal = appraise(&token, &Expected { key: &key, nonce, policy: &policy, references, quote, now });
    println!("{}", serde_json::to_string_pretty(&appraisal)?);
    for (part, check) in appraisal.refusals() {
        eprintln!("secretvmm-verify: refused: {part}: {}: {}", check.claim, check.reason);
    }
    Ok(appraisal)
}

/// What the host's TPM signed.
struct QuoteFiles {
    key: QuoteKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl QuoteFiles {
    /// None if there is no quote; whether there has to be one is for the policy.
    fn read(cli: &Cli, policy: &Policy, beside: impl Fn(&PathBuf) -> PathBuf) -> Result<Option<Self>> {
        let (Some(message), Some(signature)) = (&cli.quote, &cli.quote_signature) else { return Ok(None) };
        let Some(tpm) = &policy.tpm else {
            bail!("The policy says nothing of a TPM: leave --quote out, or add tpm to the policy");
        };
        let path = beside(&tpm.key);
        let key = QuoteKey::from_pem(&read_text(&path)?).with_context(|| format!("{} is of no use", path.display()))?;
        let [message, signature] = [message, signature].map(|path| read_some(path, quote::MAX_LEN));
        Ok(Some(Self { key, message: message?, signature: signature? }))
    }

    fn quote(&self) -> Quote<'_> {
        Quote { key: &self.key, message: &self.message, signature: &self.signature }
    }
}

/// One byte more than there may be, so that more is refused as what it is.
fn read_some(path: &Path, most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    file.with_context(|| format!("Cannot read {}", path.display()))?;
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<String> {
    let size = fs::metadata(path).with_context(|| format!("Cannot read {}", path.display()))?.len();
    if size > MAX_TEXT {
        bail!("{} is larger than {MAX_TEXT} bytes", path.display());
    }
    fs::read_to_string(path).with_context(|| format!("Cannot read {}", path.display()))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?).with_context(|| format!("{} is not valid", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_without_a_key_or_with_half_a_policy_verifies_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let (policy, token) = (dir.path().join("policy.json"), dir.path().join("token"));
        fs::write(&token, b"").unwrap();
        let nonce = "00".repeat(16).parse().unwrap();
        let cli = Cli { policy, nonce, key: None, quote: None, quote_signature: None, token };
        let error = || format!("{:#}", run(&cli).unwrap_err());
        assert!(error().contains("Cannot read"), "{}", error());
        write("policy.json", r#"{"max_age_s": 60, "unknown": 1}"#);
        assert!(error().contains("unknown field"), "{}", error());
        write("policy.json", r#"{"max_age_s": 60}"#);
        assert!(error().contains("give --key"), "{}", error());
        write("policy.json", r#"{"max_age_s": 60, "public_key": "key.pem"}"#);
        write("key.pem", "no key");
        assert!(error().contains("is of no use"), "{}", error());
        write("policy.json", r#"{"max_age_s": 60, "public_key": "key.pem", "reference_values": "none.json"}"#);
        assert!(error().contains("none.json"), "{}", error());
    }

    #[test]
    fn run_refuses_files_that_are_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let (policy, token) = (dir.path().join("policy.json"), dir.path().join("token"));
        fs::write(&policy, vec![b' '; MAX_TEXT as usize + 1]).unwrap();
        let error = run(&Cli {
            policy,
            nonce: "00".repeat(16).parse().unwrap(),
            key: None,
            quote: None,
            quote_signature: None,
            token,
        })
        .unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error:#}");
    }

    #[test]
    fn run_refuses_what_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let (policy, key, token) = (dir.path().join("policy"), dir.path().join("key"), dir.path().join("token"));
        fs::write(&policy, r#"{"max_age_s": 60}"#).unwrap();
        let private = secretvmm_evidence::PrivateKey::from_seed(&zeroize::Zeroizing::new([1; 32]));
        fs::write(&key, private.public().to_pem().unwrap()).unwrap();
        fs::write(&token, b"no token").unwrap();
        let appraisal = run(&Cli {
            policy,
            nonce: "00".repeat(16).parse().unwrap(),
            key: Some(key),
            quote: None,
            quote_signature: None,
            token,
        })
        .unwrap();
        assert!(!appraisal.accepted());
    }
}
