// SPDX-License-Identifier: Apache-2.0
//! `/mmds` and `/mmds/config`: the metadata service that the guest reaches over its network.

use std::net::Ipv4Addr;

use serde::{Deserialize, Deserializer, Serialize, de};

/// The contents of the metadata store: any JSON object.
pub type MmdsContents = serde_json::Map<String, serde_json::Value>;

/// How the guest reaches the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct MmdsConfig {
    /// With or without session tokens.
    #[serde(default)]
    pub version: MmdsVersion,
    /// The network interfaces, by their ids, over which the guest reaches it.
    #[serde(deserialize_with = "some_interfaces")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub network_interfaces: Vec<String>,
    /// Its address, 169.254.169.254 if none is given.
    #[serde(default, deserialize_with = "link_local")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, pattern = r"^169\.254\.([1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-4])\.([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$"))]
    pub ipv4_address: Option<Ipv4Addr>,
    /// Answer in plain text whatever the guest asks for.
    #[serde(default)]
    pub imds_compat: bool,
}

fn some_interfaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let interfaces = Vec::deserialize(deserializer)?;
    if interfaces.is_empty() {
        return Err(de::Error::invalid_length(0, &"at least one id of a network interface"));
    }
    Ok(interfaces)
}

/// Link-local addresses as of RFC 3927, section 2.1: the first and last 256 of 169.254/16 are reserved.
fn link_local<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv4Addr>, D::Error> {
    let address: Option<Ipv4Addr> = Option::deserialize(deserializer)?;
    match address.map(|address| address.octets()) {
        Some([169, 254, 1..=254, _]) | None => Ok(address),
        Some(_) => Err(de::Error::custom("the address has to be link-local: from 169.254.1.0 to 169.254.254.255")),
    }
}

/// How the guest asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum MmdsVersion {
    /// With a single request. Deprecated.
    #[default]
    V1,
    /// With a token that it asks for first.
    V2,
}
