// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::claims::{Kexec, Layer, Lockdown};
use crate::testing::{MADE_AT, claims, key, nonce, other_key, token};

/// A policy that asks for everything, and what it refers to.
fn strict() -> (Value, ReferenceValues) {
    let good = claims();
    let policy = json!({
        "max_age_s": 60,
        "max_ahead_s": 5,
        "host": {
            "build_id": "reference", "cmdline": [good.host.cmdline], "secretmem": 0x6b, "strict_devmem": true,
            "lockdown": "integrity", "kexec": ["absent", "disabled"], "swap": false, "ksm": false, "yama": 1,
        },
        "vm": {
            "kernel": "reference", "initrd": "reference", "cmdline": [good.vm.cmdline],
            "config": [good.vm.config], "vmm": "reference",
            "sandbox": ["seccomp"],
        },
        "mem": { "allow_missing_pages": false },
    });
    let references = json!({
        "host": { "build_id": { "lab": good.host.build_id } },
        "vm": {
            "kernel": { "guest": good.vm.kernel }, "initrd": { "initrd": good.vm.initrd }, "vmm": { "ours": good.vm.vmm },
        },
    });
    (policy, serde_json::from_value(references).unwrap())
}

/// What is done to a good claim, and what is then refused.
type Change<T> = (fn(&mut T), &'static str);

/// What [`Expected`] borrows.
struct Verifier {
    key: PublicKey,
    nonce: Nonce,
    references: ReferenceValues,
    now: u64,
}

fn appraised_with(token: &[u8], policy: &Value, change: impl FnOnce(&mut Verifier)) -> Appraisal {
    let policy = serde_json::from_value(policy.clone()).unwrap();
    let (key, nonce, references) = (key().public(), nonce(), strict().1);
    let mut verifier = Verifier { key, nonce, references, now: MADE_AT + 10 };
    change(&mut verifier);
    let Verifier { key, nonce, references, now } = &verifier;
    appraise(token, &Expected { key, nonce, policy: &policy, references, quote: None, now: *now })
}

fn appraised(token: &[u8]) -> Appraisal {
    appraised_with(token, &strict().0, |_| {})
}

/// The refusals of a token whose claims were changed before it was signed, as `part.claim`.
fn refusals(change: impl FnOnce(&mut Claims)) -> Vec<String> {
    let mut claims = claims();
    change(&mut claims);
    names(&appraised(&cose::sign(&claims, &key()).unwrap()))
}

fn names(appraisal: &Appraisal) -> Vec<String> {
    assert_eq!(appraisal.accepted(), appraisal.refusals().next().is_none());
    appraisal.refusals().map(|(part, check)| format!("{part}.{}", check.claim)).collect()
}

#[test]
fn appraise_good_token_is_affirmed_in_every_claim() {
    let appraisal = appraised(&token());
    assert!(appraisal.accepted(), "{:?}", appraisal.refusals().collect::<Vec<_>>());
    for (name, submod) in &appraisal.submods {
        for check in submod.claims.iter().filter(|check| check.claim != "kernel" || *name == "vm") {
            assert_eq!(check.status, Status::Affirming, "{name}: {check:?}");
        }
    }
    let json = serde_json::to_value(&appraisal).unwrap();
    assert_eq!(json["ear.status"], "affirming");
    assert_eq!(json["submods"]["mem"]["ear.status"], "affirming");
    assert!(json["meaning"].as_str().unwrap().contains("key controlled by this host"));
}

#[test]
fn appraise_replay_is_refused() {
    for other in [&[0xa6; 32][..], &[0xa5; 33], &[0xa5; 31]] {
        let nonce = other.try_into().unwrap();
        let appraisal = appraised_with(&token(), &strict().0, |verifier| verifier.nonce = nonce);
        assert_eq!(names(&appraisal), ["token.nonce"]);
    }
}

#[test]
fn appraise_stale_and_future_tokens_are_refused_to_the_second() {
    let at = |now| names(&appraised_with(&token(), &strict().0, |verifier| verifier.now = now));
    for now in [MADE_AT - 5, MADE_AT, MADE_AT + 60] {
        assert!(at(now).is_empty(), "{now}");
    }
    for now in [0, MADE_AT - 6, MADE_AT + 61, u64::MAX] {
        assert_eq!(at(now), ["token.issued-at"], "{now}");
    }
}

#[test]
fn appraise_wrong_key_and_no_token_are_refused_with_nothing_else_said() {
    for appraisal in [
        appraised_with(&token(), &strict().0, |verifier| verifier.key = other_key().public()),
        appraised(b""),
        appraised(&[token(), vec![0]].concat()),
        appraised(&[vec![0xd2], token()].concat()),
    ] {
        assert_eq!(names(&appraisal), ["token.signature"]);
        assert_eq!(appraisal.submods["mem"].status, Status::None);
    }
}

#[test]
fn appraise_other_profile_is_refused() {
    assert_eq!(refusals(|claims| claims.profile = "tag:example.com,2026:x".into()), ["token.profile"]);
}

/// Whatever the policy says or leaves out.
#[test]
fn appraise_memory_that_is_not_hidden_is_refused_by_every_policy() {
    let changes: [Change<Memory>; 7] = [
        (|mem| mem.direct_mapped = 1, "mem.direct-mapped"),
        (|mem| mem.direct_mapped = u64::MAX, "mem.direct-mapped"),
        (|mem| mem.aliases = 1, "mem.aliases"),
        (|mem| mem.flags = 0xe, "mem.flags"),
        (|mem| mem.pages = 0, "mem.pages"),
        (|mem| mem.pages += 1, "mem.pages"),
        (|mem| mem.slots[0].size = u64::MAX, "mem.pages"),
    ];
    for (change, refused) in changes {
        assert_eq!(refusals(|claims| change(&mut claims.mem[0])), [refused]);
        let mut second = claims();
        second.mem.push(second.mem[0].clone());
        change(&mut second.mem[1]);
        let token = cose::sign(&second, &key()).unwrap();
        assert_eq!(names(&appraised_with(&token, &json!({ "max_age_s": 60 }), |_| {})), [refused]);
    }
    assert_eq!(refusals(|claims| claims.mem.clear()), ["mem.slots"]);
}

#[test]
fn appraise_one_missing_page_is_refused_unless_the_policy_allows_it() {
    let less = |claims: &mut Claims| claims.mem[0].pages -= 1;
    assert_eq!(refusals(less), ["mem.pages"]);
    let mut some = claims();
    less(&mut some);
    let token = cose::sign(&some, &key()).unwrap();
    let with = |policy| appraised_with(&token, &policy, |_| {});
    assert_eq!(names(&with(json!({ "max_age_s": 300 }))), ["mem.pages"]);
    let refusing = json!({ "max_age_s": 300, "mem": { "allow_missing_pages": false } });
    assert_eq!(names(&with(refusing)), ["mem.pages"]);
    assert!(with(json!({ "max_age_s": 300, "mem": { "allow_missing_pages": true } })).accepted());
}

#[test]
fn appraise_aliases_are_allowed_by_number() {
    let mut aliased = claims();
    aliased.mem[0].aliases = 2;
    let token = cose::sign(&aliased, &key()).unwrap();
    for (most, expected) in [(0, &["mem.aliases"][..]), (1, &["mem.aliases"]), (2, &[]), (3, &[])] {
        let policy = json!({ "max_age_s": 60, "mem": { "max_aliases": most } });
        assert_eq!(names(&appraised_with(&token, &policy, |_| {})), expected, "{most}");
    }
}

#[test]
fn appraise_host_that_differs_is_refused_claim_by_claim() {
    let changes: [Change<Host>; 18] = [
        (|host| host.build_id = Some([0; 20].as_slice().try_into().unwrap()), "host.build-id"),
        (|host| host.build_id = None, "host.build-id"),
        (|host| host.cmdline = Some(crate::Digest::of(b"")), "host.cmdline"),
        (|host| host.cmdline = None, "host.cmdline"),
        (|host| host.secretmem = 0x69, "host.secretmem"),
        (|host| host.secretmem = 0, "host.secretmem"),
        (|host| host.strict_devmem = Some(false), "host.strict-devmem"),
        (|host| host.strict_devmem = None, "host.strict-devmem"),
        (|host| host.lockdown = Some(Lockdown::None), "host.lockdown"),
        (|host| host.lockdown = None, "host.lockdown"),
        (|host| host.kexec = Some(Kexec::Possible), "host.kexec"),
        (|host| host.kexec = Some(Kexec::Loaded), "host.kexec"),
        (|host| host.kexec = None, "host.kexec"),
        (|host| host.swap = Some(true), "host.swap"),
        (|host| host.swap = None, "host.swap"),
        (|host| host.ksm = Some(true), "host.ksm"),
        (|host| host.yama = Some(0), "host.yama"),
        (|host| host.yama = None, "host.yama"),
    ];
    for (change, refused) in changes {
        assert_eq!(refusals(|claims| change(&mut claims.host)), [refused]);
    }
    let more: [fn(&mut Host); 3] = [
        |host| host.lockdown = Some(Lockdown::Confidentiality),
        |host| host.yama = Some(3),
        |host| host.kexec = Some(Kexec::Disabled),
    ];
    for change in more {
        assert!(refusals(|claims| change(&mut claims.host)).is_empty());
    }
}

#[test]
fn appraise_vm_that_differs_is_refused_claim_by_claim() {
    let other = crate::Digest::of(b"other");
    assert_eq!(refusals(|claims| claims.vm.kernel = other), ["vm.kernel"]);
    assert_eq!(refusals(|claims| claims.vm.initrd = Some(other)), ["vm.initrd"]);
    assert_eq!(refusals(|claims| claims.vm.initrd = None), ["vm.initrd"]);
    assert_eq!(refusals(|claims| claims.vm.cmdline = other), ["vm.cmdline"]);
    assert_eq!(refusals(|claims| claims.vm.config = other), ["vm.config"]);
    assert_eq!(refusals(|claims| claims.vm.vmm = other), ["vm.vmm"]);
    assert_eq!(refusals(|claims| claims.vm.sandbox = vec![]), ["vm.sandbox"]);
    assert_eq!(refusals(|claims| claims.vm.sandbox = vec![Layer::Landlock]), ["vm.sandbox"]);
    // The right digest in the wrong place.
    assert_eq!(refusals(|claims| claims.vm.kernel = claims.vm.vmm), ["vm.kernel"]);

    let none = json!({ "max_age_s": 60, "vm": { "initrd": "none" } });
    assert_eq!(names(&appraised_with(&token(), &none, |_| {})), ["vm.initrd"]);
    let mut without = claims();
    without.vm.initrd = None;
    let token = cose::sign(&without, &key()).unwrap();
    assert!(appraised_with(&token, &none, |_| {}).accepted());
}

#[test]
fn appraise_reference_that_is_not_there_refuses() {
    let appraisal = appraised_with(&token(), &strict().0, |verifier| verifier.references = ReferenceValues::default());
    assert_eq!(names(&appraisal), ["host.build-id", "vm.kernel", "vm.initrd", "vm.vmm"]);
}

#[test]
fn appraise_what_the_policy_does_not_ask_is_shown_and_not_judged() {
    let appraisal = appraised_with(&token(), &json!({ "max_age_s": 60 }), |_| {});
    assert!(appraisal.accepted());
    assert_eq!(appraisal.submods["host"].status, Status::None);
    assert_eq!(appraisal.submods["mem"].status, Status::Affirming);
    let shown = |claim| appraisal.submods["host"].claims.iter().find(|check| check.claim == claim).unwrap();
    assert_eq!(shown("kexec").reason, "it is absent; the policy does not ask");
}
