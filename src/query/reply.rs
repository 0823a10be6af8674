//! Building the replies about single addresses (RFC 6926 section 8.3, RFC 4388 section 6.4.2).

use std::cell::OnceCell;
use std::net::Ipv4Addr;

use proto::option::code;
use proto::{MessageType, StatusCode, data_source};

use crate::kea_config::{KeaConfig, Scopes, TeeTimes};
use crate::mirror::view::Terms;
use crate::mirror::{Found, Kind};
use crate::model::binding::BindingRef;
use crate::model::client::ClientRef;
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};
use crate::model::vpn::Vpn;
use crate::wire::writer::{self, Frame, MessageWriter, ReplyHeader};

/// Sent where known when the query has no dhcp-parameter-request-list: what every requestor
/// needs to make use of a binding.
const DEFAULT_OPTIONS: [u8; 9] = [
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
    code::CLIENT_IDENTIFIER,
    code::RELAY_AGENT_INFORMATION,
    code::CLIENT_LAST_TRANSACTION_TIME,
    code::BASE_TIME,
    code::START_TIME_OF_STATE,
    code::DHCP_STATE,
];

/// Options that are never taken from a list: the protocol decides about them, or they are no
/// options with a value.
fn is_decided_by_protocol(option: u8) -> bool {
    matches!(
        option,
        code::PAD
            | code::OVERLOAD
            | code::MESSAGE_TYPE
            | code::SERVER_IDENTIFIER
            | code::ASSOCIATED_IP
            | code::STATUS_CODE
            | code::QUERY_START_TIME
            | code::QUERY_END_TIME
            | code::VPN_ID
            | code::END
    )
}

/// Options that are never withheld as sensitive where they are asked for.
///
/// RFC 4388 section 6.4.2 says that a server MUST return 51 and 82, and that 58 and 59 "MUST be handled
/// like" 51; RFC 6926 section 8.3 that it MUST return 91, 152, 153 and 157 (items 2, 3, 5 and 6) and
/// SHOULD return 156 (item 1), which is the reply's message type in more detail. Those SHOULD that are
/// about the client, its identifier and its options, are left to the list.
fn is_owed(option: u8) -> bool {
    matches!(
        option,
        code::LEASE_TIME
            | code::RENEWAL_TIME
            | code::REBINDING_TIME
            | code::RELAY_AGENT_INFORMATION
            | code::CLIENT_LAST_TRANSACTION_TIME
            | code::BASE_TIME
            | code::START_TIME_OF_STATE
            | code::DATA_SOURCE
            | code::DHCP_STATE
    )
}

/// The options to send about each address, chosen once for a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedOptions {
    /// Each of them.
    options: Vec<Wanted>,
    /// Whether those about leases depend on nothing but what [`Shape`] tells, and on their values.
    may_be_alike: bool,
}

/// An option to send, by where its value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// A number of seconds: the option, and which of [`Subject::seconds`] it is.
    Seconds(u8, u8),
    /// dhcp-state.
    State,
    /// data-source.
    DataSource,
    /// Any other: what client or server told the other.
    View(u8),
}

/// The options that are a number of seconds, in the order of [`Subject::seconds`].
const SECONDS: [u8; 6] = [
    code::BASE_TIME,
    code::START_TIME_OF_STATE,
    code::CLIENT_LAST_TRANSACTION_TIME,
    code::LEASE_TIME,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
];

/// The values of [`SECONDS`], as far as they are known.
type Seconds = [Option<u32>; SECONDS.len()];

impl Wanted {
    /// An option by its code.
    fn new(option: u8) -> Wanted {
        match option {
            code::DHCP_STATE => Wanted::State,
            code::DATA_SOURCE => Wanted::DataSource,
            _ => match SECONDS.iter().position(|seconds| *seconds == option) {
                // There are six.
                Some(place) => Wanted::Seconds(option, place as u8),
                None => Wanted::View(option),
            },
        }
    }
}

