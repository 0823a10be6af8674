//! The client of a binding, in a compact encoding.
//!
//! Every address that is or was leased has a client, so memory matters. All parts of a client are packed
//! into one string of octets:
//!
//! ```text
//!  1   flags and hlen. The flags: the client identifier is htype and chaddr (RFC 2132 section 9.14);
//!      the relay agent information names a VPN; Kea has stored different relay agent information
//!  1   htype
//!  n   chaddr
//!      sections, each preceded by its length; empty ones at the end are omitted:
//!      client identifier, unless it is htype and chaddr
//!      relay agent information
//!      host name
//!      options: code, length and value of each
//!      classes: length and name of each
//!      relay agent information that Kea has stored with the lease, if it is different
//! ```
//!
//! htype and chaddr are adjacent: together they are a MAC address in the sense of RFC 6926 section 2.

use std::fmt;
use std::sync::Arc;

use proto::hardware_type::ETHERNET;
use proto::option::code;
use proto::sub_option;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::address::HardwareAddress;
use crate::model::relay_agent_information;
use crate::model::vpn::Vpn;

/// Flag in the first octet: the client identifier is htype and chaddr.
const ID_IS_MAC: u8 = 0x80;
/// Flag in the first octet: the relay agent information has the sub-option that names a VPN (RFC 6607
/// section 3.2). The flag saves a search in each reply, because few clients have the sub-option.
const NAMES_VPN: u8 = 0x40;
/// Flag in the first octet: Kea has stored different relay agent information with the lease.
const HAS_STORED: u8 = 0x20;
/// Mask of the bits of hlen in the first octet.
const HLEN: u8 = 0x1f;

/// The current or last client of an address, packed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Client(Arc<[u8]>);

/// A packed client, borrowed from its storage.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientRef<'a>(&'a [u8]);

/// The parts of a client. The state file stores a client in this form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientParts<'a> {
    /// The hardware type.
    pub htype: u8,
    /// The hardware address; at most 20 octets, empty if the client gave none.
    #[serde(serialize_with = "octets")]
    pub chaddr: &'a [u8],
    /// The client identifier (option 61); empty if the client sent none.
    #[serde(serialize_with = "octets")]
    pub client_id: &'a [u8],
    /// The value of the latest relay agent information option (82) received with a message of the client
    /// (RFC 4388 section 6.4.2); empty if none was received.
    #[serde(serialize_with = "octets")]
    pub relay_agent_information: &'a [u8],
    /// The options of the last message that are stored for requesters: codes and values, ascending by
    /// code.
    #[serde(borrow)]
    pub options: Vec<(u8, &'a [u8])>,
    /// The host name that Kea stores with the lease; empty without one.
    #[serde(serialize_with = "octets")]
    pub hostname: &'a [u8],
    /// The client classes of the last message, in Kea's order.
    pub classes: Vec<&'a str>,
    /// The relay agent information last found in Kea's lease, if it differs from
    /// `relay_agent_information`: a message that was later, or whose option Kea does not store, had
    /// a different one. Empty otherwise.
    #[serde(serialize_with = "octets")]
    pub stored: &'a [u8],
}

/// Serializes octets at once rather than one by one; their form is the same.
fn octets<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(octets)
}

/// The identifiers by which a server recognises a DHCP client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIds {
    /// The MAC address.
    pub hardware: HardwareAddress,
    /// The client identifier (option 61); empty if the client sends none.
    pub client_id: Vec<u8>,
}

impl Client {
    /// Borrows the client.
    pub fn view(&self) -> ClientRef<'_> {
        ClientRef(&self.0)
    }
}

impl From<&ClientParts<'_>> for Client {
    fn from(parts: &ClientParts<'_>) -> Client {
        Client(pack(parts).into())
    }
}

