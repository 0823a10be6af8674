//! The projection of an address: the view that a requester has of it at the time of a reply.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use proto::MessageType;
use proto::option::code;

use crate::kea_config::{KeaConfig, TeeTimes};
use crate::mirror::ranges::TimedRange;
use crate::mirror::view::{Terms, View};
use crate::model::binding::{Binding, BindingRef, SubnetId};
use crate::model::client::ClientRef;
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};
use crate::model::vpn::Vpn;
use crate::query::reply::options::SECONDS;

/// Projects the addresses of a view at one time.
#[derive(Debug)]
pub struct Projector<'a> {
    /// The configuration.
    view: &'a View,
    /// The time of the replies.
    now: Time,
    /// The terms looked up last, which are those of most of the following bindings.
    terms: Option<Terms<'a>>,
    /// The VPN that the relay agent of the last binding named.
    named_vpn: Option<Vpn>,
}

impl<'a> Projector<'a> {
    /// Returns a projector of the addresses of `view` for replies at `now`.
    pub fn new(view: &'a View, now: Time) -> Projector<'a> {
        Projector {
            view,
            now,
            terms: None,
            named_vpn: None,
        }
    }

    /// Sets the time of the following replies.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Returns the view.
    pub fn view(&self) -> &'a View {
        self.view
    }

    /// Returns the projection of a binding; `None` if its VPN is unknown, so that no requester may see
    /// the binding.
    pub fn binding(&mut self, binding: BindingRef<'a>) -> Option<Projection<'_>> {
        self.look_up_terms(binding);
        let state = self.view.state(&binding, self.now);
        let client = binding.client.filter(|_| !state.0.is_free());
        self.named_vpn = client.and_then(ClientRef::vpn);
        let terms = self.terms.as_ref()?;
        let vpn = self.named_vpn.as_ref().or(terms.subnet_vpn)?;
        Some(self.project(&binding, terms, state, vpn))
    }

    /// Looks up the terms of a binding, if they are not those looked up last; returns whether that was necessary.
    #[inline(never)]
    pub fn look_up_terms(&mut self, binding: BindingRef<'a>) -> bool {
        match &mut self.terms {
            Some(terms) if terms.are_those_of(&binding) => {
                let is_known = terms.have(binding.lifetime);
                if !is_known {
                    terms.add(binding.lifetime);
                }
                !is_known
            }
            terms => {
                *terms = Some(self.view.terms(&binding));
                true
            }
        }
    }

    /// Returns the terms and the VPN of a binding that is like most: an active one, with the terms looked up
    /// last, whose relay agent names no VPN. `None` for others.
    #[inline(always)]
    pub fn usual_terms(&self, binding: &BindingRef<'a>) -> Option<(&Terms<'a>, &'a Vpn)> {
        let terms = self.terms.as_ref()?;
        let is_usual = binding.is_active(self.now)
            && binding.client.is_some_and(|client| !client.names_vpn())
            && terms.are_those_of(binding)
            && terms.have(binding.lifetime);
        match terms.subnet_vpn {
            Some(vpn) if is_usual => Some((terms, vpn)),
            _ => None,
        }
    }

    /// Returns the projection of a binding with these [`Projector::usual_terms`].
    #[inline(always)]
    pub fn usual_binding(
        &self,
        binding: &BindingRef<'a>,
        (terms, vpn): (&Terms<'a>, &'a Vpn),
    ) -> Projection<'a> {
        self.project(binding, terms, (State::Active, binding.since), vpn)
    }

