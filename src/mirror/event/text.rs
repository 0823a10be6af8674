//! The text of an event in the log: one line, with the terms of Kea's commands and the notation of Kea's
//! log.

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;

use crate::mirror::event::{ClientInfo, Event, Lease, LeaseState, Origin, Reason};
use crate::model::address::HardwareAddress;
use crate::model::client::ClientIds;
use crate::model::option::RawOption;

/// The maximum number of addresses shown of an event; further ones are counted.
const SHOWN_ADDRESSES: usize = 16;

impl Event {
    /// Returns the text of the event; `None` for events that are too many, or too long, to log.
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Event::Committed { lease, client_info } => {
                format!("lease {} committed: {lease}{client_info}", lease.address)
            }
            Event::Confirmed {
                address,
                client,
                at,
                client_info,
            } => format!("lease {address} confirmed as it is: {client}, at {at}{client_info}"),
            Event::GivenUp {
                address,
                client,
                at,
            } => format!("lease {address} given up: {}at {at}", prefix(client)),
            Event::Released {
                address,
                client,
                at,
                origin,
            } => {
                let client = prefix(client);
                format!("lease {address} released: {client}at {at}, origin {origin}")
            }
            Event::Reclaimed {
                address,
                cltt,
                was_released,
                at,
            } => {
                let released = if *was_released { "released " } else { "" };
                format!("{released}lease {address} reclaimed: cltt {cltt}, at {at}")
            }
            Event::Offered { lease, client_info } => {
                format!("lease {} offered: {lease}{client_info}", lease.address)
            }
            Event::Updated { lease, at, origin } => {
                let address = lease.address;
                format!("lease {address} updated: {lease}, at {at}, origin {origin}")
            }
            Event::Removed {
                address,
                at,
                origin,
            } => format!("lease {address} removed: at {at}, origin {origin}"),
            Event::Explained { addresses, reason } => {
                let reason = match reason {
                    Reason::Command => "removed by a command",
                    Reason::GivenUp => "given up by their clients",
                };
                format!("leases {reason}: {}", some_of(addresses))
            }
            Event::ResyncBegun
            | Event::ResyncPage { .. }
            | Event::ResyncDone { .. }
            | Event::Reconfigured { .. }
            | Event::Serving { .. } => return None,
        })
    }
}

/// The fields of a lease, without the address.
impl Display for Lease {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            LeaseState::Default => "default",
            LeaseState::Declined => "declined",
            LeaseState::ExpiredReclaimed => "expired-reclaimed",
            LeaseState::Released => "released",
        };
        let (cltt, lifetime, subnet) = (self.cltt, self.valid_lifetime.0, self.subnet.0);
        let client = label(&self.hardware, &self.client_id);
        write!(f, "{client}, state {state}, cltt {cltt}, ")?;
        write!(f, "valid-lft {lifetime}, subnet-id {subnet}")?;
        if !self.hostname.is_empty() {
            // A client may send any octets: escaped, they cannot forge other parts of the log.
            write!(f, ", hostname \"{}\"", self.hostname.escape_ascii())?;
        }
        if let Some(value) = &self.relay_agent_information {
            write!(f, ", stored relay-agent-info {}", hex(value))?;
        }
        Ok(())
    }
}

/// A suffix for the text of a lease or a client; empty for empty client info.
impl Display for ClientInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(value) = &self.relay_agent_information {
            write!(f, ", relay-agent-info {}", hex(value))?;
        }
        for RawOption { code, value } in &self.options {
            write!(f, ", option {code} {}", hex(value))?;
        }
        Ok(())
    }
}

impl Display for ClientIds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&label(&self.hardware, &self.client_id))
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Local => "local",
            Origin::Remote => "remote",
        })
    }
}

/// Returns the label of a client in Kea's log: MAC address and client identifier.
fn label(HardwareAddress { htype, octets }: &HardwareAddress, client_id: &[u8]) -> String {
    let hardware = match &octets[..] {
        [] => "no hwaddr info".to_owned(),
        octets => format!("hwtype={htype} {}", colons(octets)),
    };
    let client_id = match client_id {
        [] => "no info".to_owned(),
        octets => colons(octets),
    };
    format!("[{hardware}], cid=[{client_id}]")
}

/// Returns a client, if known, followed by a comma.
fn prefix(client: &Option<ClientIds>) -> String {
    let client = client.as_ref();
    client.map_or(String::new(), |client| format!("{client}, "))
}

/// Returns octets in Kea's notation of identifiers, `02:00:5e`.
fn colons(octets: &[u8]) -> String {
    let octets = octets.iter().map(|octet| format!("{octet:02x}"));
    octets.collect::<Vec<_>>().join(":")
}

/// Returns octets in Kea's notation of option values, `0x0104`.
fn hex(octets: &[u8]) -> String {
    let octets = octets.iter().map(|octet| format!("{octet:02X}"));
    "0x".to_owned() + &octets.collect::<String>()
}