impl From<ClientRef<'_>> for Client {
    fn from(client: ClientRef<'_>) -> Client {
        Client(client.0.into())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().parts().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Client {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Client, D::Error> {
        ClientParts::deserialize(deserializer).map(|parts| Client::from(&parts))
    }
}

impl<'a> ClientRef<'a> {
    /// Wraps octets returned by [`ClientRef::octets`]. Other octets are decoded without a panic.
    pub fn from_octets(octets: &'a [u8]) -> ClientRef<'a> {
        ClientRef(octets)
    }

    /// Returns the packed octets.
    pub fn octets(self) -> &'a [u8] {
        self.0
    }

    /// Returns htype and chaddr; empty if the client gave no MAC address.
    #[inline]
    pub fn mac(self) -> &'a [u8] {
        let hlen = self.0.first().map_or(0, |first| usize::from(first & HLEN));
        match hlen {
            0 => &[],
            hlen => self.0.get(1..2 + hlen).unwrap_or_default(),
        }
    }

    /// Returns the hardware type.
    pub fn htype(self) -> u8 {
        self.0.get(1).copied().unwrap_or(0)
    }

    /// Returns the hardware address; empty if the client gave none.
    pub fn chaddr(self) -> &'a [u8] {
        self.mac().get(1..).unwrap_or_default()
    }

    /// Returns the client identifier; empty if the client sent none.
    #[inline]
    pub fn client_id(self) -> &'a [u8] {
        // Both, so that the processor need not predict which: clients are in no order.
        let (mac, other) = (self.mac(), self.sections().next());
        if self.has(ID_IS_MAC) { mac } else { other }
    }

    /// Returns the value of the latest relay agent information; empty if none was received.
    #[inline]
    pub fn relay_agent_information(self) -> &'a [u8] {
        self.after_id().next()
    }

    /// Returns the remote-id in the relay agent information; empty without one.
    pub fn remote_id(self) -> &'a [u8] {
        let information = self.relay_agent_information();
        relay_agent_information::find(information, sub_option::REMOTE_ID).unwrap_or_default()
    }

    /// Returns the relay-id in the relay agent information; empty without one.
    pub fn relay_id(self) -> &'a [u8] {
        let information = self.relay_agent_information();
        relay_agent_information::find(information, sub_option::RELAY_ID).unwrap_or_default()
    }

    /// Returns the VPN that the latest relay agent information names; `None` without a valid one.
    #[inline]
    pub fn vpn(self) -> Option<Vpn> {
        if self.names_vpn() {
            self.named_vpn()
        } else {
            None
        }
    }

    /// Whether the latest relay agent information has a sub-option that names a VPN, valid or not.
    #[inline]
    pub fn names_vpn(self) -> bool {
        self.has(NAMES_VPN)
    }

    /// Reads the VPN from the relay agent information.
    #[cold]
    fn named_vpn(self) -> Option<Vpn> {
        let information = self.relay_agent_information();
        Vpn::read(relay_agent_information::find(information, sub_option::VSS)?)
    }

    /// Returns the host name that Kea stores with the lease; empty without one.
    pub fn hostname(self) -> &'a [u8] {
        self.section(1)
    }

    /// Iterates over the stored options: codes and values, ascending by code.
    pub fn options(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut options = Sections(self.section(2));
        std::iter::from_fn(move || {
            let code = options.octet()?;
            Some((code, options.next()))
        })
    }

    /// Returns the value of the stored option `code`.
    pub fn option(self, code: u8) -> Option<&'a [u8]> {
        let mut options = self.options();
        options.find_map(|(found, value)| (found == code).then_some(value))
    }

    /// Iterates over the client classes of the last message, in Kea's order.
    pub fn classes(self) -> impl Iterator<Item = &'a str> {
        let mut classes = Sections(self.section(3));
        std::iter::from_fn(move || {
            let is_over = classes.0.is_empty();
            (!is_over).then(|| std::str::from_utf8(classes.next()).unwrap_or_default())
        })
    }

    /// Returns the relay agent information last found in Kea's lease; empty if Kea stored none. If
    /// no difference is known, this is the latest one received.
    pub fn stored_by_kea(self) -> &'a [u8] {
        match self.has(HAS_STORED) {
            true => self.stored(),
            false => self.relay_agent_information(),
        }
    }

    /// Returns [`ClientParts::stored`].
    pub fn stored(self) -> &'a [u8] {
        match self.has(HAS_STORED) {
            true => self.section(4),
            false => &[],
        }
    }

    /// Whether requesters see no difference between both clients.
    pub fn is_visibly_equal(self, other: ClientRef<'_>) -> bool {
        self.0 == other.0 || self.visible_parts() == other.visible_parts()
    }

    /// Returns the parts that requesters can see. A host name that the client sent has precedence over that of the
    /// lease.
    fn visible_parts(self) -> ClientParts<'a> {
        let sent_hostname = self.option(code::HOST_NAME).unwrap_or_default();
        let parts = self.parts();
        ClientParts {
            hostname: match sent_hostname.is_empty() {
                true => parts.hostname,
                false => &[],
            },
            stored: &[],
            ..parts
        }
    }

    /// Unpacks the client.
    pub fn parts(self) -> ClientParts<'a> {
        ClientParts {
            htype: self.htype(),
            chaddr: self.chaddr(),
            client_id: self.client_id(),
            relay_agent_information: self.relay_agent_information(),
            options: self.options().collect(),
            hostname: self.hostname(),
            classes: self.classes().collect(),
            stored: self.stored(),
        }
    }

    /// Whether both are the same DHCP client: see [`ClientRef::has_ids`].
    pub fn is_same_client(self, other: ClientRef<'_>) -> bool {
        self.has_ids(other.htype(), other.chaddr(), other.client_id())
    }

    /// Whether this is the client with these identifiers: compared are the client identifiers if both
    /// clients have one (RFC 2131 section 4.2), else the MAC addresses.
    pub fn has_ids(self, htype: u8, chaddr: &[u8], client_id: &[u8]) -> bool {
        let known_id = self.client_id();
        if !known_id.is_empty() && !client_id.is_empty() {
            known_id == client_id
        } else {
            self.has_mac(htype, chaddr)
        }
    }

    /// Whether the client has this MAC address. Kea's lease databases store no hardware type and return
    /// [`ETHERNET`] for all, so that one equals any other.
    pub fn has_mac(self, htype: u8, chaddr: &[u8]) -> bool {
        let is_forgotten = [self.htype(), htype].contains(&ETHERNET);
        self.chaddr() == chaddr && (self.htype() == htype || is_forgotten)
    }

    /// Returns the hardware type for a lease of `chaddr` that Kea's lease database returns with `htype`: the
    /// one of this client, if the lease is of the same hardware address and its own type is unknown.
    pub fn htype_of_lease(self, htype: u8, chaddr: &[u8]) -> u8 {
        match htype == ETHERNET && self.chaddr() == chaddr {
            true => self.htype(),
            false => htype,
        }
    }

    /// Whether a flag is set.
    #[inline]
    fn has(self, flag: u8) -> bool {
        self.0.first().is_some_and(|first| first & flag != 0)
    }

    /// Returns the sections, which follow chaddr.
    #[inline]
    fn sections(self) -> Sections<'a> {
        let hlen = self.0.first().map_or(0, |first| usize::from(first & HLEN));
        Sections(self.0.get(2 + hlen..).unwrap_or_default())
    }

    /// Returns the sections after the client identifier.
    #[inline]
    fn after_id(self) -> Sections<'a> {
        let first = self.sections();
        let mut second = first;
        second.next();
        if self.has(ID_IS_MAC) { first } else { second }
    }

    /// Returns one of the sections after the client identifier, counted from 0.
    #[inline]
    fn section(self, number: usize) -> &'a [u8] {
        let mut sections = self.after_id();
        sections.skip(number);
        sections.next()
    }
}

