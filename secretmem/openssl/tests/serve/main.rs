// SPDX-License-Identifier: Apache-2.0
//! Debian's `openssl s_server`, nginx and Python serve TLS, with and without the preload; their private key is
//! searched in their memory. Each search without the preload finds it: the control.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod key;
mod search;
mod server;

use std::sync::{Mutex, PoisonError};

use key::Key;
use server::Server;

/// Servers one after another: together they have more than RLIMIT_MEMLOCK may allow.
static TURN: Mutex<()> = Mutex::new(());

fn check(start: impl Fn(&Key, bool) -> Server) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = Key::make();
    let plain = start(&key, false);
    plain.is_answering();
    let found = plain.search(&key);
    assert!(found.iter().any(|found| found.what.is_number()), "the control finds the key: {found:?}");
    drop(plain);

    let secret = start(&key, true);
    secret.is_answering();
    let found = secret.search(&key);
    // Not OpenSSL's allocator: the buffer that the C library reads the key file through.
    println!("Copies outside OpenSSL's allocator, under the preload: {found:#?}");
    assert!(found.iter().all(|found| !found.what.is_number()), "the key's numbers are hidden: {found:#?}");
    secret.has_unreadable_pages();
}

#[test]
fn s_server_key_is_found_without_the_preload_only() {
    check(Server::openssl);
}

#[test]
fn nginx_key_is_found_in_master_and_workers_without_the_preload_only() {
    check(Server::nginx);
}

#[test]
fn python_key_is_found_without_the_preload_only() {
    check(Server::python);
}
