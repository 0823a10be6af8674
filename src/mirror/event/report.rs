//! A report of Kea on its way to the mirror.
//!
//! A client's message is reported in one string of octets: Kea's threads copy the values that Kea lends into
//! one allocation, and the thread that applies the report decodes the event. An event takes a dozen
//! allocations. Made on Kea's threads and freed on another, they would be most of the cost of a callout.
//!
//! ```text
//!  1   kind
//! 26   address, state, client last transaction time, valid lifetime, subnet, hardware type
//!      then each with its length (2 octets) before it:
//!      hardware address, client identifier, host name, relay agent information stored with the lease,
//!      relay agent information of the message, classes, options field
//! ```

use std::net::Ipv4Addr;

use crate::mirror::event::Event;
use crate::mirror::event::client_info::ClientMessage;
use crate::mirror::event::stored_lease::{StoredLease, hardware_address};
use crate::model::client::ClientIds;
use crate::model::time::Time;
use crate::wire::{Reader, Truncated};

/// The maximum length of the string, which bounds the memory that clients can occupy while reports wait. Kea
/// receives messages of 1,500 octets at most; a longer report is decoded at once into an event, whose options are
/// limited.
const MAX_LENGTH: usize = 4_096;

/// The length of the fields before the first string.
const FIXED: usize = 27;

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Event::Committed`].
    Committed,
    /// [`Event::Confirmed`]: a lease with only the address and the client, and with the time of the event as
    /// its client last transaction time.
    Confirmed,
    /// [`Event::Offered`].
    Offered,
}

/// A report of Kea.
#[derive(Debug)]
pub struct Report(Form);

/// The form of a report.
#[derive(Debug)]
enum Form {
    /// The event itself.
    Event(Box<Event>),
    /// The encoded values of the event.
    Octets(Box<[u8]>),
}

impl From<Event> for Report {
    fn from(event: Event) -> Report {
        Report(Form::Event(Box::new(event)))
    }
}

impl Report {
    /// Whether the event takes long to apply: it is about more than some bindings.
    #[inline]
    pub fn takes_long(&self) -> bool {
        match &self.0 {
            Form::Octets(_) => false,
            Form::Event(event) => event.takes_long(),
        }
    }

    /// Reports a message at `at` whose client still has the lease of `address`. The client's hardware type,
    /// address and identifier are those of `client`.
    pub fn confirmed(
        address: Ipv4Addr,
        client: &StoredLease<'_>,
        at: Time,
        message: &ClientMessage<'_>,
    ) -> Report {
        let lease = StoredLease {
            address: address.to_bits(),
            cltt: at.0.into(),
            ..*client
        };
        Report::new(Kind::Confirmed, &lease, message)
    }

    /// Reports a client's message.
    pub fn new(kind: Kind, lease: &StoredLease<'_>, message: &ClientMessage<'_>) -> Report {
        match octets(kind, lease, message) {
            Some(octets) => Report(Form::Octets(octets)),
            None => event(kind, lease, message).into(),
        }
    }

    /// Lends the event to `use_event`. An event is large: moving it would take part of the time of an update.
    pub fn lend(&self, use_event: impl FnOnce(&Event)) {
        match &self.0 {
            Form::Event(event) => use_event(event),
            Form::Octets(octets) => {
                if let Some((kind, lease, message)) = whole(octets) {
                    use_event(&event(kind, &lease, &message));
                }
            }
        }
    }
}

/// Returns the octets of a report; `None` if they are too many.
fn octets(kind: Kind, lease: &StoredLease<'_>, message: &ClientMessage<'_>) -> Option<Box<[u8]>> {
    let strings = [
        lease.hardware,
        lease.client_id,
        lease.hostname,
        lease.relay_agent_info,
        message.relay_agent_information,
        message.classes,
        message.options,
    ];
    let length = FIXED + strings.map(|string| 2 + string.len()).iter().sum::<usize>();
    if length > MAX_LENGTH {
        return None;
    }
    let mut octets = Vec::with_capacity(length);
    octets.push(kind as u8);
    octets.extend_from_slice(&lease.address.to_be_bytes());
    octets.extend_from_slice(&lease.state.to_be_bytes());
    octets.extend_from_slice(&lease.cltt.to_be_bytes());
    octets.extend_from_slice(&lease.valid_lifetime.to_be_bytes());
    octets.extend_from_slice(&lease.subnet.to_be_bytes());
    octets.extend_from_slice(&lease.htype.to_be_bytes());
    for string in strings {
        // Within MAX_LENGTH.
        octets.extend_from_slice(&(string.len() as u16).to_be_bytes());
        octets.extend_from_slice(string);
    }
    Some(octets.into_boxed_slice())
}

/// Returns the event of a client's message.
fn event(kind: Kind, lease: &StoredLease<'_>, message: &ClientMessage<'_>) -> Event {
    let client_info = message.client_info();
    match kind {
        Kind::Committed => Event::Committed {
            lease: lease.lease(),
            client_info,
        },
        Kind::Confirmed => Event::Confirmed {
            address: Ipv4Addr::from_bits(lease.address),
            client: ClientIds {
                hardware: hardware_address(lease.htype, lease.hardware),
                client_id: lease.client_id.to_vec(),
            },
            at: Time::from_time_t(lease.cltt),
            client_info,
        },
        Kind::Offered => Event::Offered {
            lease: lease.lease(),
            client_info,
        },
    }
}

/// Reads all octets of a report.
fn whole(octets: &[u8]) -> Option<(Kind, StoredLease<'_>, ClientMessage<'_>)> {
    let mut reader = Reader::new(octets);
    let read = read(&mut reader);
    debug_assert!(read.is_ok() && reader.is_empty(), "a report is whole");
    read.ok()
}

/// Reads the octets of a report.
fn read<'a>(
    reader: &mut Reader<'a>,
) -> Result<(Kind, StoredLease<'a>, ClientMessage<'a>), Truncated> {
    let kind = match reader.u8()? {
        0 => Kind::Committed,
        1 => Kind::Confirmed,
        _ => Kind::Offered,
    };
    let fixed = StoredLease {
        address: reader.u32()?,
        state: reader.u32()?,
        cltt: reader.array().map(i64::from_be_bytes)?,
        valid_lifetime: reader.u32()?,
        subnet: reader.u32()?,
        htype: reader.u16()?,
        ..StoredLease::default()
    };
    let mut string = || {
        let length = reader.u16()?;
        reader.octets(length.into())
    };
    let lease = StoredLease {
        hardware: string()?,
        client_id: string()?,
        hostname: string()?,
        relay_agent_info: string()?,
        ..fixed
    };
    let message = ClientMessage {
        relay_agent_information: string()?,
        classes: string()?,
        options: string()?,
    };
    Ok((kind, lease, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lease with all fields set.
    const LEASE: StoredLease<'static> = StoredLease {
        address: 0xc000_0207,
        state: 1,
        cltt: 1_700_000_000,
        valid_lifetime: 3_600,
        subnet: 7,
        htype: 6,
        hardware: &[2, 0, 0, 0, 0, 1],
        client_id: &[1, 2, 3],
        hostname: b"host",
        relay_agent_info: b"0x0201aa",
    };

    /// A message with all fields set.
    const MESSAGE: ClientMessage<'static> = ClientMessage {
        options: &[60, 2, b'a', b'b', 12, 1, b'h', 255],
        relay_agent_information: &[2, 1, 0xbb],
        classes: b"\0\x03ALL",
    };

    /// Returns the event of a report.
    fn event_of(report: &Report) -> Option<Event> {
        let mut lent = None;
        report.lend(|event| lent = Some(event.clone()));
        lent
    }

    #[test]
    fn yields_the_event_of_its_values() {
        let committed = event_of(&Report::new(Kind::Committed, &LEASE, &MESSAGE));
        let Some(Event::Committed { lease, client_info }) = committed else {
            panic!("{committed:?}");
        };
        assert_eq!(lease, LEASE.lease());
        assert_eq!(client_info, MESSAGE.client_info());
        assert_eq!(client_info.options.len(), 2);
        let offered = event_of(&Report::new(Kind::Offered, &LEASE, &MESSAGE));
        let Some(Event::Offered { lease, client_info }) = offered else {
            panic!("{offered:?}");
        };
        assert_eq!(lease, LEASE.lease());
        assert_eq!(client_info, MESSAGE.client_info());
        let address = Ipv4Addr::new(192, 0, 2, 9);
        let confirmed = event_of(&Report::confirmed(address, &LEASE, Time(9), &MESSAGE));
        let Some(Event::Confirmed {
            address: found,
            client,
            at,
            client_info,
        }) = confirmed
        else {
            panic!("{confirmed:?}");
        };
        assert_eq!((found, at), (address, Time(9)));
        assert_eq!(client.hardware, LEASE.lease().hardware);
        assert_eq!(client.client_id, LEASE.client_id);
        assert_eq!(client_info, MESSAGE.client_info());
    }

    #[test]
    fn takes_one_allocation_of_its_length() {
        let octets = octets(Kind::Committed, &LEASE, &MESSAGE).unwrap();
        let strings = 6 + 3 + 4 + 8 + 3 + 5 + 8;
        assert_eq!(octets.len(), FIXED + 7 * 2 + strings);
    }

    #[test]
    fn a_long_message_becomes_an_event_at_once() {
        let mut options = vec![0; MAX_LENGTH - FIXED - 7 * 2];
        let lease = StoredLease::default();
        let report = |options: &[u8]| {
            let message = ClientMessage {
                options,
                ..ClientMessage::default()
            };
            Report::new(Kind::Committed, &lease, &message)
        };
        assert!(matches!(report(&options).0, Form::Octets(_)));
        options.push(0);
        assert!(matches!(report(&options).0, Form::Event(_)));
    }
}
