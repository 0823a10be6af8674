//! The rules by which a lease event turns one binding into another.
//!
//! Pure functions, without tables: `before` is the present binding of the address, and the result is the binding
//! after the event. A rule that returns an `Option` returns `None` if the event changes nothing. A state begins at
//! the time of its cause. A state that ends by itself (see [`Binding::at`]) ends at that time, even if Kea
//! processes the end later.

#[cfg(test)]
mod tests;

use crate::mirror::event::client_info::MAX_STORED_OCTETS;
use crate::mirror::event::{ClientInfo, Lease, LeaseState, Origin, Reason};
use crate::model::address::HardwareAddress;
use crate::model::binding::{Binding, BindingRef};
use crate::model::client::{Client, ClientIds, ClientParts, ClientRef, are_visibly_equal};
use crate::model::state::State;
use crate::model::time::{Lifetime, Time};

/// Kea answered a client's message and committed `lease`, which is new, renewed, or declined.
pub fn committed(
    before: Option<BindingRef<'_>>,
    lease: &Lease,
    client_info: &ClientInfo,
) -> Binding {
    held(before, lease, Some(client_info), lease.cltt)
}

/// Whether `after` is a lease to another client while the lease of `before` has not ended. Several threads of Kea
/// may lease one address at once, and report the leases in another order.
pub fn is_taken(before: BindingRef<'_>, after: BindingRef<'_>) -> bool {
    let both = before.client.zip(after.client);
    before.is_active(after.since)
        && after.state == State::Active
        && both.is_some_and(|(before, after)| !before.is_same_client(after))
}

/// Whether a binding belongs to `client`. `None` matches every client, and a binding without a client belongs to
/// every client.
pub fn belongs_to(binding: BindingRef<'_>, client: Option<&ClientIds>) -> bool {
    let both = binding.client.zip(client);
    both.is_none_or(|(known, ids)| {
        known.has_ids(ids.hardware.htype, &ids.hardware.octets, &ids.client_id)
    })
}

/// Kea acknowledged at `at` the lease that the `sender` holds, without a change of the lease: only the last
/// transaction of the binding changes. Kea finds a lease by either identifier, so a match of one shows that the
/// address was not leased to another client meanwhile.
pub fn confirmed(
    before: BindingRef<'_>,
    sender: &ClientIds,
    at: Time,
    client_info: &ClientInfo,
) -> Option<Binding> {
    let is_sender = |known: &ClientRef<'_>| {
        known.has_mac(sender.hardware.htype, &sender.hardware.octets)
            || !sender.client_id.is_empty() && known.client_id() == sender.client_id
    };
    let holder = before.client.filter(|_| before.is_active(at));
    let holder = holder.filter(is_sender)?;
    let leased = ClientParts {
        htype: holder.htype(),
        chaddr: holder.chaddr(),
        client_id: holder.client_id(),
        hostname: holder.hostname(),
        // Kea has stored no information of this message.
        relay_agent_information: holder.stored_by_kea(),
        ..ClientParts::default()
    };
    let client = merged(leased, Some(holder), Some(client_info));
    Some(Binding {
        last_transaction: before.last_transaction.max(Some(at)),
        remote: false,
        ..before.with_client(Some(client))
    })
}

/// Kea's lease database holds `lease` at `at`; the cause is not a client's message.
pub fn updated(
    before: Option<BindingRef<'_>>,
    lease: &Lease,
    at: Time,
    origin: Origin,
) -> Option<Binding> {
    let after = Binding {
        remote: origin == Origin::Remote,
        ..held(before, lease, None, at)
    };
    let Some(before) = before else {
        return Some(after);
    };
    let is_same = before.at(at) == after.at(at)
        && are_visibly_equal(before.client, after.client.as_ref().map(Client::view))
        && before.subnet == after.subnet
        && (before.lease_start, before.lifetime) == (after.lease_start, after.lifetime);
    if !is_same && !is_offer(before, lease) && !is_end_known(before, lease, at) {
        return Some(after);
    }
    // Kea's lease manager reports each change before the server that made it is known.
    let remote = before.remote && origin == Origin::Remote;
    // Kea may store relay agent information that the mirror knows from a message. Requesters see no difference,
    // but the information that Kea stores next is compared with it.
    let client = after.client.filter(|_| is_same);
    let client = client.or_else(|| before.client.map(Client::from));
    let after = Binding {
        remote,
        ..before.with_client(client)
    };
    (after.view() != before).then_some(after)
}