/// Returns at most [`SHOWN_ADDRESSES`] addresses, and the number of the others.
fn some_of(addresses: &[Ipv4Addr]) -> String {
    let shown = addresses.iter().take(SHOWN_ADDRESSES);
    let shown = shown
        .map(Ipv4Addr::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    match addresses.len().saturating_sub(SHOWN_ADDRESSES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::binding::SubnetId;
    use crate::model::time::{Lifetime, Time};

    /// Returns a lease of 192.0.2.7.
    fn lease() -> Lease {
        Lease {
            hardware: HardwareAddress {
                htype: 1,
                octets: vec![2, 0, 0x5e, 0x10, 0, 1],
            },
            valid_lifetime: Lifetime(3_600),
            ..Lease::example(Ipv4Addr::new(192, 0, 2, 7), Time(1_700_000_000))
        }
    }

    #[test]
    fn shows_a_lease_in_keas_notation() {
        let event = Event::Committed {
            lease: Lease {
                client_id: vec![1, 2, 0xab],
                hostname: b"host".into(),
                ..lease()
            },
            client_info: ClientInfo {
                relay_agent_information: Some(vec![1, 4, 0x6c, 0x69, 0x6e, 0x65]),
                options: vec![RawOption {
                    code: 60,
                    value: b"v".into(),
                }],
                ..ClientInfo::default()
            },
        };
        assert_eq!(
            event.text().as_deref(),
            Some(
                "lease 192.0.2.7 committed: [hwtype=1 02:00:5e:10:00:01], cid=[01:02:ab], state default, \
             cltt 1700000000, valid-lft 3600, subnet-id 1, hostname \"host\", \
             relay-agent-info 0x01046C696E65, option 60 0x76"
            )
        );
        let event = Event::Updated {
            lease: Lease {
                state: LeaseState::Declined,
                hardware: HardwareAddress::default(),
                relay_agent_information: Some(Vec::new()),
                ..lease()
            },
            at: Time(1_700_000_009),
            origin: Origin::Remote,
        };
        assert_eq!(
            event.text().as_deref(),
            Some(
                "lease 192.0.2.7 updated: [no hwaddr info], cid=[no info], state declined, \
             cltt 1700000000, valid-lft 3600, subnet-id 1, stored relay-agent-info 0x, \
             at 1700000009, origin remote"
            )
        );
    }

    #[test]
    fn shows_each_way_in_which_a_lease_ends_or_is_confirmed() {
        let Lease {
            address, hardware, ..
        } = lease();
        let client = ClientIds {
            hardware,
            client_id: vec![0xff],
        };
        let at = Time(9);
        for (event, text) in [
            (
                Event::Released {
                    address,
                    client: Some(client.clone()),
                    at,
                    origin: Origin::Local,
                },
                "lease 192.0.2.7 released: [hwtype=1 02:00:5e:10:00:01], cid=[ff], at 9, origin local",
            ),
            (
                Event::GivenUp {
                    address,
                    client: None,
                    at,
                },
                "lease 192.0.2.7 given up: at 9",
            ),
            (
                Event::Confirmed {
                    address,
                    client,
                    at,
                    client_info: ClientInfo::default(),
                },
                "lease 192.0.2.7 confirmed as it is: [hwtype=1 02:00:5e:10:00:01], cid=[ff], at 9",
            ),
            (
                Event::Reclaimed {
                    address,
                    cltt: Time(5),
                    was_released: true,
                    at,
                },
                "released lease 192.0.2.7 reclaimed: cltt 5, at 9",
            ),
            (
                Event::Removed {
                    address,
                    at,
                    origin: Origin::Local,
                },
                "lease 192.0.2.7 removed: at 9, origin local",
            ),
            (
                Event::Explained {
                    addresses: vec![address; 18],
                    reason: Reason::Command,
                },
                concat!(
                    "leases removed by a command: 192.0.2.7, 192.0.2.7, 192.0.2.7, 192.0.2.7, ",
                    "192.0.2.7, 192.0.2.7, 192.0.2.7, 192.0.2.7, 192.0.2.7, 192.0.2.7, 192.0.2.7, ",
                    "192.0.2.7, 192.0.2.7, 192.0.2.7, 192.0.2.7, 192.0.2.7 and 2 more"
                ),
            ),
        ] {
            assert_eq!(event.text().as_deref(), Some(text));
        }
    }

    proptest! {
        /// Octets sent by a client appear in the log as printable text on one line, and cannot end the
        /// quotation that they are in.
        #[test]
        fn clients_octets_cannot_forge_log_text(
            htype: u8,
            chaddr in vec(any::<u8>(), 0..20),
            client_id in vec(any::<u8>(), 0..40),
            hostname in vec(any::<u8>(), 0..40),
            relay in proptest::option::of(vec(any::<u8>(), 0..40)),
            options in vec((any::<u8>(), vec(any::<u8>(), 0..40)), 0..4),
        ) {
            let lease = Lease {
                hardware: HardwareAddress { htype, octets: chaddr },
                client_id,
                hostname: hostname.clone(),
                relay_agent_information: relay.clone(),
                subnet: SubnetId(1),
                ..lease()
            };
            let options = options.into_iter().map(|(code, value)| RawOption { code, value });
            let client_info = ClientInfo {
                relay_agent_information: relay,
                options: options.collect(),
                ..ClientInfo::default()
            };
            let text = Event::Committed { lease, client_info }.text().unwrap();
            prop_assert!(text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()), "{text}");
            // The only quotation marks are those around the host name.
            let mut octets = text.bytes();
            let mut quoted = 0;
            while let Some(octet) = octets.next() {
                match octet {
                    b'"' => quoted += 1,
                    b'\\' => drop(octets.next()),
                    _ => {}
                }
            }
            prop_assert_eq!(quoted, if hostname.is_empty() { 0 } else { 2 }, "{}", text);
        }
    }
}
