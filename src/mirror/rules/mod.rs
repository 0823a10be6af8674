//! From a binding and what happened to it, the binding after it.
//!
//! Pure rules, no tables: `before` is what is known of the address so far, `None` if nothing.
//! The states and their times are those of the contract: a state begins when its cause did,
//! and a state that has run out (see [`Binding::at`]) ended then, whenever Kea noticed.

#[cfg(test)]
mod tests;

use crate::mirror::event::{ClientInfo, Lease, LeaseState, Origin, Reason};
use crate::model::address::HardwareAddress;
use crate::model::binding::{Binding, BindingRef};
use crate::model::client::{Client, ClientIds, ClientParts, ClientRef};
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};

/// A client's message led to `lease`: it is new, renewed, or declined.
pub fn committed(
    before: Option<BindingRef<'_>>,
    lease: &Lease,
    client_info: &ClientInfo,
) -> Binding {
    held(before, lease, Some(client_info), lease.cltt)
}

/// Whether a lease that one client had is another's `after`, though it was not over. Several threads
/// of Kea's may lease an address at once, and tell of it in another order than they did it.
pub fn is_taken(before: BindingRef<'_>, after: BindingRef<'_>) -> bool {
    let both = before.client.zip(after.client);
    before.is_active(after.since)
        && after.state == State::Active
        && both.is_some_and(|(before, after)| !before.is_same_client(after))
}

/// Kea acknowledged at `at` the lease that its client has, and left it as it was: a transaction, and
/// nothing else. Kea finds a lease by either identifier, so one of both is enough to know that the
/// address has not gone to somebody else meanwhile.
pub fn confirmed(
    before: &Binding,
    sender: &ClientIds,
    at: Time,
    client_info: &ClientInfo,
) -> Binding {
    let known = before.client.as_ref().map(Client::view);
    let is_sender = |known: &ClientRef<'_>| {
        let ClientIds {
            hardware,
            client_id,
        } = sender;
        known.has_mac(hardware.htype, &hardware.octets)
            || !client_id.is_empty() && known.client_id() == client_id
    };
    let Some(kept) = known.filter(|known| before.is_active(at) && is_sender(known)) else {
        return before.clone();
    };
    let leased = ClientParts {
        htype: kept.htype(),
        chaddr: kept.chaddr(),
        client_id: kept.client_id(),
        hostname: kept.hostname(),
        // Kea stored nothing now.
        relay_agent_information: kept.stored_by_kea(),
        ..ClientParts::default()
    };
    Binding {
        last_transaction: before.last_transaction.max(Some(at)),
        client: Some(merged(leased, Some(kept), Some(client_info))),
        remote: false,
        ..before.clone()
    }
}

/// Kea's database holds `lease` at `at`, changed by something other than a client's message; `None`
/// if that was known.
pub fn updated(
    before: Option<&Binding>,
    lease: &Lease,
    at: Time,
    origin: Origin,
) -> Option<Binding> {
    let mut after = Binding {
        remote: origin == Origin::Remote,
        ..held(before.map(Binding::view), lease, None, at)
    };
    if let Some(before) = before {
        let is_alike = before.at(at) == after.at(at)
            && are_seen_alike(before, &after)
            && before.subnet == after.subnet
            && (before.lease_start, before.lifetime) == (after.lease_start, after.lifetime);
        if is_alike || is_offer(before, lease) || is_known_to_be_over(before, lease, at) {
            // Kea's lease manager tells of each change before it is known who made it.
            let remote = before.remote && origin == Origin::Remote;
            // Kea may store other relay agent information that was heard before: nobody sees that, but
            // the next that Kea stores is compared with it.
            let client = after.client.filter(|_| is_alike);
            let client = client.or_else(|| before.client.clone());
            if remote == before.remote && client == before.client {
                return None;
            }
            after = Binding {
                remote,
                client,
                ..before.clone()
            };
        }
    }
    Some(after)
}

