// SPDX-License-Identifier: Apache-2.0
//! Session tokens: the moment at which one expires, signed.

use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The shortest and the longest life of a token, in seconds.
pub(super) const TTL: std::ops::RangeInclusive<u32> = 1..=21600;
/// No token of ours is longer.
const LEN_MAX: usize = 16 + 1 + 64;

/// Makes tokens and knows them again. Nothing is kept of one, so that a guest cannot fill memory
/// with them; the key is made at the start and never leaves the process.
pub(super) struct Tokens {
    mac: Hmac<Sha256>,
    /// Tokens count milliseconds from here.
    start: Instant,
}

impl Tokens {
    /// With a key of its own.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        // As long as a block of the hash: what HMAC takes as it is.
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        Ok(Self { mac: Hmac::new(&key.into()), start: Instant::now() })
    }

    /// A token that is good for `ttl` seconds.
    pub(super) fn issue(&self, ttl: u32, now: Instant) -> String {
        let expiry = self.elapsed(now) + u64::from(ttl) * 1000;
        let signature = self.signed(expiry).finalize().into_bytes();
        signature.iter().fold(format!("{expiry:x}."), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Whether `token` was issued here and is not too old.
    pub(super) fn accepts(&self, token: &str, now: Instant) -> bool {
        let Some((expiry, signature)) = token.split_once('.').filter(|_| token.len() <= LEN_MAX) else { return false };
        let (Some(expiry), Some(signature)) = (hex(expiry), bytes(signature)) else { return false };
        // The signature in constant time, and first.
        self.signed(expiry).verify_slice(&signature).is_ok() && self.elapsed(now) < expiry
    }

    fn signed(&self, expiry: u64) -> Hmac<Sha256> {
        self.mac.clone().chain_update(expiry.to_le_bytes())
    }

    fn elapsed(&self, now: Instant) -> u64 {
        let elapsed: Duration = now.saturating_duration_since(self.start);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

/// As issued: lower case, no sign.
fn hex(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| digits)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let pair = |at| text.get(at..at + 2).and_then(hex).and_then(|byte| u8::try_from(byte).ok());
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn token_is_accepted_until_it_expires() {
        let tokens = Tokens::new().unwrap();
        let now = Instant::now();
        let token = tokens.issue(2, now);
        assert!(tokens.accepts(&token, now));
        assert!(tokens.accepts(&token, now + Duration::from_millis(1998)));
        assert!(!tokens.accepts(&token, now + Duration::from_millis(2001)));
    }

    #[test]
    fn token_forged_or_of_another_vm_is_refused() {
        let (tokens, others) = (Tokens::new().unwrap(), Tokens::new().unwrap());
        let now = Instant::now();
        let token = tokens.issue(60, now);
        assert!(!others.accepts(&token, now));
        let (expiry, signature) = token.split_once('.').unwrap();
        let longer = format!("f{expiry}.{signature}");
        for forged in
            [&longer, &token.to_uppercase(), &token[1..], &token[..token.len() - 1], "", ".", "ä.ä", &"0.".repeat(99)]
        {
            assert!(!tokens.accepts(forged, now), "{forged}");
        }
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] ^= 1;
            assert!(!tokens.accepts(std::str::from_utf8(&forged).unwrap(), now), "{at}");
        }
    }
}