/// Whether requesters see no difference between two clients, either of which may be absent.
pub fn are_visibly_equal(one: Option<ClientRef<'_>>, other: Option<ClientRef<'_>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_visibly_equal(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

impl fmt::Debug for ClientRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

/// A reader of length-prefixed values: the remaining octets.
#[derive(Clone, Copy)]
struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    /// Reads the next octet.
    #[inline]
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Reads the next value; empty after the last one.
    #[inline]
    fn next(&mut self) -> &'a [u8] {
        let length = match self.octet() {
            Some(short @ 0..0x80) => short.into(),
            Some(lowest) => self.rest_of_length(lowest),
            None => 0,
        };
        let (value, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        value
    }

    /// Reads the rest of a length whose first octet is marked as not its last.
    fn rest_of_length(&mut self, lowest: u8) -> usize {
        let mut length = usize::from(lowest & 0x7f);
        let mut shift = 7;
        while let Some(octet) = self.octet() {
            length |= usize::from(octet & 0x7f) << shift;
            shift += 7;
            if octet & 0x80 == 0 || shift > 21 {
                break;
            }
        }
        length
    }

    /// Skips `count` values.
    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }
}

/// Appends the length of a value, seven bits in each octet, little-endian, and the value.
fn put(octets: &mut Vec<u8>, value: &[u8]) {
    let mut length = value.len();
    while length > 0x7f {
        // Seven bits, marked as not the last.
        octets.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    octets.push(length as u8);
    octets.extend_from_slice(value);
}

/// Packs a client: see the layout above.
fn pack(parts: &ClientParts<'_>) -> Vec<u8> {
    let chaddr = &parts.chaddr[..parts.chaddr.len().min(usize::from(HLEN))];
    let id_is_mac = !chaddr.is_empty()
        && (parts.client_id.split_first()).is_some_and(|id| id == (&parts.htype, chaddr));
    let lengths = parts.options.iter().map(|(_, value)| value.len() + 4);
    let mut options = Vec::with_capacity(lengths.sum());
    for (code, value) in &parts.options {
        options.push(*code);
        put(&mut options, value);
    }
    let lengths = parts.classes.iter().map(|name| name.len() + 3);
    let mut classes = Vec::with_capacity(lengths.sum());
    for name in &parts.classes {
        put(&mut classes, name.as_bytes());
    }
    let sections = [
        parts.client_id,
        parts.relay_agent_information,
        parts.hostname,
        &options,
        &classes,
        parts.stored,
    ];
    let sections = &sections[usize::from(id_is_mac)..];
    let used = (sections.iter()).rposition(|section| !section.is_empty());
    let sections = &sections[..used.map_or(0, |last| last + 1)];
    let total: usize = sections.iter().map(|section| section.len() + 3).sum();
    let mut octets = Vec::with_capacity(2 + chaddr.len() + total);
    let names_vpn = relay_agent_information::find(parts.relay_agent_information, sub_option::VSS);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    // Limited to the five bits of `HLEN` above.
    let hlen = chaddr.len() as u8;
    octets.push(
        hlen | flag(id_is_mac, ID_IS_MAC)
            | flag(names_vpn.is_some(), NAMES_VPN)
            | flag(!parts.stored.is_empty(), HAS_STORED),
    );
    octets.push(parts.htype);
    octets.extend_from_slice(chaddr);
    for section in sections {
        put(&mut octets, section);
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Returns relay agent information with a remote-id and the name of a VPN.
    fn sub_options(name: &[u8]) -> Vec<u8> {
        let vss = [&[sub_option::VSS, 1 + name.len() as u8, 0], name].concat();
        [&[sub_option::REMOTE_ID, 2, 7, 7][..], &vss].concat()
    }

    proptest! {
        /// The parts of a client survive packing, and its form in the state file is that of its parts.
        #[test]
        fn unpacks_the_parts_that_were_packed(
            htype in any::<u8>(),
            chaddr in vec(any::<u8>(), 0..=20),
            client_id in prop_oneof![Just(None), vec(any::<u8>(), 0..300).prop_map(Some)],
            information in prop_oneof![
                vec(any::<u8>(), 0..300),
                "[a-z]{0,3}".prop_map(|name| sub_options(name.as_bytes())),
            ],
            options in vec((any::<u8>(), vec(any::<u8>(), 0..200)), 0..4),
            hostname in vec(any::<u8>(), 0..20),
            classes in vec("[a-z]{1,200}", 0..4),
            stored in prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..40)],
        ) {
            // By default htype and chaddr, as with most clients.
            let client_id = client_id.unwrap_or_else(|| [&[htype], &chaddr[..]].concat());
            let parts = ClientParts {
                htype,
                chaddr: &chaddr,
                client_id: &client_id,
                relay_agent_information: &information,
                options: options.iter().map(|(code, value)| (*code, &value[..])).collect(),
                hostname: &hostname,
                classes: classes.iter().map(String::as_str).collect(),
                stored: &stored,
            };
            let client = Client::from(&parts);
            prop_assert_eq!(client.view().parts(), parts.clone());
            let seen = Client::from(&ClientParts { stored: &[], ..parts.clone() });
            prop_assert!(client.view().is_visibly_equal(seen.view()));
            prop_assert!(seen.view().is_visibly_equal(client.view()));
            let other = Client::from(&ClientParts { hostname: b"another name, longer than any", ..parts.clone() });
            let sent_hostname = client.view().option(code::HOST_NAME).unwrap_or_default();
            prop_assert_eq!(client.view().is_visibly_equal(other.view()), !sent_hostname.is_empty());
            prop_assert_eq!(ClientRef::from_octets(client.view().octets()), client.view());
            prop_assert_eq!(client.view().vpn(), client.view().named_vpn());
            let mac = match chaddr.is_empty() {
                true => Vec::new(),
                false => [&[htype], &chaddr[..]].concat(),
            };
            prop_assert_eq!(client.view().mac(), mac);
            let written = postcard::to_stdvec(&client).unwrap();
            prop_assert_eq!(&written, &postcard::to_stdvec(&parts).unwrap());
            prop_assert_eq!(postcard::from_bytes::<Client>(&written).unwrap(), client);
        }

        /// Octets that no client was packed into are read without a panic.
        #[test]
        fn reads_any_octets(octets in vec(any::<u8>(), 0..60)) {
            let client = ClientRef::from_octets(&octets);
            let _ = (client.parts(), client.mac());
        }
    }

    #[test]
    fn recognises_the_client_of_a_lease_without_its_hardware_type() {
        let client = |htype| {
            Client::from(&ClientParts {
                htype,
                chaddr: &[2, 0, 0, 0, 0, 7],
                ..ClientParts::default()
            })
        };
        let token_ring = client(6);
        assert!(token_ring.view().is_same_client(client(ETHERNET).view()));
        assert!(!token_ring.view().is_same_client(client(7).view()));
        assert!(client(ETHERNET).view().is_same_client(token_ring.view()));
        let htype = |chaddr: &[u8]| token_ring.view().htype_of_lease(ETHERNET, chaddr);
        assert_eq!(htype(&[2, 0, 0, 0, 0, 7]), 6);
        assert_eq!(htype(&[2, 0, 0, 0, 0, 8]), ETHERNET);
        assert_eq!(token_ring.view().htype_of_lease(7, &[2, 0, 0, 0, 0, 7]), 7);
    }

    #[test]
    fn reads_the_vpn_that_the_relay_agent_named() {
        let vpn = |information: &[u8]| {
            let client = Client::from(&ClientParts {
                relay_agent_information: information,
                ..ClientParts::default()
            });
            client.view().vpn()
        };
        assert_eq!(vpn(&sub_options(b"blue")), Some(Vpn::Name("blue".into())));
        assert_eq!(vpn(&sub_options(b"")), None);
        assert_eq!(vpn(&[sub_option::REMOTE_ID, 2, 7, 7]), None);
    }

    #[test]
    fn stores_a_client_identifier_equal_to_the_mac_address_once() {
        let parts = ClientParts {
            htype: 1,
            chaddr: &[2, 0, 0, 0, 0, 7],
            client_id: &[1, 2, 0, 0, 0, 0, 7],
            relay_agent_information: &[7; 40],
            ..ClientParts::default()
        };
        let client = Client::from(&parts);
        assert_eq!(client.view().octets().len(), 2 + 6 + 1 + 40);
        assert_eq!(client.view().client_id(), parts.client_id);
    }
}