    /// Returns the projection of a binding with these terms, in this state and since that time, in this
    /// VPN.
    #[inline(always)]
    fn project<'b>(
        &self,
        binding: &BindingRef<'a>,
        terms: &Terms<'a>,
        (state, since): (State, Time),
        vpn: &'b Vpn,
    ) -> Projection<'b>
    where
        'a: 'b,
    {
        let now = self.now;
        let client = binding.client.filter(|_| !state.is_free());
        let last_transaction = binding.last_transaction.filter(|_| client.is_some());
        // The time until the end of a state (RFC 6926 section 8.3 item 4).
        let left = match (state, binding.reserved_until) {
            (State::Transitioning, Some(until)) => Some(until.seconds_since(now)),
            (State::Active | State::Abandoned | State::Transitioning, _) => {
                Some(binding.lifetime.left(binding.lease_start, now))
            }
            _ => None,
        };
        // Renewal and rebinding are the client's of a valid lease (RFC 4388 section 6.4.2).
        let tee_times = match state {
            State::Active => terms.tee_times(binding),
            _ => TeeTimes::default(),
        };
        let answered = binding.answered();
        Projection {
            address: binding.address,
            state,
            since,
            vpn,
            client,
            is_remote: binding.is_remote(now),
            seconds: [
                Some(now.0),
                Some(now.seconds_since(since)),
                last_transaction.map(|last| now.seconds_since(last)),
                left,
                time_left(answered, tee_times.renewal, now),
                time_left(answered, tee_times.rebinding, now),
            ],
            subnet: binding.subnet,
            kea_config: &self.view.kea_config,
        }
    }

    /// Returns the projection of an address of a range that was never leased.
    pub fn free(&self, address: Ipv4Addr, range: &'a TimedRange) -> Projection<'a> {
        self.without_client(address, range.free(), &range.vpn)
    }

    /// Returns the projection of an address for a requester that sees only `vpn`, which its binding has just left.
    pub fn left<'b>(&self, address: Ipv4Addr, vpn: &'b Vpn) -> Projection<'b>
    where
        'a: 'b,
    {
        self.without_client(address, (State::Available, self.now), vpn)
    }

    /// Returns the projection of an address without a client.
    fn without_client<'b>(
        &self,
        address: Ipv4Addr,
        (state, since): (State, Time),
        vpn: &'b Vpn,
    ) -> Projection<'b>
    where
        'a: 'b,
    {
        let in_state = self.now.seconds_since(since);
        Projection {
            address,
            state,
            since,
            vpn,
            client: None,
            is_remote: false,
            seconds: [Some(self.now.0), Some(in_state), None, None, None, None],
            subnet: SubnetId(0),
            kea_config: &self.view.kea_config,
        }
    }
}

/// The view that a requester has of an address.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// The address.
    pub address: Ipv4Addr,
    /// The state.
    pub state: State,
    /// The start of the state.
    pub since: Time,
    /// The VPN.
    pub vpn: &'a Vpn,
    /// The client that holds or last held the address.
    pub client: Option<ClientRef<'a>>,
    /// Whether another server made the last change.
    pub is_remote: bool,
    /// The values of [`SECONDS`], as far as they are known.
    pub seconds: [Option<u32>; SECONDS.len()],
    /// The subnet that Kea leased the address from.
    subnet: SubnetId,
    /// The source of the options that Kea sends with the lease.
    pub kea_config: &'a KeaConfig,
}

impl<'a> Projection<'a> {
    /// Returns the type of the reply.
    pub fn message_type(&self) -> MessageType {
        match self.state {
            State::Active => MessageType::LEASE_ACTIVE,
            _ => MessageType::LEASE_UNASSIGNED,
        }
    }

    /// Returns the server identifier that is configured for the lease.
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        let lease = Binding::free(self.address, self.subnet, self.since).with_client(self.client);
        let value = self.kea_config.option(code::SERVER_IDENTIFIER, lease)?;
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(&*value).ok()?))
    }

    /// Returns the codes of the options that the server sends with the lease whether the client asks for them or not:
    /// `always-send` in Kea's configuration. A client that does not receive one may be in the list.
    pub fn always_sent(&self) -> Vec<u8> {
        let lease = Binding::free(self.address, self.subnet, self.since).with_client(self.client);
        self.kea_config.scopes(lease).always_sent()
    }

    /// Returns the value of an option that the client or the server sent to the other: the value that the
    /// client sent last, else the one that the server sends with a valid lease (RFC 6926 section 8.3 item
    /// 7). Empty if neither sends the option.
    pub fn sent(&self, option: u8) -> Cow<'a, [u8]> {
        let Some(client) = self.client else {
            return Cow::default();
        };
        let by_client = sent_by_client(client, option);
        if !by_client.is_empty() || self.state != State::Active {
            return by_client.into();
        }
        // Address, subnet and client decide.
        let lease = Binding::free(self.address, self.subnet, self.since).with_client(self.client);
        self.kea_config.option(option, lease).unwrap_or_default()
    }
}

/// Returns the value of an option that a client sent last; empty if it sent none.
#[inline(always)]
pub fn sent_by_client(client: ClientRef<'_>, option: u8) -> &[u8] {
    match option {
        code::CLIENT_IDENTIFIER => client.client_id(),
        code::RELAY_AGENT_INFORMATION => client.relay_agent_information(),
        _ => other_sent_by_client(client, option),
    }
}

/// Returns the value of an option that is stored with the other options of a client; empty without one.
#[inline(never)]
fn other_sent_by_client(client: ClientRef<'_>, option: u8) -> &[u8] {
    match client.option(option) {
        Some(value) if !value.is_empty() => value,
        _ if option == code::HOST_NAME => client.hostname(),
        _ => &[],
    }
}

/// Returns the seconds until a time that is `after` seconds after `start`, if it is in the future.
#[inline(always)]
fn time_left(start: Time, after: Option<u32>, now: Time) -> Option<u32> {
    let left = Lifetime(after?).left(start, now);
    (left > 0).then_some(left)
}
