//! Kea's own lease query hook, which answers the same queries as this library.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::Value;

use crate::kea_config::layout::HooksLibrary;

/// The name of its file.
const LIBRARY: &str = "libdhcp_lease_query.so";

/// The port on which it listens at 127.0.0.1 unless others are configured.
const PORT: u64 = 67;

/// Kea's own lease query hook in a configuration. It answers DHCPLEASEQUERYs over UDP whenever it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseQueryHook {
    /// The file, as configured.
    pub file: String,
    /// The TCP port on which it answers Bulk Leasequery; `None` if it does not.
    pub port: Option<u64>,
    /// The address on which it does.
    address: Ipv4Addr,
}

impl LeaseQueryHook {
    /// Finds it among the loaded libraries.
    pub fn find(libraries: &[HooksLibrary]) -> Option<LeaseQueryHook> {
        let library = libraries
            .iter()
            .find(|library| LeaseQueryHook::is_file(&library.library))?;
        let none = Value::Null;
        let advanced = &library.parameters.as_ref().unwrap_or(&none)["advanced"];
        let port = &advanced["lease-query-tcp-port"];
        // Kea 3.0's documentation has another name for the parameter than its code.
        let port = port.as_u64().or(advanced["lease-query-port"].as_u64());
        Some(LeaseQueryHook {
            file: library.library.clone(),
            port: (advanced["bulk-query-enabled"] == true).then_some(port.unwrap_or(PORT)),
            address: advanced["lease-query-ip"]
                .as_str()
                .and_then(|address| address.parse().ok())
                .unwrap_or(Ipv4Addr::LOCALHOST),
        })
    }

    /// Returns the hook in a file, which answers over UDP alone.
    pub fn over_udp(file: &str) -> LeaseQueryHook {
        LeaseQueryHook {
            file: file.to_owned(),
            port: None,
            address: Ipv4Addr::LOCALHOST,
        }
    }

    /// Whether it is in a file of this name.
    pub fn is_file(file: &str) -> bool {
        let name = Path::new(file).file_name();
        name.is_some_and(|name| name == LIBRARY)
    }

    /// Whether it listens on one of these addresses with this port.
    pub fn listens_on(&self, addresses: &[Ipv4Addr], port: u16) -> bool {
        let is_any = |address: &Ipv4Addr| address.is_unspecified();
        let is_equal = |own: &Ipv4Addr| is_any(own) || *own == self.address;
        let overlaps = is_any(&self.address) || addresses.iter().any(is_equal);
        self.port == Some(port.into()) && overlaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Returns the hook with these parameters.
    fn hook(parameters: Value) -> LeaseQueryHook {
        let library = |file: &str, parameters| HooksLibrary {
            library: file.to_owned(),
            parameters,
        };
        let others = [
            library("/usr/lib/kea/hooks/libdhcp_ha.so", None),
            library(
                "/usr/lib/kea/hooks/libdhcp_lease_query.so",
                Some(parameters),
            ),
        ];
        LeaseQueryHook::find(&others).unwrap()
    }

    #[test]
    fn is_found_by_its_file_name() {
        assert_eq!(LeaseQueryHook::find(&[]), None);
        assert_eq!(hook(Value::Null).port, None, "over UDP alone");
        assert_eq!(
            hook(json!({"advanced": {"bulk-query-enabled": false}})).port,
            None
        );
        assert_eq!(
            hook(json!({"advanced": {"bulk-query-enabled": true}})).port,
            Some(67)
        );
    }

    #[test]
    fn listeners_overlap_with_equal_ports_and_addresses() {
        let own = [Ipv4Addr::new(192, 0, 2, 1)];
        let any = [Ipv4Addr::UNSPECIFIED];
        let with = |address: &str, port: u16| {
            hook(
                json!({"advanced": {"bulk-query-enabled": true, "lease-query-ip": address,
                "lease-query-tcp-port": port}}),
            )
        };
        let without_address = hook(json!({"advanced": {"bulk-query-enabled": true}}));
        for (hook, overlaps) in [
            (without_address, [false, true]), // 127.0.0.1
            (with("192.0.2.1", 67), [true, true]),
            (with("127.0.0.1", 67), [false, true]),
            (with("0.0.0.0", 67), [true, true]),
            (with("192.0.2.1", 6767), [false, false]),
        ] {
            assert_eq!(
                [hook.listens_on(&own, 67), hook.listens_on(&any, 67)],
                overlaps
            );
        }
    }
}
