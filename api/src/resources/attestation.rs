// SPDX-License-Identifier: Apache-2.0
//! `/attestation`: evidence for somebody who is not on the host. Our own.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

use secretvmm_evidence::{MEANING, MEDIA_TYPE};

/// The answer to `GET /attestation?nonce=...`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Attestation {
    /// What the token is: `application/eat+cwt`.
    pub media_type: String,
    /// The token, in base64url without padding (RFC 4648, 5).
    pub token: String,
    /// What the token is worth.
    pub meaning: String,
}

impl Attestation {
    /// With these bytes as the token.
    pub fn new(token: &[u8]) -> Self {
        let token = Base64UrlUnpadded::encode_string(token);
        Self { media_type: MEDIA_TYPE.to_owned(), token, meaning: MEANING.to_owned() }
    }

    /// The token's bytes; None if it is no base64url.
    pub fn token_bytes(&self) -> Option<Vec<u8>> {
        Base64UrlUnpadded::decode_vec(&self.token).ok()
    }
}