impl WantedOptions {
    /// The options a query asks for, or the default ones without a list, each once. Those that are
    /// not `non_sensitive` (RFC 4388 section 6.4.2) are left out, unless `is_owed`.
    pub fn new(requested: Option<&[u8]>, non_sensitive: impl Fn(u8) -> bool) -> WantedOptions {
        let mut options = Vec::with_capacity(DEFAULT_OPTIONS.len() + 1);
        for &option in requested.unwrap_or(&DEFAULT_OPTIONS) {
            let new = Wanted::new(option);
            let may_be_sent = is_owed(option) || non_sensitive(option);
            if may_be_sent && !is_decided_by_protocol(option) && !options.contains(&new) {
                options.push(new);
            }
        }
        let may_be_alike = options.iter().all(|option| match option {
            Wanted::Seconds(..) | Wanted::State | Wanted::DataSource => true,
            Wanted::View(option) => {
                [code::CLIENT_IDENTIFIER, code::RELAY_AGENT_INFORMATION].contains(option)
            }
        });
        WantedOptions {
            options,
            may_be_alike,
        }
    }
}

/// What a reply is to tell of: an address as it is at the time of the reply.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The address.
    pub address: Ipv4Addr,
    /// The binding, if there is or was one.
    pub binding: Option<&'a BindingRef<'a>>,
    /// When the binding's client renews and rebinds, in seconds from [`Binding::answered`].
    ///
    /// [`Binding::answered`]: crate::model::binding::Binding::answered
    pub tee_times: TeeTimes,
    /// The VPN the address belongs to.
    pub vpn: &'a Vpn,
    /// Its state and since when.
    pub state: (State, Time),
    /// The time of the reply: its base-time.
    pub now: Time,
}

/// Writes the replies to a query, as long as the time they tell of is the same.
///
/// Bindings that come one after the other mostly have the same options, each as long. So the reply
/// about the next one is mostly a copy of one before with other values in the same places.
pub struct Replies<'a> {
    /// What they carry of the query.
    header: &'a ReplyHeader,
    /// The options to send.
    wanted: &'a WantedOptions,
    /// The shape of the reply written last, if others may have it.
    last: Option<Shape>,
    /// A reply to copy, once there have been two of its shape in a row.
    model: Option<Model>,
}

