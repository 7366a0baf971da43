// SPDX-License-Identifier: Apache-2.0
//! The document, and who may read it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use secretvmm_api::{MmdsConfig, MmdsVersion};
use serde_json::{Map, Value};

use super::Metrics;
use super::token::Tokens;

/// Where guests look for the service.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// How much it keeps by default, in bytes of JSON: as much as a request has (`--http-api-max-payload-size`).
#[cfg(test)]
pub const SIZE_LIMIT: usize = 51_200;

/// The metadata service of one VM. The API writes, network devices read.
pub struct Mmds {
    limit: usize,
    data: Value,
    service: Option<Service>,
    metrics: Arc<Metrics>,
}

/// How guests reach it.
struct Service {
    config: MmdsConfig,
    tokens: Tokens,
}

/// Why the host cannot have it so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A patch before there is anything to patch.
    #[error("There is no metadata to patch yet; PUT some first")]
    Empty,
    /// Too large.
    #[error("The metadata would be {size} bytes and may be {limit}; make it smaller or raise --mmds-size-limit")]
    TooLarge {
        /// As it would be.
        size: usize,
        /// As it may be.
        limit: usize,
    },
    /// No place where a guest could look.
    #[error("The metadata service needs at least one network interface; list its iface_id in network_interfaces")]
    NoInterface,
    /// An address that the host or the guest may need for something else.
    #[error("{0} is no link-local address; take one from 169.254.1.0 to 169.254.254.255, or leave ipv4_address out")]
    Address(Ipv4Addr),
    /// No key for tokens.
    #[error("The host gives no random numbers for the key of session tokens")]
    Random(#[source] getrandom::Error),
}

impl Mmds {
    /// Without contents, and out of the guest's reach, with at most `limit` bytes of JSON.
    pub fn new(limit: usize) -> Self {
        Self { limit, data: Value::Null, service: None, metrics: Arc::default() }
    }

    /// Opens the service to the guest. To be called before the VM starts.
    ///
    /// # Errors
    /// The configuration makes no sense; nothing has changed. Whether the network interfaces exist
    /// is for the caller to know.
    pub fn configure(&mut self, config: &MmdsConfig) -> Result<(), Error> {
        if config.network_interfaces.is_empty() {
            return Err(Error::NoInterface);
        }
        // RFC 3927, section 2.1: the first and the last 256 are reserved.
        if let Some(address) = config.ipv4_address
            && !(address.is_link_local() && (1..=254).contains(&address.octets()[2]))
        {
            return Err(Error::Address(address));
        }
        self.service = Some(Service { config: config.clone(), tokens: Tokens::new().map_err(Error::Random)? });
        Ok(())
    }

    /// How it was configured.
    pub fn config(&self) -> Option<&MmdsConfig> {
        self.service.as_ref().map(|service| &service.config)
    }

    /// The address at which the guest reaches it over interface `iface_id`, if it may.
    pub fn address(&self, iface_id: &str) -> Option<Ipv4Addr> {
        let config = self.config().filter(|config| config.network_interfaces.iter().any(|id| id == iface_id))?;
        Some(config.ipv4_address.unwrap_or(ADDRESS))
    }

    /// Replaces the contents.
    ///
    /// # Errors
    /// They are too large; nothing has changed.
    pub fn put(&mut self, data: Value) -> Result<(), Error> {
        let size = data.to_string().len();
        if size > self.limit {
            return Err(Error::TooLarge { size, limit: self.limit });
        }
        self.data = data;
        Ok(())
    }

    /// Changes the contents as a JSON Merge Patch says (RFC 7396).
    ///
    /// # Errors
    /// There are none yet, or they would be too large; nothing has changed.
    pub fn patch(&mut self, patch: Value) -> Result<(), Error> {
        if self.data.is_null() {
            return Err(Error::Empty);
        }
        let mut data = self.data.clone();
        merge(&mut data, patch);
        self.put(data)
    }

    /// The contents; null before there are any.
    pub fn get(&self) -> Value {
        self.data.clone()
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// The value at `path`, with or without a slash at its end.
    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        self.data.pointer(path.strip_suffix('/').unwrap_or(path)).filter(|_| !self.data.is_null())
    }

    /// Whether a guest needs a token.
    pub(super) fn wants_tokens(&self) -> bool {
        self.config().is_some_and(|config| config.version == MmdsVersion::V2)
    }

    /// Whether a guest gets text whatever it asks for.
    pub(super) fn always_text(&self) -> bool {
        self.config().is_some_and(|config| config.imds_compat)
    }

    pub(super) fn issue_token(&self, ttl: u32) -> Option<String> {
        Some(self.service.as_ref()?.tokens.issue(ttl, Instant::now()))
    }

    pub(super) fn accepts_token(&self, token: &str) -> bool {
        self.service.as_ref().is_some_and(|service| service.tokens.accepts(token, Instant::now()))
    }
}

/// RFC 7396, section 2. As deep as the patch, which its parser has limited.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(address: Option<&str>) -> MmdsConfig {
        MmdsConfig {
            version: MmdsVersion::V2,
            network_interfaces: vec!["eth0".into()],
            ipv4_address: address.map(|address| address.parse().unwrap()),
            imds_compat: false,
        }
    }

    /// The table of RFC 7396, appendix A.
    #[test]
    fn patch_follows_the_standard() {
        for (original, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut mmds = Mmds::new(SIZE_LIMIT);
            mmds.put(original).unwrap();
            mmds.patch(patch).unwrap();
            assert_eq!(mmds.get(), result);
        }
    }

    #[test]
    fn contents_have_a_limit_that_leaves_them_as_they_were() {
        let mut mmds = Mmds::new(10);
        assert!(matches!(mmds.patch(json!({})), Err(Error::Empty)));
        mmds.put(json!({"a": "bc"})).unwrap();
        assert!(matches!(mmds.put(json!({"a": "bcd"})), Err(Error::TooLarge { size: 11, limit: 10 })));
        assert!(mmds.patch(json!({"b": 1})).is_err());
        assert_eq!(mmds.get(), json!({"a": "bc"}));
    }

    #[test]
    fn address_is_link_local_and_only_for_listed_interfaces() {
        let mut mmds = Mmds::new(SIZE_LIMIT);
        assert_eq!(mmds.address("eth0"), None);
        for wrong in ["10.0.0.1", "169.254.0.1", "169.254.255.1", "127.0.0.1"] {
            assert!(mmds.configure(&config(Some(wrong))).is_err());
        }
        assert!(mmds.configure(&MmdsConfig { network_interfaces: vec![], ..config(None) }).is_err());
        mmds.configure(&config(None)).unwrap();
        assert_eq!(mmds.address("eth0"), Some(ADDRESS));
        assert_eq!(mmds.address("eth1"), None);
        mmds.configure(&config(Some("169.254.170.2"))).unwrap();
        assert_eq!(mmds.address("eth0"), Some(Ipv4Addr::new(169, 254, 170, 2)));
    }
}