/// Whether a requester sees no difference between the clients of both.
fn are_seen_alike(before: &Binding, after: &Binding) -> bool {
    match (&before.client, &after.client) {
        (Some(before), Some(after)) => before.view().is_seen_alike(after.view()),
        (before, after) => before.is_none() && after.is_none(),
    }
}

/// Whether `lease`, which Kea holds as ended, was known at `at` to be over: by an event, or because
/// its time was over. Only a release before that is news then.
fn is_known_to_be_over(known: &Binding, lease: &Lease, at: Time) -> bool {
    let ended = match lease.state {
        LeaseState::Default | LeaseState::Declined => return false,
        LeaseState::ExpiredReclaimed => known.at(at).0 != State::Active,
        LeaseState::Released => known.state != State::Active,
    };
    let known = known.view();
    let client = client(Some(known), lease, None);
    ended && is_about(known, lease, client.as_ref())
}

/// The address was offered and is reserved by `lease`. A client that holds the lease already
/// and asks again has it to its end, whatever Kea then makes of it.
pub fn offered(before: Option<&Binding>, lease: &Lease, client_info: &ClientInfo) -> Binding {
    // The lease manager told of the very same before, not knowing that it is an offer.
    let told = |before: &Binding| {
        before.remote
            && before.since >= lease.cltt
            && (before.lease_start, before.lifetime) == (lease.cltt, lease.valid_lifetime)
    };
    match before {
        Some(before) if before.is_active(lease.cltt) && !told(before) => Binding {
            last_transaction: before.last_transaction.max(Some(lease.cltt)),
            client: client(Some(before.view()), lease, Some(client_info)),
            reserved_until: lease.valid_lifetime.end(lease.cltt),
            remote: false,
            ..before.clone()
        },
        _ => Binding {
            state: State::Transitioning,
            ..started(
                lease,
                client(before.map(Binding::view), lease, Some(client_info)),
                lease.cltt,
            )
        },
    }
}

/// The client released the lease at `at`, to this server or another one.
pub fn released(before: &Binding, at: Time, origin: Origin) -> Binding {
    let since = match before.at(at) {
        (State::Active | State::Transitioning | State::Expired, _) => at,
        // Kea's lease manager has told of it already, not knowing why the lease ended.
        (State::Released | State::Reset, since) if before.remote => since,
        _ => return before.clone(),
    };
    Binding {
        last_transaction: Some(at),
        remote: origin == Origin::Remote,
        ..ended(before, State::Released, since)
    }
}

/// Why a lease ended of whose deletion Kea's lease manager has told; `None` if it is not that
/// any more.
pub fn explained(before: &Binding, reason: Reason) -> Option<Binding> {
    let untold = before.state == State::Reset && before.remote;
    untold.then(|| match reason {
        Reason::Command => Binding {
            remote: false,
            ..before.clone()
        },
        Reason::GivenUp => released(before, before.since, Origin::Local),
    })
}

/// The client took another address at `at`, and so gave this one up if it had it still. What was
/// only offered is free again.
pub fn given_up(before: &Binding, at: Time) -> Binding {
    match before.at(at) {
        (State::Active, _) => released(before, at, Origin::Local),
        // The lease was over, and only reserved still.
        (State::Transitioning, since) if before.state == State::Active => {
            ended(before, State::Expired, since)
        }
        (State::Transitioning, _) => available(before, at),
        // Kea forgets the lease, but not when it was over.
        (State::Expired, since) => ended(before, State::Expired, since),
        // Kea's lease manager has told of it already, not knowing why the lease ended.
        (State::Reset, _) if before.remote => released(before, at, Origin::Local),
        _ => before.clone(),
    }
}

/// Kea reclaimed the lease, or recovered the declined address, at `at`.
pub fn reclaimed(before: &Binding, at: Time) -> Binding {
    let (state, since) = before.at(at);
    let over = if state == before.state {
        // Kea's clock decides that it is over, even if ours has a second left; and if an offer took
        // the lease's place in its database, the lease was over when the offer was.
        before.reserved_until.map_or(at, |until| until.min(at))
    } else {
        since
    };
    match before.state {
        State::Active => ended(before, State::Expired, over),
        State::Abandoned | State::Transitioning => available(before, over),
        _ => before.clone(),
    }
}

