// SPDX-License-Identifier: Apache-2.0
//! The verifier: a token against a policy.

use std::collections::BTreeMap;
use std::fmt::Display;

use error_reporter::Report;

use super::appraisal::{Appraisal, Status, Submod, TPM};
use super::claims::{Backing, Claims, Host, Memory, Vm};
use super::cose;
use super::hex::Nonce;
use super::key::PublicKey;
use super::policy::{Accept, AcceptHost, HostPolicy, MemoryPolicy, Policy, ReferenceValues, VmPolicy, Word};
use super::quote::{self, Quote};
use super::{EXCLUSIVE, PROFILE};

const PAGE: u64 = 4096;

/// What a token is held against.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who has to have signed it.
    pub key: &'a PublicKey,
    /// What the verifier made up for it.
    pub nonce: &'a Nonce,
    /// What it has to say.
    pub policy: &'a Policy,
    /// What the policy refers to.
    pub references: &'a ReferenceValues,
    /// What a TPM says of it: looked at if the policy asks.
    pub quote: Option<&'a Quote<'a>>,
    /// Seconds since 1970.
    pub now: u64,
}

/// Verifies a token and holds its claims against the policy.
///
/// Whatever the policy, no token is accepted whose guest RAM is not exclusive secret memory, all of
/// it that is there out of the direct map. Missing pages and aliases are refused unless the policy allows them.
///
/// ```
/// use secretvmm_evidence::{Expected, Nonce, Policy, PrivateKey, ReferenceValues, appraise};
///
/// let key = PrivateKey::from_seed(&[1; 32].into()).public();
/// let nonce: Nonce = "00112233445566778899".parse()?;
/// let policy: Policy = serde_json::from_str(r#"{"max_age_s": 300}"#)?;
/// let references = ReferenceValues::default();
/// let expected = Expected { key: &key, nonce: &nonce, policy: &policy, references: &references, quote: None, now: 0 };
/// assert!(!appraise(b"not a token", &expected).accepted());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn appraise(token: &[u8], expected: &Expected<'_>) -> Appraisal {
    let mut submods: BTreeMap<&'static str, Submod> = BTreeMap::new();
    let mut report = Submod::default();
    match cose::open(token, expected.key) {
        Ok(claims) => {
            report.add("signature", Status::Affirming, "it is this key's, and of every bit of the token");
            check_token(&mut report, &claims, expected);
            let Policy { host, vm, mem, .. } = expected.policy;
            submods.insert("host", host_submod(&claims.host, host, expected.references));
            submods.insert("vm", vm_submod(&claims.vm, vm, expected.references));
            submods.insert("mem", memory_submod(&claims.mem, mem));
        }
        Err(err) => {
            report.add("signature", Status::Contraindicated, Report::new(err).to_string());
            submods.extend(["host", "vm", "mem"].map(|name| (name, Submod::default())));
        }
    }
    submods.insert("token", report);
    if let Some(tpm) = &expected.policy.tpm {
        submods.insert(TPM, quote::submod(token, expected.quote, tpm));
    }
    Appraisal::new(expected.now, submods)
}

fn check_token(report: &mut Submod, claims: &Claims, expected: &Expected<'_>) {
    report.judge("profile", one(claims.profile == PROFILE, &claims.profile, PROFILE));
    report.judge(
        "nonce",
        match claims.nonce == *expected.nonce {
            true => Ok("it is the verifier's".into()),
            false => Err(format!("it is {}, which was not asked for: a replay", claims.nonce)),
        },
    );
    let (made, now) = (claims.issued_at, expected.now);
    let Policy { max_age_s, max_ahead_s, .. } = expected.policy;
    report.judge(
        "issued-at",
        match (now.saturating_sub(made), made.saturating_sub(now)) {
            (_, ahead) if ahead > *max_ahead_s => Err(format!("it is from the future, by {ahead} s of {max_ahead_s}")),
            (age, _) if age > *max_age_s => Err(format!("it is stale, {age} s old of at most {max_age_s}")),
            (age, _) => Ok(format!("{age} s ago, of at most {max_age_s}")),
        },
    );
}

fn one(good: bool, is: impl Display, has_to_be: impl Display) -> Result<String, String> {
    if good { Ok(format!("it is {is}")) } else { Err(format!("it is {is} and has to be {has_to_be}")) }
}

/// Holds a claim that a host may leave open against what the policy wants of it, if anything.
fn wanted<T: Display, W>(
    report: &mut Submod,
    claim: &'static str,
    value: Option<&T>,
    want: Option<W>,
    check: impl Fn(&T, W) -> Result<String, String>,
) {
    match (want, value) {
        (None, Some(value)) => report.add(claim, Status::None, format!("it is {value}; the policy does not ask")),
        (None, None) => report.add(claim, Status::None, "not known; the policy does not ask"),
        (Some(want), Some(value)) => report.judge(claim, check(value, want)),
        (Some(_), None) => report.judge(claim, Err("the host does not say, and the policy asks".into())),
    }
}