impl<'a> Replies<'a> {
    /// Replies that begin with `header`.
    pub fn new(header: &'a ReplyHeader, wanted: &'a WantedOptions) -> Replies<'a> {
        Replies {
            header,
            wanted,
            last: None,
            model: None,
        }
    }

    /// Writes the reply about an address. `server_identifier` is given for the first reply to a
    /// query alone (RFC 6926 section 8.3).
    ///
    /// It is part of whoever calls it, so that what is told of an address mostly need not be put
    /// together in memory, and that what is not asked for is not even read.
    ///
    /// Tells whether it is a copy: so may be those about others of the same [`Kind`].
    #[inline(always)]
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        server_identifier: Option<Ipv4Addr>,
        about: &About<'_>,
        kea_config: &KeaConfig,
    ) -> bool {
        let subject = Subject::new(about, kea_config);
        let mut shape = None;
        let may_be_alike = self.wanted.may_be_alike && server_identifier.is_none();
        if let Some(client) = subject.client.filter(|_| may_be_alike) {
            let seconds = subject.seconds();
            let told = Told::of(client);
            shape = Shape::new(about, &told, &seconds);
            match &self.model {
                Some(model) if Some(model.shape) == shape => {
                    model.write(out, about.address, told, &seconds);
                    return true;
                }
                _ => {}
            }
        }
        // A copy: what another function is lent is in memory from the beginning.
        let binding = about.binding.copied();
        let about = About {
            binding: binding.as_ref(),
            ..*about
        };
        self.write_first(out, server_identifier, &about, kea_config, shape);
        false
    }

    /// Writes the reply about a binding if it is to be told as one before, of which `alike` is kept; says
    /// whether it is.
    #[inline(always)]
    pub fn write_alike(
        &self,
        out: &mut Vec<u8>,
        alike: &Alike,
        found: Found<'_>,
        now: Time,
    ) -> bool {
        let Some(model) = self.model.as_ref().filter(|_| found.kind() == alike.kind) else {
            return false;
        };
        let start = found.lease_start();
        let left = alike.lifetime.left(start, now);
        let last_transaction = alike.has_last_transaction.then(|| found.last_transaction());
        // T1 and T2 of a client that was answered later are others.
        let is_later = alike.has_last_transaction && found.last_transaction() > start;
        if is_later || !alike.is_in_span(found.address) {
            return false;
        }
        let seconds = [
            Some(now.0),
            Some(now.seconds_since(found.since())),
            last_transaction.map(|spoke| now.seconds_since(spoke)),
            Some(left),
            tee_time_left(alike.tee_times.renewal, start, now),
            tee_time_left(alike.tee_times.rebinding, start, now),
        ];
        let told = Told::of(found.client());
        let is_alike = left > 0 && Shape::of(&told, &seconds) == model.shape;
        if is_alike {
            model.write(out, Ipv4Addr::from_bits(found.address), told, &seconds);
        }
        is_alike
    }

    /// The same for one that cannot be a copy, but may be copied if others have its shape.
    #[inline(never)]
    fn write_first(
        &mut self,
        out: &mut Vec<u8>,
        server_identifier: Option<Ipv4Addr>,
        about: &About<'_>,
        kea_config: &KeaConfig,
        shape: Option<Shape>,
    ) {
        let start = out.len();
        self.write_in_full(out, server_identifier, about, kea_config);
        // If shapes change from reply to reply, nothing is copied in vain.
        if let Some(shape) = shape.filter(|_| shape == self.last) {
            let frame = out.get(start..).unwrap_or_default();
            self.model = Some(Model::new(shape, frame));
        }
        self.last = shape;
    }

    /// The same, whatever the reply before was.
    fn write_in_full(
        &self,
        out: &mut Vec<u8>,
        server_identifier: Option<Ipv4Addr>,
        about: &About<'_>,
        kea_config: &KeaConfig,
    ) {
        let subject = &Subject::new(about, kea_config);
        let seconds = subject.seconds();
        let message_type = match about.state.0 {
            State::Active => MessageType::LEASE_ACTIVE.0,
            _ => MessageType::LEASE_UNASSIGNED.0,
        };
        let mut writer = MessageWriter::new(out, self.header, message_type);
        writer.address(about.address);
        if let Some(client) = subject.client {
            writer.hardware(client.htype(), client.chaddr());
        }
        if let Some(address) = server_identifier {
            writer.option(code::SERVER_IDENTIFIER, &address.octets());
        }
        for &option in &self.wanted.options {
            match option {
                Wanted::Seconds(option, place) => {
                    if let Some(seconds) = seconds[usize::from(place)] {
                        writer.option_u32(option, seconds);
                    }
                }
                Wanted::State => writer.option(code::DHCP_STATE, &[about.state.0 as u8]),
                // Sent where any bit is set (RFC 6926 section 8.3 item 5).
                Wanted::DataSource => {
                    let binding = about.binding;
                    if binding.is_some_and(|binding| binding.is_remote(about.now)) {
                        writer.option(code::DATA_SOURCE, &[data_source::REMOTE]);
                    }
                }
                Wanted::View(option) => subject.write_configuration(&mut writer, option),
            }
        }
        if *about.vpn != Vpn::Default {
            writer.option(code::VPN_ID, &about.vpn.to_vss());
        }
        writer.finish();
    }
}

/// What a reply about a lease tells of the client.
#[derive(Clone, Copy)]
struct Told<'a> {
    /// Its hardware type.
    htype: u8,
    /// Its hardware address.
    chaddr: &'a [u8],
    /// Its client identifier.
    client_id: &'a [u8],
    /// Its relay agent information.
    information: &'a [u8],
}

impl<'a> Told<'a> {
    /// What is told of this client.
    #[inline(always)]
    fn of(client: ClientRef<'a>) -> Told<'a> {
        Told {
            htype: client.htype(),
            chaddr: client.chaddr(),
            client_id: client.client_id(),
            information: client.relay_agent_information(),
        }
    }
}

/// What a reply about a lease is but for its values.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Which of [`SECONDS`] are known: a bit for each.
    known: u32,
    /// hlen.
    chaddr: usize,
    /// The length of the client identifier; 1 <= client_id <= 255
    client_id: usize,
    /// That of the relay agent information; 1 <= information <= 255
    information: usize,
}

impl Shape {
    /// The shape of a reply with options that [`WantedOptions::may_be_alike`]; `None` if anything
    /// else bears on it.
    #[inline]
    fn new(about: &About<'_>, told: &Told<'_>, seconds: &Seconds) -> Option<Shape> {
        let shape = Shape::of(told, seconds);
        let is_one_option = |length| (1..=255).contains(&length);
        let is_alike = about.state.0 == State::Active
            && about.binding.is_some_and(|binding| !binding.remote)
            && *about.vpn == Vpn::Default
            && is_one_option(shape.client_id)
            && is_one_option(shape.information);
        is_alike.then_some(shape)
    }