/// The lease was removed at `at` by an administrator. An address whose lease had ended keeps
/// the state it ended in.
pub fn removed(before: &Binding, at: Time, origin: Origin) -> Binding {
    match before.at(at) {
        (State::Active | State::Transitioning | State::Abandoned, _) => Binding {
            remote: origin == Origin::Remote,
            ..ended(before, State::Reset, at)
        },
        // The lease manager has told of it before it was known who did it.
        (State::Reset, _) if origin == Origin::Local => Binding {
            remote: false,
            ..before.clone()
        },
        (_, _) if before.ends().is_none() => before.clone(),
        (State::Available, since) => available(before, since),
        (state, since) => ended(before, state, since),
    }
}

/// At start-up Kea's database holds `lease`; `saved` is what was known before, written to disk
/// no later than `saved_at` (`None` if nothing ever was). What Kea says wins, and a difference
/// counts as a change: made when the lease says if that is after the last write, else only
/// `now` found out.
pub fn loaded(
    saved: Option<&Binding>,
    lease: &Lease,
    saved_at: Option<Time>,
    now: Time,
) -> Binding {
    let client = client(saved.map(Binding::view), lease, None);
    // The saved end of a lease that lasts says nothing: renewals are not written.
    let known = saved.filter(|saved| is_about(saved.view(), lease, client.as_ref()));
    if let Some(known) = known.filter(|known| is_offer(known, lease)) {
        return known.clone();
    }
    let state = state_of(lease, known.map(Binding::view));
    let unchanged = known.filter(|known| known.state == state);
    let found = match saved_at {
        Some(saved_at) if lease.cltt < saved_at => now,
        _ => lease.cltt.min(now),
    };
    let end = lease.valid_lifetime.end(lease.cltt);
    let since = match (unchanged, state) {
        (Some(saved), _) => saved.since,
        // The state began with the end of the lifetime, whoever noticed when.
        (None, State::Expired | State::Available) => end.unwrap_or(found).min(now),
        _ => found,
    };
    let binding = Binding {
        state,
        since,
        ..started(lease, client, since)
    };
    let binding = match state {
        State::Active | State::Abandoned | State::Transitioning => binding,
        State::Available => return available(&binding, since),
        _ => ended(&binding, state, since),
    };
    Binding {
        last_transaction: known
            .and_then(|saved| saved.last_transaction)
            .max(Some(lease.cltt)),
        remote: unchanged.is_some_and(|saved| saved.remote),
        learned_at: unchanged.and_then(|saved| saved.learned_at),
        ..binding
    }
}

/// At start-up Kea's database holds no lease any more for what was saved as held. Who removed
/// it cannot be known; that it is gone was found `now`.
pub fn vanished(saved: &Binding, now: Time) -> Binding {
    match (saved.state, saved.at(now).0) {
        (State::Active, State::Expired) => ended(saved, State::Expired, now),
        (State::Active, _) => ended(saved, State::Reset, now),
        (State::Abandoned | State::Transitioning, State::Available) => {
            available(saved, saved.at(now).1)
        }
        (State::Abandoned | State::Transitioning, _) => ended(saved, State::Reset, now),
        _ => saved.clone(),
    }
}

/// Whether `lease` is the very offer that is `known` of the address: in Kea's database, which keeps
/// offers too, it looks like a lease, and may even take the place of one.
fn is_offer(known: &Binding, lease: &Lease) -> bool {
    let end = lease.valid_lifetime.end(lease.cltt);
    lease.state == LeaseState::Default
        && match known.state {
            State::Transitioning => known.lease_start == lease.cltt && known.ends() == end,
            // A later lease may come to end with the offer.
            State::Active => {
                known.reserved_until.is_some()
                    && known.reserved_until == end
                    && Some(lease.cltt) <= known.last_transaction
            }
            _ => false,
        }
}

