//! The requesters that may connect, and their query types (RFC 6926 section 8.1).

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::config::RequesterEntry;

/// The permitted requesters.
#[derive(Debug)]
pub struct AccessList {
    /// Entries of one address.
    addresses: HashMap<Ipv4Addr, RequesterEntry>,
    /// The other entries, the most specific prefixes first.
    prefixes: Vec<RequesterEntry>,
}

impl AccessList {
    /// Creates a list of these requesters.
    pub fn new(requesters: &[RequesterEntry]) -> AccessList {
        let is_address = |entry: &RequesterEntry| entry.prefix.prefix_len() == 32;
        let (addresses, mut prefixes): (Vec<_>, Vec<_>) =
            requesters.iter().cloned().partition(is_address);
        prefixes.sort_by_key(|entry| std::cmp::Reverse(entry.prefix.prefix_len()));
        let addresses = addresses.into_iter();
        AccessList {
            addresses: addresses
                .map(|entry| (entry.prefix.addr(), entry))
                .collect(),
            prefixes,
        }
    }

    /// Returns the most specific entry that contains `peer`, which alone decides; `None` if `peer`
    /// is not permitted.
    pub fn find(&self, peer: Ipv4Addr) -> Option<&RequesterEntry> {
        let by_prefix = || {
            self.prefixes
                .iter()
                .find(|entry| entry.prefix.contains(&peer))
        };
        self.addresses.get(&peer).or_else(by_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::query::{QueryType, QueryTypes};

    /// Returns an access list with these `requesters`.
    fn access(requesters: &str) -> AccessList {
        let config = Config::parse(&format!(r#"{{ "requesters": {requesters} }}"#)).unwrap();
        AccessList::new(&config.requesters)
    }

    #[test]
    fn refuses_peers_that_are_not_in_the_list() {
        let access = access(r#"["192.0.2.1", "198.51.100.0/25"]"#);
        for (peer, permitted) in [
            ("192.0.2.1", true),
            ("192.0.2.0", false),
            ("192.0.2.2", false),
            ("198.51.100.0", true),
            ("198.51.100.127", true),
            ("198.51.100.128", false),
        ] {
            assert_eq!(
                access.find(peer.parse().unwrap()).is_some(),
                permitted,
                "{peer}"
            );
        }
    }

    #[test]
    fn the_most_specific_entry_decides_wherever_it_stands() {
        let wide = r#"{ "address": "0.0.0.0/0", "query-types": ["mac"] }"#;
        let middle = r#"{ "address": "192.0.2.0/24", "query-types": ["all"] }"#;
        let narrow = r#"{ "address": "192.0.2.7", "max-connections": 3 }"#;
        let mac = QueryTypes::NONE.with(QueryType::Mac);
        let all = QueryTypes::NONE.with(QueryType::All);
        for order in [[wide, middle, narrow], [narrow, middle, wide]] {
            let access = access(&format!("[{}]", order.join(",")));
            for (peer, types, connections) in [
                ("203.0.113.1", mac, None),
                ("192.0.2.1", all, None),
                ("192.0.2.7", QueryTypes::ALL, Some(3)),
            ] {
                let entry = access.find(peer.parse().unwrap()).unwrap();
                assert_eq!(entry.query_types, types, "{peer}");
                assert_eq!(entry.max_connections, connections, "{peer}");
            }
        }
    }
}