/// Whether the end of `lease`, which Kea holds as ended, was known at `at`: from an event, or because the
/// lifetime had ended. Only a release before that end is a change then.
fn is_end_known(known: BindingRef<'_>, lease: &Lease, at: Time) -> bool {
    let ended = match lease.state {
        LeaseState::Default | LeaseState::Declined => return false,
        LeaseState::ExpiredReclaimed => known.at(at).0 != State::Active,
        LeaseState::Released => known.state != State::Active,
    };
    let client = client_of(Some(known), lease, None);
    ended && is_about(known, lease, client.as_ref())
}

/// Kea offered the address, and reserves it by `lease`. If the client of the offer already holds the address, its
/// lease stays active until its end, although the offer replaces it in Kea's lease database.
pub fn offered(before: Option<BindingRef<'_>>, lease: &Lease, client_info: &ClientInfo) -> Binding {
    let client = client_of(before, lease, Some(client_info));
    // The lease manager may have reported this offer before, as a lease of another server.
    let is_reported = |before: &BindingRef<'_>| {
        before.remote
            && before.since >= lease.cltt
            && (before.lease_start, before.lifetime) == (lease.cltt, lease.valid_lifetime)
    };
    match before {
        Some(before) if before.is_active(lease.cltt) && !is_reported(&before) => Binding {
            last_transaction: before.last_transaction.max(Some(lease.cltt)),
            reserved_until: lease.valid_lifetime.end(lease.cltt),
            remote: false,
            ..before.with_client(client)
        },
        _ => Binding {
            state: State::Transitioning,
            ..started(lease, client, lease.cltt)
        },
    }
}

/// The client released the lease at `at`, to this server or another one.
pub fn released(before: BindingRef<'_>, at: Time, origin: Origin) -> Option<Binding> {
    let since = match before.at(at) {
        (State::Active | State::Transitioning | State::Expired, _) => at,
        // Kea's lease manager has reported the end before, without its cause.
        (State::Released | State::Reset, since) if before.remote => since,
        _ => return None,
    };
    Some(Binding {
        last_transaction: Some(at),
        remote: origin == Origin::Remote,
        ..ended(before, State::Released, since)
    })
}

/// A lease whose deletion Kea's lease manager has reported before ended for this `reason`.
pub fn explained(before: BindingRef<'_>, reason: Reason) -> Option<Binding> {
    if before.state != State::Reset || !before.remote {
        return None;
    }
    match reason {
        Reason::Command => Some(Binding {
            remote: false,
            ..before.to_owned()
        }),
        Reason::GivenUp => released(before, before.since, Origin::Local),
    }
}

/// The client accepted another address at `at`, and so gave this one up if it still held it. An address that was
/// only offered is available again.
pub fn given_up(before: BindingRef<'_>, at: Time) -> Option<Binding> {
    match before.at(at) {
        (State::Active, _) => released(before, at, Origin::Local),
        // The lease had ended, and an offer still reserved its address.
        (State::Transitioning, since) if before.state == State::Active => {
            Some(ended(before, State::Expired, since))
        }
        (State::Transitioning, _) => Some(available(before, at)),
        // Kea deletes the lease, and the binding keeps the time of its end.
        (State::Expired, since) => Some(ended(before, State::Expired, since)),
        // Kea's lease manager has reported the end before, without its cause.
        (State::Reset, _) if before.remote => released(before, at, Origin::Local),
        _ => None,
    }
}

/// Kea reclaimed the lease, or recovered the declined address, at `at`.
pub fn reclaimed(before: BindingRef<'_>, at: Time) -> Option<Binding> {
    let (state, since) = before.at(at);
    let ended_at = if state == before.state {
        // Kea's clock decides on the end, even if it is a second ahead of this one. If an offer replaced the
        // lease in Kea's lease database, the lease ended with the offer.
        before.reserved_until.map_or(at, |until| until.min(at))
    } else {
        since
    };
    match before.state {
        State::Active => Some(ended(before, State::Expired, ended_at)),
        State::Abandoned | State::Transitioning => Some(available(before, ended_at)),
        _ => None,
    }
}

