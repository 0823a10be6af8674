//! The client of a binding, in as few octets as it takes.
//!
//! There is one for each address that is leased, or was, so what is known of it is one string of
//! octets without a gap:
//!
//! ```text
//!  1   hlen, whether the client identifier is htype and chaddr (RFC 2132 section 9.14), whether
//!      the relay agent information names a VPN, and whether Kea has stored another one
//!  1   htype
//!  n   chaddr
//!      then each with its length before it, but for those at the end that are empty:
//!      client identifier, unless it is the above
//!      relay agent information
//!      host name
//!      options: for each its code, its length, its value
//!      classes: for each its length, its name
//!      relay agent information that Kea has stored with the lease, if it is another one
//! ```
//!
//! So a MAC address in the sense of RFC 6926 section 2 stands there as it is looked for.

use std::fmt;
use std::sync::Arc;

use proto::hardware_type::ETHERNET;
use proto::sub_option;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::address::HardwareAddress;
use crate::model::relay_agent_information;
use crate::model::vpn::Vpn;

/// In the first octet: the client identifier is htype and chaddr.
const ID_IS_MAC: u8 = 0x80;
/// In the first octet: the relay agent information has the sub-option that names a VPN (RFC 6607
/// section 3.2). Few have, and it is asked for with each reply.
const NAMES_VPN: u8 = 0x40;
/// In the first octet: Kea has stored other relay agent information with the lease.
const HAS_STORED: u8 = 0x20;
/// In the first octet: hlen.
const HLEN: u8 = 0x1f;

/// What is known of the client that holds an address, or held it last.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Client(Arc<[u8]>);

/// The same, where it is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientRef<'a>(&'a [u8]);

/// What a client is made of. This is how it is written to the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientParts<'a> {
    /// Its hardware type.
    pub htype: u8,
    /// Its hardware address; at most 20 octets, empty if it gave none.
    pub chaddr: &'a [u8],
    /// Its client identifier (option 61); empty if it sent none.
    pub client_id: &'a [u8],
    /// The value of the latest relay agent information option (82) received with one of its
    /// messages (RFC 4388 section 6.4.2); empty if none came.
    pub relay_agent_information: &'a [u8],
    /// Options of its last message worth giving to requestors: codes and values, in the order of
    /// their codes.
    #[serde(borrow)]
    pub options: Vec<(u8, &'a [u8])>,
    /// The host name Kea keeps with the lease; empty if it keeps none.
    pub hostname: &'a [u8],
    /// The client classes Kea put its last message in, in Kea's order.
    pub classes: Vec<&'a str>,
    /// The relay agent information that Kea was last seen to store with the lease, if that is not
    /// the above: a message that came later, or that Kea does not store, brought another one. Empty
    /// otherwise. The state file keeps it apart from the rest.
    #[serde(skip)]
    pub stored: &'a [u8],
}

/// What tells a DHCP client from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIds {
    /// Its MAC address.
    pub hardware: HardwareAddress,
    /// Its client identifier (option 61); empty if it sends none.
    pub client_id: Vec<u8>,
}

impl Client {
    /// What is known of it.
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
    /// The client in octets that were made by [`ClientRef::octets`].
    pub fn from_octets(octets: &'a [u8]) -> ClientRef<'a> {
        ClientRef(octets)
    }

    /// Everything, to be kept.
    pub fn octets(self) -> &'a [u8] {
        self.0
    }