    /// The shape of a reply that has one.
    #[inline]
    fn of(told: &Told<'_>, seconds: &Seconds) -> Shape {
        let mut known = 0;
        for (place, seconds) in seconds.iter().enumerate() {
            known |= u32::from(seconds.is_some()) << place;
        }
        Shape {
            known,
            chaddr: told.chaddr.len(),
            client_id: told.client_id.len(),
            information: told.information.len(),
        }
    }
}

/// What is known of a binding once a reply about it was a copy, as long as what is configured and what is
/// asked for stays as it is: others of its [`Kind`] are told alike while their leases last.
#[derive(Clone, Copy)]
pub struct Alike {
    /// The kind.
    kind: Kind,
    /// Whether it has a last transaction.
    has_last_transaction: bool,
    /// How long leases last.
    lifetime: Lifetime,
    /// When their clients renew and rebind, in seconds from the start of their leases.
    tee_times: TeeTimes,
    /// The first address of which all this holds, and how many follow it.
    span: (u32, u32),
}

impl Alike {
    /// What is known of this binding, which has these terms. `None` if its relay agent named a VPN,
    /// even if that makes no sense: others of its kind may be in other ones.
    pub fn of(found: Found<'_>, binding: &BindingRef<'_>, terms: &Terms<'_>) -> Option<Alike> {
        let (first, last) = terms.span();
        let alike = Alike {
            kind: found.kind(),
            has_last_transaction: binding.last_transaction.is_some(),
            lifetime: binding.lifetime,
            tee_times: terms.tee_times_of_lease(),
            span: (first.to_bits(), last.to_bits() - first.to_bits()),
        };
        (!found.client().names_vpn()).then_some(alike)
    }

    /// Whether it holds for a binding of its kind at this address.
    #[inline(always)]
    fn is_in_span(&self, address: u32) -> bool {
        address.wrapping_sub(self.span.0) <= self.span.1
    }
}

/// A reply to copy.
struct Model {
    /// Its shape.
    shape: Shape,
    /// Its octets.
    frame: Vec<u8>,
    /// Where in it the values of [`SECONDS`] are, and 0 for those it has not.
    seconds: [usize; SECONDS.len()],
    /// Where in it the client identifier is, if it has it; else 0.
    client_id: usize,
    /// Where in it the relay agent information is, if it has it; else 0.
    information: usize,
}

impl Model {
    /// A reply of this shape as a model for others.
    fn new(shape: Shape, frame: &[u8]) -> Model {
        let place_of = |option| {
            let mut values = writer::values(frame);
            let found = values.find(|(found, _)| *found == option);
            found.map_or(0, |(_, at)| at)
        };
        Model {
            shape,
            frame: frame.to_vec(),
            seconds: SECONDS.map(place_of),
            client_id: place_of(code::CLIENT_IDENTIFIER),
            information: place_of(code::RELAY_AGENT_INFORMATION),
        }
    }

    /// Writes a reply of the same shape.
    #[inline(always)]
    fn write(&self, out: &mut Vec<u8>, address: Ipv4Addr, told: Told<'_>, seconds: &Seconds) {
        let mut frame = Frame::copy(out, &self.frame);
        frame.address(address);
        frame.hardware(told.htype, told.chaddr);
        for (at, seconds) in self.seconds.iter().zip(seconds) {
            if let (1.., Some(seconds)) = (*at, seconds) {
                frame.set(*at, seconds.to_be_bytes());
            }
        }
        for (at, value) in [
            (self.client_id, told.client_id),
            (self.information, told.information),
        ] {
            if at > 0 {
                frame.set_all(at, value);
            }
        }
    }
}

/// Writes the reply at the end of `out`, which begins at `start` and is about the address `first`,
/// again for those after it, to `last` or until the output is `full`: free addresses in a row differ in
/// nothing else. Tells which address was the last one.
pub fn repeat(
    out: &mut Vec<u8>,
    start: usize,
    first: Ipv4Addr,
    last: Ipv4Addr,
    full: usize,
) -> Ipv4Addr {
    let end = out.len();
    let mut address = first;
    while address < last && out.len() < full {
        address = Ipv4Addr::from_bits(address.to_bits() + 1);
        writer::write_again(out, start..end, address);
    }
    address
}