/// An administrator removed the lease at `at`. An address whose lease had ended before keeps its state.
pub fn removed(before: BindingRef<'_>, at: Time, origin: Origin) -> Option<Binding> {
    match before.at(at) {
        (State::Active | State::Transitioning | State::Abandoned, _) => Some(Binding {
            remote: origin == Origin::Remote,
            ..ended(before, State::Reset, at)
        }),
        // The lease manager has reported the removal before, without its origin.
        (State::Reset, _) if origin == Origin::Local => Some(Binding {
            remote: false,
            ..before.to_owned()
        }),
        (_, _) if before.ends().is_none() => None,
        (State::Available, since) => Some(available(before, since)),
        (state, since) => Some(ended(before, state, since)),
    }
}

/// Kea's lease database holds `lease` at a start. `saved` is the binding in the state file, which was last
/// written at `saved_at` (`None` for a new file). Kea's lease database has precedence, and a difference counts
/// as a change: at the time in the lease if that is after the last write, else at `now`.
pub fn loaded(
    saved: Option<BindingRef<'_>>,
    lease: &Lease,
    saved_at: Option<Time>,
    now: Time,
) -> Binding {
    let client = client_of(saved, lease, None);
    // The saved end of an active lease is meaningless: the state file lacks renewals.
    let known = saved.filter(|saved| is_about(*saved, lease, client.as_ref()));
    if let Some(known) = known.filter(|known| is_offer(*known, lease)) {
        return known.to_owned();
    }
    let state = state_of(lease, known);
    let unchanged = known.filter(|known| known.state == state);
    let found = match saved_at {
        Some(saved_at) if lease.cltt < saved_at => now,
        _ => lease.cltt.min(now),
    };
    let end = lease.valid_lifetime.end(lease.cltt);
    let since = match (unchanged, state) {
        (Some(saved), _) => saved.since,
        // The state began at the end of the lifetime, whenever it was processed.
        (None, State::Expired | State::Available) => end.unwrap_or(found).min(now),
        _ => found,
    };
    let binding = Binding {
        state,
        ..started(lease, client, since)
    };
    let binding = match state {
        State::Active | State::Abandoned | State::Transitioning => binding,
        State::Available => return available(binding.view(), since),
        _ => ended(binding.view(), state, since),
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

/// Kea's lease database lacks, at a start, the lease of an address that the state file has as leased. The cause
/// is unknown, and the end counts as a change at `now`.
pub fn vanished(saved: BindingRef<'_>, now: Time) -> Option<Binding> {
    match (saved.state, saved.at(now).0) {
        (State::Active, State::Expired) => Some(ended(saved, State::Expired, now)),
        (State::Active, _) => Some(ended(saved, State::Reset, now)),
        (State::Abandoned | State::Transitioning, State::Available) => {
            Some(available(saved, saved.at(now).1))
        }
        (State::Abandoned | State::Transitioning, _) => Some(ended(saved, State::Reset, now)),
        _ => None,
    }
}

/// Whether `lease` is the offer in the `known` binding of the address. Kea's lease database also holds offers,
/// which look like leases, and may replace one.
fn is_offer(known: BindingRef<'_>, lease: &Lease) -> bool {
    let end = lease.valid_lifetime.end(lease.cltt);
    lease.state == LeaseState::Default
        && match known.state {
            State::Transitioning => known.lease_start == lease.cltt && known.ends() == end,
            // A later lease may end at the same time as the offer.
            State::Active => {
                known.reserved_until.is_some()
                    && known.reserved_until == end
                    && Some(lease.cltt) <= known.last_transaction
            }
            _ => false,
        }
}

/// Whether the `known` binding of an address is that of `lease` to `client`, rather than that of another client
/// or, if Kea holds the lease as ended, that of an earlier lease.
fn is_about(known: BindingRef<'_>, lease: &Lease, client: Option<&Client>) -> bool {
    let same_client = match (known.client, client) {
        (Some(known), Some(new)) => known.is_same_client(new.view()),
        (known, _) => known.is_none(),
    };
    let last_known = known.last_transaction.unwrap_or(known.since);
    same_client && (lease.state == LeaseState::Default || lease.cltt <= last_known)
}

/// Returns the binding of `lease` after a change that took place at `at`.
fn held(
    before: Option<BindingRef<'_>>,
    lease: &Lease,
    client_info: Option<&ClientInfo>,
    at: Time,
) -> Binding {
    let client = client_of(before, lease, client_info);
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
    // A renewal that Kea answered from its cache is not in Kea's lease database.
    let last_known = before.filter(|_| same_client);
    let last_known = last_known.and_then(|before| before.last_transaction);
    binding.last_transaction = binding.last_transaction.max(last_known);
    match state {
        State::Active => {
            let kept = before.filter(|before| same_client && before.is_active(at));
            // Kea's lease manager may report the lease a second after the client's message.
            binding.since = kept.map_or(at, |before| before.since.min(at));
            binding
        }
        State::Abandoned => {
            let kept = before.filter(|before| before.at(at).0 == State::Abandoned);
            binding.state = state;
            binding.since = kept.map_or(at, |before| before.since);
            binding
        }
        // Kea holds a lease as ended whose end was unknown before.
        _ => {
            let since = match state {
                State::Expired => lease.valid_lifetime.end(lease.cltt).unwrap_or(at).min(at),
                _ => at,
            };
            ended(binding.view(), state, since)
        }
    }
}

/// Returns the state of a binding by Kea's state of its lease. Kea does not keep the cause of the end of a
/// reclaimed lease; the binding `before` does.
fn state_of(lease: &Lease, before: Option<BindingRef<'_>>) -> State {
    match lease.state {
        LeaseState::Default => State::Active,
        LeaseState::Declined => State::Abandoned,
        LeaseState::Released => State::Released,
        LeaseState::ExpiredReclaimed => match before.map(|before| before.state) {
            Some(ended @ (State::Released | State::Reset | State::Available)) => ended,
            // The offer was not accepted.
            Some(State::Transitioning) => State::Available,
            // Kea sets the lifetime of a released lease to 0.
            _ if lease.valid_lifetime == Lifetime(0) => State::Released,
            _ => State::Expired,
        },
    }
}

/// Returns an active binding with the times of `lease`, active since `since`.
fn started(lease: &Lease, client: Option<Client>, since: Time) -> Binding {
    Binding {
        state: State::Active,
        last_transaction: Some(lease.cltt),
        lease_start: lease.cltt,
        lifetime: lease.valid_lifetime,
        client,
        ..Binding::free(lease.address, lease.subnet, since)
    }
}

/// Returns `before` in a state without an end, since `since`, of origin local.
fn ended(before: BindingRef<'_>, state: State, since: Time) -> Binding {
    Binding {
        state,
        since,
        lifetime: Lifetime(0),
        remote: false,
        reserved_until: None,
        ..before.to_owned()
    }
}

/// Returns `before` available again, without a client.
fn available(before: BindingRef<'_>, since: Time) -> Binding {
    Binding {
        last_transaction: None,
        ..ended(before.with_client(None), State::Available, since)
    }
}

/// Returns the client of `lease`, with the facts of the same client in the binding `before`, and those of its
/// message. A declined lease has no client: the last one declined it.
fn client_of(
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

/// Returns the client that Kea `leased` an address to, with the facts of the `known` client of this address, if
/// both are the same, and those of its message.
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
        // The last value sent of each option counts (RFC 6926 section 8.3 item 7), as far as the values of a client
        // fit.
        let mut octets: usize = parts.options.iter().map(|(_, value)| value.len()).sum();
        for (code, value) in known.options() {
            let is_sent = parts.options.iter().any(|(sent, _)| *sent == code);
            if !is_sent && octets + value.len() <= MAX_STORED_OCTETS {
                octets += value.len();
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

/// Returns the latest relay agent information received about a client (RFC 4388 section 6.4.2).
///
/// The information that Kea stores with the lease (`kept_by_kea`, empty if none) counts if it differs from
/// that of the lease before. Otherwise it is as old as that lease, even if the rest of the lease is newer: Kea
/// does not remove it if a later message comes without a relay agent, if Kea answers from its cache, or if
/// Kea is configured to store none from now on. Information from a message since then is later.
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
        // Kea stores the same information, or none of this message.
        Some(relayed) => relayed,
        None if is_new => kept_by_kea,
        // A message without a relay agent, such as a unicast renewal, does not change the latest information
        // received, even if there is none.
        None => match same {
            Some(same) => same.relay_agent_information(),
            // If the message of this client had none, the stored information is that of an earlier client.
            None if client_info.is_some() => &[],
            None => kept_by_kea,
        },
    }
}