    /// htype and chaddr; empty if the client gave no MAC address.
    #[inline]
    pub fn mac(self) -> &'a [u8] {
        let hlen = self.0.first().map_or(0, |first| usize::from(first & HLEN));
        match hlen {
            0 => &[],
            hlen => self.0.get(1..2 + hlen).unwrap_or_default(),
        }
    }

    /// Its hardware type.
    pub fn htype(self) -> u8 {
        self.0.get(1).copied().unwrap_or(0)
    }

    /// Its hardware address; empty if it gave none.
    pub fn chaddr(self) -> &'a [u8] {
        self.mac().get(1..).unwrap_or_default()
    }

    /// Its client identifier; empty if it sent none.
    #[inline]
    pub fn client_id(self) -> &'a [u8] {
        match self.is_id_mac() {
            true => self.mac(),
            false => self.sections().next(),
        }
    }

    /// The value of its latest relay agent information; empty if none came.
    #[inline]
    pub fn relay_agent_information(self) -> &'a [u8] {
        self.after_id().next()
    }

    /// The VPN its relay agent named with its latest relay agent information, if that makes sense.
    #[inline]
    pub fn vpn(self) -> Option<Vpn> {
        if self.names_vpn() {
            self.named_vpn()
        } else {
            None
        }
    }

    /// Whether its relay agent named a VPN with its latest relay agent information, whatever sense
    /// that makes.
    #[inline]
    pub fn names_vpn(self) -> bool {
        (self.0.first()).is_some_and(|first| first & NAMES_VPN != 0)
    }

    /// The same, where the relay agent named one.
    #[cold]
    fn named_vpn(self) -> Option<Vpn> {
        let information = self.relay_agent_information();
        Vpn::read(relay_agent_information::find(information, sub_option::VSS)?)
    }

    /// The host name Kea keeps with the lease; empty if it keeps none.
    pub fn hostname(self) -> &'a [u8] {
        let mut sections = self.after_id();
        sections.skip(1);
        sections.next()
    }

    /// The options it sent: codes and values, in the order of their codes.
    pub fn options(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut sections = self.after_id();
        sections.skip(2);
        let mut options = Sections(sections.next());
        std::iter::from_fn(move || {
            let code = options.octet()?;
            Some((code, options.next()))
        })
    }

    /// The value of its option `code`, if it sent one.
    pub fn option(self, code: u8) -> Option<&'a [u8]> {
        let mut options = self.options();
        options.find_map(|(found, value)| (found == code).then_some(value))
    }

    /// The client classes Kea put its last message in, in Kea's order.
    pub fn classes(self) -> impl Iterator<Item = &'a str> {
        let mut sections = self.after_id();
        sections.skip(3);
        let mut classes = Sections(sections.next());
        std::iter::from_fn(move || {
            let is_over = classes.0.is_empty();
            (!is_over).then(|| std::str::from_utf8(classes.next()).unwrap_or_default())
        })
    }

    /// The relay agent information that Kea was last seen to store with the lease, as far as that is
    /// known; empty if Kea stored none.
    pub fn stored_by_kea(self) -> &'a [u8] {
        match self.has_stored() {
            true => self.stored(),
            false => self.relay_agent_information(),
        }
    }

    /// See [`ClientParts::stored`].
    pub fn stored(self) -> &'a [u8] {
        if !self.has_stored() {
            return &[];
        }
        let mut sections = self.after_id();
        sections.skip(4);
        sections.next()
    }

    /// Whether Kea has stored other relay agent information with the lease.
    fn has_stored(self) -> bool {
        (self.0.first()).is_some_and(|first| first & HAS_STORED != 0)
    }

    /// Whether requesters see no difference between both clients.
    pub fn looks_like(self, other: ClientRef<'_>) -> bool {
        self.0 == other.0
            || (self.has_stored() || other.has_stored())
                && self.visible_parts() == other.visible_parts()
    }

    /// Returns the parts that requesters can see.
    fn visible_parts(self) -> ClientParts<'a> {
        ClientParts {
            stored: &[],
            ..self.parts()
        }
    }

    /// What it is made of.
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

    /// Whether both stand for the same DHCP client.
    pub fn is_same_client(self, other: ClientRef<'_>) -> bool {
        self.has_ids(other.htype(), other.chaddr(), other.client_id())
    }

    /// Whether this is the client that is told by these from others.
    pub fn is(self, ids: &ClientIds) -> bool {
        self.has_ids(ids.hardware.htype, &ids.hardware.octets, &ids.client_id)
    }

    /// By client identifier where both have one (RFC 2131 section 4.2), else by MAC address.
    pub fn has_ids(self, htype: u8, chaddr: &[u8], client_id: &[u8]) -> bool {
        let known_id = self.client_id();
        if !known_id.is_empty() && !client_id.is_empty() {
            known_id == client_id
        } else {
            self.has_mac(htype, chaddr)
        }
    }

    /// Whether its MAC address is this one. Kea's lease databases keep no hardware type and give
    /// [`ETHERNET`], which may have been any.
    pub fn has_mac(self, htype: u8, chaddr: &[u8]) -> bool {
        let is_forgotten = [self.htype(), htype].contains(&ETHERNET);
        self.chaddr() == chaddr && (self.htype() == htype || is_forgotten)
    }

    /// The hardware type of a lease of `chaddr` that Kea gives with `htype`: the known one, where
    /// Kea has forgotten it.
    pub fn htype_of_lease(self, htype: u8, chaddr: &[u8]) -> u8 {
        match htype == ETHERNET && self.chaddr() == chaddr {
            true => self.htype(),
            false => htype,
        }
    }

    /// Whether the client identifier is htype and chaddr.
    fn is_id_mac(self) -> bool {
        self.0.first().is_some_and(|first| first & ID_IS_MAC != 0)
    }

    /// What comes after chaddr.
    #[inline]
    fn sections(self) -> Sections<'a> {
        let hlen = self.0.first().map_or(0, |first| usize::from(first & HLEN));
        Sections(self.0.get(2 + hlen..).unwrap_or_default())
    }

    /// What comes after the client identifier.
    #[inline]
    fn after_id(self) -> Sections<'a> {
        let mut sections = self.sections();
        if !self.is_id_mac() {
            sections.skip(1);
        }
        sections
    }
}

