//! Building the replies about single addresses (RFC 6926 section 8.3, RFC 4388 section 6.4.2).

use std::cell::OnceCell;
use std::net::Ipv4Addr;

use crate::binding::{BindingRef, State};
use crate::client::ClientRef;
use crate::network::{Network, Scopes, TeeTimes};
use crate::time::{Lifetime, Time};
use crate::vpn::Vpn;
use crate::wire::message::message_type;
use crate::wire::options::code;
use crate::wire::status::StatusCode;
use crate::wire::vss;
use crate::wire::writer::{self, MessageWriter, ReplyHeader};

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

/// The REMOTE flag of the data-source option (RFC 6926 section 6.2.8).
const DATA_SOURCE_REMOTE: u8 = 1;

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

/// The options to send about each address, chosen once for a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedOptions(Vec<u8>);

impl WantedOptions {
    /// What a query asks for, or the default without a list; of that, what may be told
    /// (`non_sensitive`: RFC 4388 section 6.4.2). Each option once.
    pub fn new(requested: Option<&[u8]>, non_sensitive: impl Fn(u8) -> bool) -> WantedOptions {
        let mut wanted = Vec::new();
        for &option in requested.unwrap_or(&DEFAULT_OPTIONS) {
            if !is_decided_by_protocol(option) && non_sensitive(option) && !wanted.contains(&option)
            {
                wanted.push(option);
            }
        }
        WantedOptions(wanted)
    }
}

/// What a reply is to tell of: an address as it is at the time of the reply.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The address.
    pub address: Ipv4Addr,
    /// The binding, if there is or was one.
    pub binding: Option<&'a BindingRef<'a>>,
    /// When the binding's client renews and rebinds.
    pub tee_times: TeeTimes,
    /// The VPN the address belongs to.
    pub vpn: &'a Vpn,
    /// Its state and since when.
    pub state: (State, Time),
    /// The time of the reply: its base-time.
    pub now: Time,
}

/// Writes the reply about an address. `server_identifier` is given for the first reply to a query
/// alone (RFC 6926 section 8.3).
pub fn write(
    out: &mut Vec<u8>,
    header: &ReplyHeader,
    server_identifier: Option<Ipv4Addr>,
    wanted: &WantedOptions,
    about: &About<'_>,
    network: &Network,
) {
    let subject = Subject::new(about, network);
    let message_type = match about.state.0 {
        State::Active => message_type::LEASEACTIVE,
        _ => message_type::LEASEUNASSIGNED,
    };
    let mut writer = MessageWriter::new(out, header, message_type);
    writer.address(about.address);
    if let Some(client) = subject.client {
        writer.hardware(client.htype(), client.chaddr());
    }
    if let Some(address) = server_identifier {
        writer.option(code::SERVER_IDENTIFIER, &address.octets());
    }
    for &option in &wanted.0 {
        subject.write_option(&mut writer, option);
    }
    if *about.vpn != Vpn::Default {
        writer.option(code::VPN_ID, &vss::value(about.vpn));
    }
    writer.finish();
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
    network: &'a Network,
    /// What that is; looked up once, and only if it is asked for.
    scopes: OnceCell<Scopes<'a>>,
}

impl<'a> Subject<'a> {
    /// The address to tell of.
    #[inline]
    fn new(about: &'a About<'a>, network: &'a Network) -> Subject<'a> {
        let client = about.binding.and_then(|binding| binding.client);
        Subject {
            about,
            // Free again after probation, the address is nobody's any more.
            client: client.filter(|_| !matches!(about.state.0, State::Available | State::Remote)),
            network,
            scopes: OnceCell::new(),
        }
    }

    /// Adds an option, if its value is known.
    #[inline]
    fn write_option(&self, writer: &mut MessageWriter<'_>, option: u8) {
        let About { now, state, .. } = *self.about;
        match option {
            code::BASE_TIME => writer.option_u32(option, now.0),
            code::START_TIME_OF_STATE => writer.option_u32(option, now.seconds_since(state.1)),
            code::DHCP_STATE => writer.option(option, &[state.0 as u8]),
            code::DATA_SOURCE => {
                // Sent where any bit is set (RFC 6926 section 8.3 item 5).
                let binding = self.about.binding;
                if binding.is_some_and(|binding| binding.is_remote(now)) {
                    writer.option(option, &[DATA_SOURCE_REMOTE]);
                }
            }
            code::CLIENT_LAST_TRANSACTION_TIME => {
                if let Some(spoke) = self.last_transaction() {
                    writer.option_u32(option, now.seconds_since(spoke));
                }
            }
            code::LEASE_TIME => {
                if let Some(left) = self.time_left() {
                    writer.option_u32(option, left);
                }
            }
            code::RENEWAL_TIME | code::REBINDING_TIME => {
                if let Some(left) = self.tee_time_left(option) {
                    writer.option_u32(option, left);
                }
            }
            _ => self.write_configuration_option(writer, option),
        }
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

    /// Seconds until the client renews (T1) or rebinds (T2): of a valid lease, while that is
    /// still to come (RFC 4388 section 6.4.2).
    fn tee_time_left(&self, option: u8) -> Option<u32> {
        let About {
            now,
            state,
            tee_times,
            ..
        } = *self.about;
        let binding = self.about.binding.filter(|_| state.0 == State::Active)?;
        let from_start = match option {
            code::RENEWAL_TIME => tee_times.renewal,
            _ => tee_times.rebinding,
        }?;
        let left = Lifetime(from_start).left(binding.lease_start, now);
        (left > 0).then_some(left)
    }

    /// Adds an option that client or server told the other: what the client last sent, else
    /// what the server sends for a valid lease (RFC 6926 section 8.3 item 7).
    fn write_configuration_option(&self, writer: &mut MessageWriter<'_>, option: u8) {
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
            let scopes = self.scopes.get_or_init(|| self.network.scopes(*binding));
            if let Some(value) = scopes.option(option) {
                writer.option(option, &value);
            }
        }
    }
}

/// Writes the DHCPLEASEQUERYDONE that ends an answer, with a status if it was not successful
/// (RFC 6926 section 8.2).
pub fn write_done(
    out: &mut Vec<u8>,
    header: &ReplyHeader,
    server_identifier: Option<Ipv4Addr>,
    status: Option<(StatusCode, &str)>,
) {
    let mut writer = MessageWriter::new(out, header, message_type::LEASEQUERYDONE);
    if let Some(address) = server_identifier {
        writer.option(code::SERVER_IDENTIFIER, &address.octets());
    }
    if let Some((status, text)) = status {
        writer.status(status, text);
    }
    writer.finish();
}