/// Whether what is `known` of an address is about `lease` of `client`, and not about another
/// client or, if Kea holds the lease as ended, an earlier one.
fn is_about(known: BindingRef<'_>, lease: &Lease, client: Option<&Client>) -> bool {
    let same_client = match (known.client, client) {
        (Some(known), Some(new)) => known.is_same_client(new.view()),
        (known, _) => known.is_none(),
    };
    let last_heard_of = known.last_transaction.unwrap_or(known.since);
    same_client && (lease.state == LeaseState::Default || lease.cltt <= last_heard_of)
}

/// The binding that `lease` makes, of a change that took place at `at`.
fn held(
    before: Option<BindingRef<'_>>,
    lease: &Lease,
    client_info: Option<&ClientInfo>,
    at: Time,
) -> Binding {
    let client = client(before, lease, client_info);
    let before = before.filter(|before| match lease.state {
        LeaseState::Default | LeaseState::Declined => true,
        _ => is_about(*before, lease, client.as_ref()),
    });
    let state = state_of(lease, before);
    let mut binding = started(lease, client, at);
    let same_client = match (before.and_then(|before| before.client), &binding.client) {
        (Some(known), Some(new)) => known.is_same_client(new.view()),
        _ => false,
    };
    // A renewal that Kea answered from its cache is not in its database.
    let last_known = before.filter(|_| same_client);
    let last_known = last_known.and_then(|before| before.last_transaction);
    binding.last_transaction = binding.last_transaction.max(last_known);
    match state {
        State::Active => {
            let kept = before.filter(|before| same_client && before.is_active(at));
            Binding {
                // Kea's lease manager may have told of it a second after the message came.
                since: kept.map_or(at, |before| before.since.min(at)),
                ..binding
            }
        }
        State::Abandoned => {
            let kept = before.filter(|before| before.at(at).0 == State::Abandoned);
            Binding {
                state,
                since: kept.map_or(at, |before| before.since),
                ..binding
            }
        }
        // Kea holds a lease that is over, and that was not known.
        _ => {
            let since = match state {
                State::Expired => lease.valid_lifetime.end(lease.cltt).unwrap_or(at).min(at),
                _ => at,
            };
            ended(&binding, state, since)
        }
    }
}

/// The state that Kea's own state of a lease comes to. Kea forgets how a reclaimed lease ended;
/// what is known of it does not.
fn state_of(lease: &Lease, before: Option<BindingRef<'_>>) -> State {
    match lease.state {
        LeaseState::Default => State::Active,
        LeaseState::Declined => State::Abandoned,
        LeaseState::Released => State::Released,
        LeaseState::ExpiredReclaimed => match before.map(|before| before.state) {
            Some(ended @ (State::Released | State::Reset | State::Available)) => ended,
            // Nobody took what was offered.
            Some(State::Transitioning) => State::Available,
            // A release leaves a lifetime of 0 behind.
            _ if lease.valid_lifetime == Lifetime(0) => State::Released,
            _ => State::Expired,
        },
    }
}

/// An active binding with the times of `lease`, in its state since `since`.
fn started(lease: &Lease, client: Option<Client>, since: Time) -> Binding {
    Binding {
        address: lease.address,
        state: State::Active,
        since,
        last_transaction: Some(lease.cltt),
        lease_start: lease.cltt,
        lifetime: lease.valid_lifetime,
        subnet: lease.subnet,
        client,
        remote: false,
        learned_at: None,
        reserved_until: None,
    }
}

/// `before` in a state without an end, since `since`, by this server's doing.
fn ended(before: &Binding, state: State, since: Time) -> Binding {
    Binding {
        state,
        since,
        lifetime: Lifetime(0),
        remote: false,
        reserved_until: None,
        ..before.clone()
    }
}