/// Whether requesters see no difference between two clients, or the absence of one.
pub fn look_alike(one: Option<ClientRef<'_>>, other: Option<ClientRef<'_>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.looks_like(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

impl fmt::Debug for ClientRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

/// Values with their lengths before them: what is left of them.
#[derive(Clone, Copy)]
struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    /// The next octet.
    #[inline]
    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next value; empty if there is none.
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

    /// A length of which the first octet says that more follow.
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

    /// Leaves out `count` values.
    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }
}

/// Appends the length of a value: seven bits in an octet, the lowest first.
fn put_length(octets: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        // Seven bits of it, and that more follow.
        octets.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    octets.push(length as u8);
}

/// Appends a value with its length before it.
fn put(octets: &mut Vec<u8>, value: &[u8]) {
    put_length(octets, value.len());
    octets.extend_from_slice(value);
}

/// All that is known of a client, without a gap.
fn pack(parts: &ClientParts<'_>) -> Vec<u8> {
    let chaddr = &parts.chaddr[..parts.chaddr.len().min(usize::from(HLEN))];
    let id_is_mac = !chaddr.is_empty()
        && (parts.client_id.split_first()).is_some_and(|id| id == (&parts.htype, chaddr));
    let mut options = Vec::new();
    for (code, value) in &parts.options {
        options.push(*code);
        put(&mut options, value);
    }
    let mut classes = Vec::new();
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
    // Five bits, by HLEN.
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

    /// Relay agent information that names a VPN after a remote-id.
    fn sub_options(name: &[u8]) -> Vec<u8> {
        let vss = [&[sub_option::VSS, 1 + name.len() as u8, 0], name].concat();
        [&[sub_option::REMOTE_ID, 2, 7, 7][..], &vss].concat()
    }

    proptest! {
        /// Whatever a client is made of can be read of it, and is one thing with what is written.
        #[test]
        fn is_what_it_was_made_of(
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
            // Without a choice of its own: as most clients have it.
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
            prop_assert!(client.view().looks_like(seen.view()));
            prop_assert!(seen.view().looks_like(client.view()));
            let other = Client::from(&ClientParts { hostname: b"another name, longer than any", ..parts.clone() });
            prop_assert!(!client.view().looks_like(other.view()));
            prop_assert_eq!(ClientRef::from_octets(client.view().octets()), client.view());
            prop_assert_eq!(client.view().vpn(), client.view().named_vpn());
            let mac = match chaddr.is_empty() {
                true => Vec::new(),
                false => [&[htype], &chaddr[..]].concat(),
            };
            prop_assert_eq!(client.view().mac(), mac);
            let written = postcard::to_stdvec(&client).unwrap();
            prop_assert_eq!(&written, &postcard::to_stdvec(&parts).unwrap());
            // What Kea stored is kept elsewhere.
            prop_assert_eq!(postcard::from_bytes::<Client>(&written).unwrap(), seen);
        }

        /// Octets that no client was made of are read as something.
        #[test]
        fn reads_any_octets(octets in vec(any::<u8>(), 0..60)) {
            let client = ClientRef::from_octets(&octets);
            let _ = (client.parts(), client.mac());
        }
    }

    #[test]
    fn is_the_client_of_a_lease_whose_hardware_type_kea_has_forgotten() {
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
    fn knows_the_vpn_its_relay_agent_named() {
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
    fn takes_few_octets_where_the_client_identifier_is_the_mac_address() {
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