/// What a reply is about.
struct Subject<'a> {
    /// The address as it is.
    about: &'a About<'a>,
    /// The client that holds or last held it, if there is one to tell of.
    client: Option<ClientRef<'a>>,
    /// Where what the server sends to that client comes from.
    kea_config: &'a KeaConfig,
    /// What that is; looked up once, and only if it is asked for.
    scopes: OnceCell<Scopes<'a>>,
}

impl<'a> Subject<'a> {
    /// The address to tell of.
    #[inline]
    fn new(about: &'a About<'a>, kea_config: &'a KeaConfig) -> Subject<'a> {
        let client = about.binding.and_then(|binding| binding.client);
        Subject {
            about,
            // Free again after probation, the address is nobody's any more.
            client: client.filter(|_| !matches!(about.state.0, State::Available | State::Remote)),
            kea_config,
            scopes: OnceCell::new(),
        }
    }

    /// The values of [`SECONDS`], as far as they are known. All at once, since most are asked for:
    /// that takes less than to find out for each which one it is.
    #[inline]
    fn seconds(&self) -> Seconds {
        let About {
            now,
            state,
            tee_times,
            ..
        } = *self.about;
        let last_transaction = self.last_transaction();
        [
            Some(now.0),
            Some(now.seconds_since(state.1)),
            last_transaction.map(|spoke| now.seconds_since(spoke)),
            self.time_left(),
            self.tee_time_left(tee_times.renewal),
            self.tee_time_left(tee_times.rebinding),
        ]
    }

    /// client-last-transaction-time, where there is a client.
    fn last_transaction(&self) -> Option<Time> {
        self.client.and(self.about.binding)?.last_transaction
    }

    /// Seconds until the state ends, for states that do (RFC 6926 section 8.3 item 4).
    fn time_left(&self) -> Option<u32> {
        let About { now, state, .. } = *self.about;
        let binding = self.about.binding?;
        match state.0 {
            State::Active | State::Abandoned => {
                Some(binding.lifetime.left(binding.lease_start, now))
            }
            State::Transitioning => match binding.reserved_until {
                Some(until) => Some(until.seconds_since(now)),
                None => Some(binding.lifetime.left(binding.lease_start, now)),
            },
            _ => None,
        }
    }

    /// Seconds until the client renews (T1) or rebinds (T2), which it does so long after it was last
    /// answered: of a valid lease, while that is still to come (RFC 4388 section 6.4.2).
    fn tee_time_left(&self, from_answer: Option<u32>) -> Option<u32> {
        let About { now, state, .. } = *self.about;
        let binding = self.about.binding.filter(|_| state.0 == State::Active)?;
        tee_time_left(from_answer, binding.answered(), now)
    }

    /// Adds an option that client or server told the other: what the client last sent, else
    /// what the server sends for a valid lease (RFC 6926 section 8.3 item 7).
    fn write_configuration(&self, writer: &mut MessageWriter<'_>, option: u8) {
        let (Some(binding), Some(client)) = (self.about.binding, self.client) else {
            return;
        };
        let sent_by_client = match option {
            code::CLIENT_IDENTIFIER => client.client_id(),
            code::RELAY_AGENT_INFORMATION => client.relay_agent_information(),
            _ => client.option(option).unwrap_or_default(),
        };
        if !sent_by_client.is_empty() {
            writer.option(option, sent_by_client);
        } else if option == code::HOST_NAME && !client.hostname().is_empty() {
            writer.option(option, client.hostname());
        } else if self.about.state.0 == State::Active {
            let scopes = self.scopes.get_or_init(|| self.kea_config.scopes(*binding));
            if let Some(value) = scopes.option(option) {
                writer.option(option, &value);
            }
        }
    }
}

/// Seconds until a time that is so long after the start of a lease, if it is still to come.
#[inline]
fn tee_time_left(from_start: Option<u32>, start: Time, now: Time) -> Option<u32> {
    let left = Lifetime(from_start?).left(start, now);
    (left > 0).then_some(left)
}

/// Whether the replies to a query carry base-time: all of them, or none (RFC 6926 section 8.3 items
/// 2 and 7).
pub fn carry_base_time(requested: Option<&[u8]>) -> bool {
    requested
        .unwrap_or(&DEFAULT_OPTIONS)
        .contains(&code::BASE_TIME)
}

/// Writes the DHCPLEASEQUERYDONE that ends an answer, with a status if it was not successful
/// (RFC 6926 section 8.2).
pub fn write_done(
    out: &mut Vec<u8>,
    header: &ReplyHeader,
    server_identifier: Option<Ipv4Addr>,
    base_time: Option<Time>,
    status: Option<(StatusCode, &str)>,
) {
    let mut writer = MessageWriter::new(out, header, MessageType::LEASE_QUERY_DONE.0);
    if let Some(address) = server_identifier {
        writer.option(code::SERVER_IDENTIFIER, &address.octets());
    }
    if let Some(time) = base_time {
        writer.option_u32(code::BASE_TIME, time.0);
    }
    if let Some((status, text)) = status {
        writer.status(status, text);
    }
    writer.finish();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::binding::{Binding, SubnetId};
    use crate::model::client::{Client, ClientParts};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Clients, few enough that some in a row are described by as many octets.
    fn client() -> impl Strategy<Value = Client> {
        let octets = |most| vec(any::<u8>(), 0..=most);
        let information =
            prop_oneof![8 => vec(any::<u8>(), 2), 1 => octets(1), 1 => vec(any::<u8>(), 256)];
        let id = prop_oneof![8 => Just(None), 1 => octets(2).prop_map(Some)];
        let chaddr = prop_oneof![8 => vec(any::<u8>(), 6), 1 => octets(17)];
        (chaddr, id, information, any::<bool>()).prop_map(|(chaddr, id, information, has_name)| {
            let id = id.unwrap_or_else(|| [&[1], &chaddr[..]].concat());
            Client::from(&ClientParts {
                htype: 1,
                chaddr: &chaddr,
                client_id: &id,
                relay_agent_information: &information,
                hostname: if has_name { b"name" } else { b"" },
                ..ClientParts::default()
            })
        })
    }

    proptest! {
        /// A reply that was made from the one before is what it would be alone.
        #[test]
        fn replies_do_not_depend_on_those_before(
            bindings in vec(
                (
                    proptest::option::weighted(0.9, client()),
                    prop_oneof![9 => Just(State::Active), 1 => Just(State::Released)],
                    proptest::option::weighted(0.9, 0..200u32),
                    prop_oneof![9 => Just(Vpn::Default), 1 => Just(Vpn::Name("blue".into()))],
                    (proptest::option::weighted(0.9, 200..400u32), 200..400u32, any::<u8>()),
                ),
                0..20,
            ),
            requested in prop_oneof![
                Just(None),
                vec(prop_oneof![Just(12_u8), Just(61), Just(82), Just(157), 51..60u8, 91..160u8], 0..9)
                    .prop_map(Some),
            ],
        ) {
            let kea_config = KeaConfig::from_json(r#"{ "Dhcp4": {} }"#, Vec::new()).unwrap();
            let header = ReplyHeader::new(7, 0, Ipv4Addr::UNSPECIFIED);
            let wanted = WantedOptions::new(requested.as_deref(), |_| true);
            let mut replies = Replies::new(&header, &wanted);
            for (number, (client, state, last_transaction, vpn, times)) in
                bindings.into_iter().enumerate()
            {
                let (renewal, rebinding, start) = times;
                let binding = Binding {
                    address: Ipv4Addr::from_bits(number as u32),
                    state,
                    since: Time(start.into()),
                    last_transaction: last_transaction.map(Time),
                    lease_start: Time(start.into()),
                    lifetime: Lifetime(400),
                    subnet: SubnetId(1),
                    client,
                    remote: start % 8 == 0,
                    learned_at: None,
                    reserved_until: None,
                };
                let view = binding.view();
                let about = About {
                    address: binding.address,
                    binding: Some(&view),
                    tee_times: TeeTimes {
                        renewal,
                        rebinding: Some(rebinding),
                    },
                    vpn: &vpn,
                    state: (state, binding.since),
                    now: Time(300),
                };
                let identifier = (number == 0).then_some(Ipv4Addr::LOCALHOST);
                let (mut found, mut expected) = (b"before".to_vec(), b"before".to_vec());
                replies.write(&mut found, identifier, &about, &kea_config);
                replies.write_in_full(&mut expected, identifier, &about, &kea_config);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
