// SPDX-License-Identifier: Apache-2.0
//! `/network-interfaces/{iface_id}`: network devices.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::RateLimiter;
use super::bounds::within_or_null;

/// A network device on a TAP of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct NetworkInterface {
    /// Names the interface in the API.
    pub iface_id: String,
    /// The TAP's name.
    pub host_dev_name: String,
    /// The guest's MAC address; without it the guest takes one of its own.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, pattern = "^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"))]
    pub guest_mac: Option<MacAddr>,
    /// The MTU to tell the guest.
    #[serde(default, deserialize_with = "mtu")]
    #[cfg_attr(feature = "openapi", schema(minimum = 68, maximum = 65535))]
    pub mtu: Option<u16>,
    /// Limits of what the guest receives.
    #[serde(default)]
    pub rx_rate_limiter: Option<RateLimiter>,
    /// Limits of what the guest sends.
    #[serde(default)]
    pub tx_rate_limiter: Option<RateLimiter>,
}

fn mtu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    within_or_null(deserializer, 68..=u16::MAX)
}

/// What `PATCH /network-interfaces/{iface_id}` can change while the VM runs. A bucket of size 0
/// removes its limit; a missing one stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct NetworkInterfaceUpdate {
    /// Names the interface in the API.
    pub iface_id: String,
    /// Other limits of what the guest receives.
    #[serde(default)]
    pub rx_rate_limiter: Option<RateLimiter>,
    /// Other limits of what the guest sends.
    #[serde(default)]
    pub tx_rate_limiter: Option<RateLimiter>,
}

/// A MAC address, written as six pairs of hexadecimal digits with colons between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl FromStr for MacAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is no MAC address such as 06:00:ac:10:00:02");
        let mut bytes = [0; 6];
        let mut words = text.split(':');
        for byte in &mut bytes {
            let word = words.next().filter(|word| word.len() == 2).ok_or_else(error)?;
            // from_str_radix takes a sign.
            let digits = word.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(word, 16).ok().filter(|_| digits).ok_or_else(error)?;
        }
        words.next().is_none().then_some(Self(bytes)).ok_or_else(error)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mac_address_survives_a_round_trip() {
        let mac: MacAddr = "06:00:AC:10:00:02".parse().unwrap();
        assert_eq!(mac.0, [6, 0, 0xac, 0x10, 0, 2]);
        assert_eq!(mac.to_string(), "06:00:ac:10:00:02");
    }

    #[test]
    fn mac_address_malformed_is_refused() {
        for text in
            ["", "06:00:ac:10:00", "06:00:ac:10:00:02:03", "06:00:ac:10:00:+2", "06:00:ac:10:00:0g", "6:0:a:1:0:2"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