/// `before` free again and without a client to tell of.
fn available(before: &Binding, since: Time) -> Binding {
    Binding {
        client: None,
        last_transaction: None,
        ..ended(before, State::Available, since)
    }
}

/// The client of `lease`, with what was known of the same client before and what its message
/// told now. A declined lease names no client: the one that declined it was the last.
fn client(
    before: Option<BindingRef<'_>>,
    lease: &Lease,
    client_info: Option<&ClientInfo>,
) -> Option<Client> {
    let known = before.and_then(|before| before.client);
    let anonymous = lease.hardware.octets.is_empty() && lease.client_id.is_empty();
    if anonymous && lease.state != LeaseState::Default {
        return known.map(Client::from);
    }
    let HardwareAddress { htype, octets } = &lease.hardware;
    let leased = ClientParts {
        htype: match known.filter(|_| client_info.is_none()) {
            Some(known) => known.htype_of_lease(*htype, octets),
            None => *htype,
        },
        chaddr: octets,
        client_id: &lease.client_id,
        relay_agent_information: lease.relay_agent_information.as_deref().unwrap_or_default(),
        hostname: &lease.hostname,
        ..ClientParts::default()
    };
    Some(merged(leased, known, client_info))
}

/// The client that Kea has `leased` an address to, with what was `known` of the address's client
/// before, if it is the same, and what its message said now.
fn merged(
    leased: ClientParts<'_>,
    known: Option<ClientRef<'_>>,
    client_info: Option<&ClientInfo>,
) -> Client {
    let same = known.filter(|known| known.has_ids(leased.htype, leased.chaddr, leased.client_id));
    let kept_by_kea = leased.relay_agent_information;
    let information = relay_agent_information(kept_by_kea, known, same, client_info);
    let mut parts = ClientParts {
        relay_agent_information: information,
        stored: match kept_by_kea == information {
            true => &[],
            false => kept_by_kea,
        },
        ..leased
    };
    if let Some(client_info) = client_info {
        let options = client_info.options.iter();
        parts.options = options
            .map(|option| (option.code, &option.value[..]))
            .collect();
        parts.classes = client_info.classes.iter().map(String::as_str).collect();
    }
    if let Some(known) = same {
        // Of each option the value last sent counts (RFC 6926 section 8.3 item 7).
        for (code, value) in known.options() {
            if !parts.options.iter().any(|(sent, _)| *sent == code) {
                parts.options.push((code, value));
            }
        }
        parts.options.sort_by_key(|(code, _)| *code);
        if client_info.is_none() {
            parts.classes = known.classes().collect();
        }
    }
    Client::from(&parts)
}

/// The latest relay agent information received of a client (RFC 4388 section 6.4.2).
///
/// What Kea stores with the lease (`kept_by_kea`, empty if nothing) is the truth when it differs
/// from what Kea was seen to store before. Else it is as old as then, whatever else of the lease is
/// newer: Kea leaves it in place when a message comes without a relay agent, when it answers from its
/// cache, and when it is configured to store no more. A message that has brought another one since counts more.
fn relay_agent_information<'a>(
    kept_by_kea: &'a [u8],
    known: Option<ClientRef<'a>>,
    same: Option<ClientRef<'a>>,
    client_info: Option<&'a ClientInfo>,
) -> &'a [u8] {
    let is_new =
        !kept_by_kea.is_empty() && known.map(ClientRef::stored_by_kea) != Some(kept_by_kea);
    let relayed =
        client_info.and_then(|client_info| client_info.relay_agent_information.as_deref());
    match relayed.filter(|relayed| !relayed.is_empty()) {
        // Kea stores just that, or nothing of this message.
        Some(relayed) => relayed,
        None if is_new => kept_by_kea,
        // A message that came without a relay agent, as a unicast renewal does, leaves the latest
        // information received in place. That none came of this client is known, too.
        None => match same {
            Some(same) => same.relay_agent_information(),
            // An earlier client's, if this one's message was heard and had none.
            None if client_info.is_some() => &[],
            None => kept_by_kea,
        },
    }
}