/// Holds a claim against a list, the reference values, or absence.
fn accepted<T: Display + PartialEq>(
    report: &mut Submod,
    claim: &'static str,
    value: Option<&T>,
    accept: Option<&Accept<T>>,
    references: &BTreeMap<String, T>,
) {
    let verdict = match (accept, value) {
        (None, Some(value)) => {
            return report.add(claim, Status::None, format!("it is {value}; the policy does not ask"));
        }
        (None, None) => return report.add(claim, Status::None, "there is none; the policy does not ask"),
        (Some(Accept::Word(Word::None)), None) => Ok("there is none".to_owned()),
        (Some(Accept::Word(Word::None)), Some(value)) => Err(format!("it is {value}, and there has to be none")),
        (Some(_), None) => Err("there is none, or the host does not say".to_owned()),
        (Some(Accept::OneOf(list)), Some(value)) => match list.contains(value) {
            true => Ok(format!("it is {value}, which the policy has")),
            false => Err(format!("it is {value}, which the policy does not have")),
        },
        (Some(Accept::Word(Word::Reference)), Some(value)) => {
            match references.iter().find(|(_, reference)| *reference == value) {
                Some((name, _)) => Ok(format!("it is that of {name}")),
                None => Err(format!("it is {value}, none of {} reference values", references.len())),
            }
        }
    };
    report.judge(claim, verdict);
}

fn host_submod(host: &Host, policy: &HostPolicy, references: &ReferenceValues) -> Submod {
    let mut report = Submod::default();
    let known = &references.host;
    report.add("kernel", Status::None, format!("it is {}, which says nothing by itself", host.kernel));
    accepted(
        &mut report,
        "build-id",
        host.build_id.as_ref(),
        policy.build_id.as_ref().map(AcceptHost::accept).as_ref(),
        &known.build_id,
    );
    accepted(
        &mut report,
        "cmdline",
        host.cmdline.as_ref(),
        policy.cmdline.as_ref().map(AcceptHost::accept).as_ref(),
        &known.cmdline,
    );
    let bits = format!("{:#x}", host.secretmem);
    wanted(&mut report, "secretmem", Some(&bits), policy.secretmem, |bits, want| {
        one(host.secretmem & want == want, bits, format_args!("at least {want:#x}"))
    });
    let same = |is: &bool, want: bool| one(*is == want, is, want);
    wanted(&mut report, "strict-devmem", host.strict_devmem.as_ref(), policy.strict_devmem, same);
    wanted(&mut report, "lockdown", host.lockdown.as_ref(), policy.lockdown, |is, want| {
        one(*is >= want, is, format_args!("at least {want}"))
    });
    wanted(&mut report, "kexec", host.kexec.as_ref(), policy.kexec.as_ref(), |is, want| {
        let words: Vec<String> = want.iter().map(ToString::to_string).collect();
        one(want.contains(is), is, words.join(" or "))
    });
    wanted(&mut report, "swap", host.swap.as_ref(), policy.swap, same);
    wanted(&mut report, "ksm", host.ksm.as_ref(), policy.ksm, same);
    wanted(&mut report, "yama", host.yama.as_ref(), policy.yama, |is, want| {
        one(*is >= want, is, format_args!("at least {want}"))
    });
    report
}

fn vm_submod(vm: &Vm, policy: &VmPolicy, references: &ReferenceValues) -> Submod {
    let mut report = Submod::default();
    let known = &references.vm;
    accepted(&mut report, "kernel", Some(&vm.kernel), policy.kernel.as_ref(), &known.kernel);
    accepted(&mut report, "initrd", vm.initrd.as_ref(), policy.initrd.as_ref(), &known.initrd);
    accepted(&mut report, "cmdline", Some(&vm.cmdline), policy.cmdline.as_ref(), &known.cmdline);
    accepted(&mut report, "config", Some(&vm.config), policy.config.as_ref(), &known.config);
    accepted(&mut report, "vmm", Some(&vm.vmm), policy.vmm.as_ref(), &known.vmm);
    let layers = words(&vm.sandbox);
    wanted(&mut report, "sandbox", Some(&layers), policy.sandbox.as_ref(), |is, want| {
        one(want.iter().all(|layer| vm.sandbox.contains(layer)), is, format_args!("at least {}", words(want)))
    });
    report
}

fn words(words: &[impl Display]) -> String {
    match words {
        [] => "nothing".to_owned(),
        words => words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    }
}

fn memory_submod(files: &[Memory], policy: &MemoryPolicy) -> Submod {
    let mut report = Submod::default();
    if files.is_empty() {
        report.judge("slots", Err("there is no memory at all".into()));
    }
    for file in files {
        memory_file(&mut report, file, policy);
    }
    report
}

fn memory_file(report: &mut Submod, file: &Memory, policy: &MemoryPolicy) {
    let Backing::Secret = file.backing;
    report.add("backing", Status::Affirming, format!("it is {}", file.backing));
    report.judge("flags", one(file.flags & EXCLUSIVE != 0, format_args!("{:#x}", file.flags), "exclusive (bit 0)"));
    report.judge("direct-mapped", none_above(file.direct_mapped, 0, "in the kernel's direct map"));
    report.judge("aliases", none_above(file.aliases, policy.max_aliases, "mapped elsewhere in the kernel"));
    let size = file.slots.iter().try_fold(0_u64, |sum, slot| sum.checked_add(slot.size)).unwrap_or(0);
    let all = size / PAGE;
    report.judge(
        "pages",
        match file.pages {
            0 => Err("not one page is there".into()),
            pages if pages > all => Err(format!("{pages} are there, of slots that have {all}")),
            pages if pages < all && !policy.allow_missing_pages => {
                Err(format!("{pages} of {all} are there; the rest may come from anywhere"))
            }
            pages => Ok(format!("{pages} of {all} are there")),
        },
    );
}

fn none_above(count: u64, most: u64, what: &str) -> Result<String, String> {
    let text = format!("{count} pages are {what}, of at most {most}");
    if count <= most { Ok(text) } else { Err(text) }
}

#[cfg(test)]
mod tests;
