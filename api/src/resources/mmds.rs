//! `/mmds` and `/mmds/config`: the metadata service that the guest reaches over its network.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The contents of the metadata store: any JSON object.
pub type MmdsContents = serde_json::Map<String, serde_json::Value>;

/// How the guest reaches the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmdsConfig {
    /// With or without session tokens.
    #[serde(default)]
    pub version: MmdsVersion,
    /// The network interfaces, by their ids, over which the guest reaches it.
    pub network_interfaces: Vec<String>,
    /// Its address, 169.254.169.254 if none is given.
    #[serde(default)]
    pub ipv4_address: Option<Ipv4Addr>,
    /// Answer in plain text whatever the guest asks for.
    #[serde(default)]
    pub imds_compat: bool,
}

/// How the guest asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MmdsVersion {
    /// With a single request. Deprecated.
    #[default]
    V1,
    /// With a token that it asks for first.
    V2,
}
