//! From a binding and what happened to it, the binding after it.
//!
//! Pure rules, no tables: `before` is what is known of the address so far, `None` if nothing.
//! The states and their times are those of the contract: a state begins when its cause did,
//! and a state that has run out (see [`Binding::at`]) ended then, whenever Kea noticed.

use std::sync::Arc;

use crate::binding::{Binding, Client, HardwareAddress, State};
use crate::event::{Heard, Lease, LeaseState, Origin};
use crate::time::{Lifetime, Time};

/// A client's message led to `lease`: it is new, renewed, or declined.
pub fn committed(before: Option<&Binding>, lease: &Lease, heard: &Heard) -> Binding {
    held(before, lease, Some(heard), lease.cltt)
}

/// The client asked at `at` for the lease it has, and has it still as it was: a transaction, and
/// nothing else. Somebody else's asking changes nothing.
pub fn confirmed(
    before: &Binding,
    hardware: &HardwareAddress,
    client_id: &[u8],
    at: Time,
    heard: &Heard,
) -> Binding {
    let sender = Client {
        hardware: hardware.clone(),
        client_id: client_id.to_vec(),
        ..Client::default()
    };
    let Some(known) = before
        .client
        .as_deref()
        .filter(|known| before.is_active(at) && known.is_same_client(&sender))
    else {
        return before.clone();
    };
    let lease = Lease {
        address: before.address,
        state: LeaseState::Default,
        cltt: before.lease_start,
        valid_lifetime: before.lifetime,
        subnet: before.subnet,
        hardware: known.hardware.clone(),
        client_id: known.client_id.clone(),
        hostname: known.hostname.clone(),
        relay_agent_information: None,
    };
    Binding {
        last_transaction: before.last_transaction.max(Some(at)),
        client: client(Some(before), &lease, Some(heard), Stored::Old),
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
        remote: origin == Origin::Elsewhere,
        ..held(before, lease, None, at)
    };
    if let Some(before) = before {
        let known = is_offer(before, lease)
            || is_known_to_be_over(before, lease, at)
            || before.at(at) == after.at(at)
                && before.client == after.client
                && before.subnet == after.subnet
                && (before.lease_start, before.lifetime) == (after.lease_start, after.lifetime);
        if known {
            // Kea's lease manager tells of each change before it is known who made it.
            if origin == Origin::Elsewhere || !before.remote {
                return None;
            }
            after = Binding {
                remote: false,
                ..before.clone()
            };
        }
    }
    Some(after)
}

/// Whether `lease`, which Kea holds as ended, was known at `at` to be over: by an event, or because
/// its time was over. Only a release before that is news then.
fn is_known_to_be_over(known: &Binding, lease: &Lease, at: Time) -> bool {
    let ended = match lease.state {
        LeaseState::Default | LeaseState::Declined => return false,
        LeaseState::ExpiredReclaimed => known.at(at).0 != State::Active,
        LeaseState::Released => known.state != State::Active,
    };
    let client = client(Some(known), lease, None, Stored::Old);
    ended && is_about(known, lease, client.as_deref())
}

/// The address was offered and is reserved by `lease`. A client that holds the lease already
/// and asks again has it to its end, whatever Kea then makes of it.
pub fn offered(before: Option<&Binding>, lease: &Lease, heard: &Heard) -> Binding {
    // The lease manager told of the very same before, not knowing that it is an offer.
    let told = |before: &Binding| {
        before.remote
            && before.since >= lease.cltt
            && (before.lease_start, before.lifetime) == (lease.cltt, lease.valid_lifetime)
    };
    match before {
        Some(before) if before.is_active(lease.cltt) && !told(before) => Binding {
            last_transaction: before.last_transaction.max(Some(lease.cltt)),
            client: client(Some(before), lease, Some(heard), Stored::Old),
            reserved_until: lease.valid_lifetime.end(lease.cltt),
            ..before.clone()
        },
        _ => Binding {
            state: State::Transitioning,
            ..started(
                lease,
                client(before, lease, Some(heard), Stored::Old),
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
        remote: origin == Origin::Elsewhere,
        ..ended(before, State::Released, since)
    }
}

/// The client took another address at `at`, and so gave this one up if it had it still. What was
/// only offered is free again.
pub fn given_up(before: &Binding, at: Time) -> Binding {
    match before.at(at).0 {
        State::Active => released(before, at, Origin::Here),
        State::Transitioning => available(before, at),
        // Kea's lease manager has told of it already, not knowing why the lease ended.
        State::Reset if before.remote => released(before, at, Origin::Here),
        _ => before.clone(),
    }
}

/// Kea reclaimed the lease, or recovered the declined address, at `at`.
pub fn reclaimed(before: &Binding, at: Time) -> Binding {
    let (state, since) = before.at(at);
    // Kea's clock decides that it is over, even if ours has a second left.
    let over = if state == before.state { at } else { since };
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
            remote: origin == Origin::Elsewhere,
            ..ended(before, State::Reset, at)
        },
        // The lease manager has told of it before it was known who did it.
        (State::Reset, _) if origin == Origin::Here => Binding {
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
    // All that was heard of is saved; renewals alone are not.
    let client = client(saved, lease, None, Stored::Old);
    // The saved end of a lease that lasts says nothing: renewals are not written.
    let known = saved.filter(|saved| is_about(saved, lease, client.as_deref()));
    if let Some(known) = known.filter(|known| is_offer(known, lease)) {
        return known.clone();
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
        // The state began with the end of the lifetime, whoever noticed when.
        (None, State::Expired | State::Available) => end.unwrap_or(found).min(now),
        _ => found,
    };
    let binding = Binding {
        state,
        since,
        ..started(lease, client, since)
    };
    match state {
        State::Active | State::Abandoned | State::Transitioning => binding,
        State::Available => available(&binding, since),
        _ => Binding {
            last_transaction: unchanged
                .and_then(|saved| saved.last_transaction)
                .max(Some(lease.cltt)),
            ..ended(&binding, state, since)
        },
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
            State::Active => known.reserved_until.is_some() && known.reserved_until == end,
            _ => false,
        }
}

/// Whether what is `known` of an address is about `lease` of `client`, and not about another
/// client or, if Kea holds the lease as ended, an earlier one.
fn is_about(known: &Binding, lease: &Lease, client: Option<&Client>) -> bool {
    let same_client = match (known.client.as_deref(), client) {
        (Some(known), Some(new)) => known.is_same_client(new),
        (known, _) => known.is_none(),
    };
    let last_heard_of = known.last_transaction.unwrap_or(known.since);
    same_client && (lease.state == LeaseState::Default || lease.cltt <= last_heard_of)
}

/// The binding that `lease` makes, of a change that took place at `at`.
fn held(before: Option<&Binding>, lease: &Lease, heard: Option<&Heard>, at: Time) -> Binding {
    let stored = match before {
        Some(before) if before.lease_start >= lease.cltt => Stored::Old,
        _ => Stored::New,
    };
    let client = client(before, lease, heard, stored);
    let before = before.filter(|before| match lease.state {
        LeaseState::Default | LeaseState::Declined => true,
        _ => is_about(before, lease, client.as_deref()),
    });
    let state = state_of(lease, before);
    let binding = started(lease, client, at);
    let same_client = match (before.and_then(|b| b.client.as_deref()), &binding.client) {
        (Some(known), Some(new)) => known.is_same_client(new),
        _ => false,
    };
    match state {
        State::Active => {
            let kept = before.filter(|before| same_client && before.is_active(at));
            Binding {
                // Kea's lease manager may have told of it a second after the message came.
                since: kept.map_or(at, |before| before.since.min(at)),
                // A renewal that Kea answered from a fresh lease is not in its database.
                last_transaction: kept
                    .and_then(|before| before.last_transaction)
                    .max(binding.last_transaction),
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
fn state_of(lease: &Lease, before: Option<&Binding>) -> State {
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
fn started(lease: &Lease, client: Option<Arc<Client>>, since: Time) -> Binding {
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
        noticed: None,
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

/// What the relay agent information that Kea stores with a lease is worth. It may be of an earlier
/// message, and even of an earlier client: Kea leaves it in place when it is told to store no more.
#[derive(Clone, Copy, Debug)]
enum Stored {
    /// It came with a message that this server has not heard.
    New,
    /// It is good where nothing else is known.
    Old,
}

/// The client of `lease`, with what was known of the same client before and what its message
/// told now. A declined lease names no client: the one that declined it was the last.
fn client(
    before: Option<&Binding>,
    lease: &Lease,
    heard: Option<&Heard>,
    stored: Stored,
) -> Option<Arc<Client>> {
    let known = before.and_then(|before| before.client.as_ref());
    let anonymous = lease.hardware.octets.is_empty() && lease.client_id.is_empty();
    if anonymous && lease.state != LeaseState::Default {
        return known.cloned();
    }
    let mut client = Client {
        hardware: lease.hardware.clone(),
        client_id: lease.client_id.clone(),
        hostname: lease.hostname.clone(),
        ..Client::default()
    };
    let known = known.filter(|known| known.is_same_client(&client));
    // A message that came without a relay agent, as a unicast renewal does, leaves the latest
    // information received in place (RFC 4388 section 6.4.2).
    let heard_now = heard.and_then(|heard| heard.relay_agent_information.as_ref());
    let known_before = known.map(|known| &known.relay_agent_information);
    let kept_by_kea = lease.relay_agent_information.as_ref();
    let in_order = match stored {
        Stored::New => [heard_now, kept_by_kea, known_before],
        // That none was heard of this client is known, too.
        Stored::Old => [
            heard_now,
            known_before,
            kept_by_kea.filter(|_| known.is_none()),
        ],
    };
    client.relay_agent_information = in_order
        .into_iter()
        .flatten()
        .find(|information| !information.is_empty())
        .cloned()
        .unwrap_or_default();
    if let Some(heard) = heard {
        client.options.clone_from(&heard.options);
        client.classes.clone_from(&heard.classes);
    }
    if let Some(known) = known {
        // Of each option the value last sent counts (RFC 6926 section 8.3 item 7).
        for option in &known.options {
            if client.option(option.code).is_none() {
                client.options.push(option.clone());
            }
        }
        client.options.sort_by_key(|option| option.code);
        if heard.is_none() {
            client.classes.clone_from(&known.classes);
        }
        if **known == client {
            return Some(Arc::clone(known));
        }
    }
    Some(Arc::new(client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::{RawOption, SubnetId};
    use std::net::Ipv4Addr;

    /// A lease of an hour to client `client`, last heard of at `cltt`.
    fn lease(client: u8, cltt: u32) -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 0, 9),
            state: LeaseState::Default,
            cltt: Time(cltt),
            valid_lifetime: Lifetime(3600),
            subnet: SubnetId(1),
            hardware: HardwareAddress {
                htype: 1,
                octets: vec![2, 0, 0, 0, 0, client],
            },
            client_id: Vec::new(),
            hostname: Vec::new(),
            relay_agent_information: None,
        }
    }

    fn nothing_heard() -> Heard {
        Heard::default()
    }

    /// State and start-time-of-state at `now`.
    fn at(binding: &Binding, now: u32) -> (State, u32) {
        let (state, since) = binding.at(Time(now));
        (state, since.0)
    }

    #[test]
    fn a_new_lease_is_active_since_it_was_committed() {
        let binding = committed(None, &lease(1, 100), &nothing_heard());
        assert_eq!(at(&binding, 100), (State::Active, 100));
        assert_eq!(binding.last_transaction, Some(Time(100)));
    }

    #[test]
    fn a_renewal_changes_the_last_transaction_but_not_the_start_of_the_state() {
        let first = committed(None, &lease(1, 100), &nothing_heard());
        let renewed = committed(Some(&first), &lease(1, 200), &nothing_heard());
        assert_eq!(at(&renewed, 200), (State::Active, 100));
        assert_eq!(renewed.last_transaction, Some(Time(200)));
        assert_eq!(renewed.ends(), Some(Time(3800)));
    }

    #[test]
    fn a_lease_confirmed_unchanged_is_a_transaction_of_its_client_only() {
        let first = committed(None, &lease(1, 100), &nothing_heard());
        let relayed = Heard {
            relay_agent_information: Some(vec![2, 1, 7]),
            ..nothing_heard()
        };
        let ask = |client| confirmed(&first, &lease(client, 0).hardware, &[], Time(200), &relayed);
        let own = ask(1);
        assert_eq!(at(&own, 200), (State::Active, 100));
        assert_eq!(own.last_transaction, Some(Time(200)));
        assert_eq!(own.ends(), first.ends());
        let client = own.client.unwrap();
        assert_eq!(client.relay_agent_information, [2, 1, 7]);
        assert_eq!(ask(2), first);
        let late = confirmed(&first, &lease(1, 0).hardware, &[], Time(9000), &relayed);
        assert_eq!(late, first);
    }

    #[test]
    fn an_address_that_goes_to_another_client_starts_anew() {
        let first = committed(None, &lease(1, 100), &nothing_heard());
        let second = committed(Some(&first), &lease(2, 200), &nothing_heard());
        assert_eq!(at(&second, 200), (State::Active, 200));
    }

    #[test]
    fn a_lease_expires_when_its_lifetime_ends_not_when_kea_reclaims_it() {
        let active = committed(None, &lease(1, 100), &nothing_heard());
        assert_eq!(at(&active, 3699), (State::Active, 100));
        assert_eq!(at(&active, 3700), (State::Expired, 3700));
        let expired = reclaimed(&active, Time(5000));
        assert_eq!(at(&expired, 9999), (State::Expired, 3700));
        assert_eq!(expired.client, active.client);
        let renewed = committed(Some(&active), &lease(1, 4000), &nothing_heard());
        assert_eq!(at(&renewed, 4000), (State::Active, 4000));
    }

    #[test]
    fn a_release_is_a_transaction_of_the_client_and_outlives_reclamation_and_removal() {
        let active = committed(None, &lease(1, 100), &nothing_heard());
        let released = released(&active, Time(150), Origin::Here);
        assert_eq!(at(&released, 9999), (State::Released, 150));
        assert_eq!(released.last_transaction, Some(Time(150)));
        assert_eq!(reclaimed(&released, Time(160)), released);
        assert_eq!(removed(&released, Time(170), Origin::Here), released);
    }

    #[test]
    fn a_declined_address_keeps_its_client_until_probation_ends() {
        let active = committed(None, &lease(1, 100), &nothing_heard());
        let declined = Lease {
            state: LeaseState::Declined,
            hardware: HardwareAddress::default(),
            valid_lifetime: Lifetime(60),
            ..lease(1, 200)
        };
        let abandoned = committed(Some(&active), &declined, &nothing_heard());
        assert_eq!(at(&abandoned, 259), (State::Abandoned, 200));
        assert_eq!(abandoned.client, active.client);
        assert_eq!(at(&abandoned, 260), (State::Available, 260));
        let recovered = reclaimed(&abandoned, Time(300));
        assert_eq!(at(&recovered, 300), (State::Available, 260));
        assert_eq!(recovered.client, None);
    }

    #[test]
    fn an_administrators_deletion_resets_what_was_held() {
        let active = committed(None, &lease(1, 100), &nothing_heard());
        assert_eq!(
            at(&removed(&active, Time(150), Origin::Here), 150),
            (State::Reset, 150)
        );
        // What had expired keeps the state it ended in.
        assert_eq!(
            at(&removed(&active, Time(5000), Origin::Here), 5000),
            (State::Expired, 3700)
        );
    }

    #[test]
    fn an_offer_reserves_a_free_address_and_leaves_a_lease_alone() {
        let offer = Lease {
            valid_lifetime: Lifetime(60),
            ..lease(1, 100)
        };
        let offered_binding = offered(None, &offer, &nothing_heard());
        assert_eq!(at(&offered_binding, 100), (State::Transitioning, 100));
        assert_eq!(at(&offered_binding, 160), (State::Available, 160));
        let active = committed(Some(&offered_binding), &lease(1, 105), &nothing_heard());
        assert_eq!(at(&active, 105), (State::Active, 105));
        let asked = offered(Some(&active), &offer, &nothing_heard());
        assert_eq!(
            (at(&asked, 3704), at(&asked, 3705)),
            (at(&active, 3704), at(&active, 3705))
        );
        // Close to the end of a lease the offer keeps the address longer, which is what Kea's
        // database then holds.
        let late = Lease {
            valid_lifetime: Lifetime(60),
            ..lease(1, 3700)
        };
        let longer = offered(Some(&active), &late, &nothing_heard());
        assert_eq!(
            updated(Some(&longer), &late, Time(3701), Origin::Elsewhere),
            None
        );
        let saved = loaded(Some(&longer), &late, Some(Time(3700)), Time(3701));
        for binding in [longer, saved] {
            assert_eq!(at(&binding, 3704), (State::Active, 105));
            assert_eq!(at(&binding, 3705), (State::Transitioning, 3705));
            assert_eq!(at(&binding, 3760), (State::Expired, 3760));
            let taken = committed(Some(&binding), &lease(1, 3750), &nothing_heard());
            assert_eq!(at(&taken, 3760), (State::Active, 3750));
        }
    }

    #[test]
    fn relay_information_stays_when_a_renewal_comes_without_a_relay() {
        let relayed = Heard {
            relay_agent_information: Some(vec![2, 1, 7]),
            ..nothing_heard()
        };
        let first = committed(None, &lease(1, 100), &relayed);
        let renewed = committed(Some(&first), &lease(1, 200), &nothing_heard());
        let information = |binding: &Binding| {
            let client = binding.client.as_ref().unwrap();
            client.relay_agent_information.clone()
        };
        assert_eq!(information(&renewed), [2, 1, 7]);
        let stranger = committed(Some(&renewed), &lease(2, 300), &nothing_heard());
        assert!(information(&stranger).is_empty());
    }

    #[test]
    fn of_each_client_option_the_value_last_sent_is_kept() {
        let sent = |options: &[(u8, &[u8])]| Heard {
            options: options
                .iter()
                .map(|(code, value)| RawOption {
                    code: *code,
                    value: value.to_vec(),
                })
                .collect(),
            ..nothing_heard()
        };
        let first = committed(None, &lease(1, 100), &sent(&[(12, b"a"), (60, b"v")]));
        let renewed = committed(Some(&first), &lease(1, 200), &sent(&[(12, b"b")]));
        let client = renewed.client.unwrap();
        assert_eq!(client.option(12), Some(&b"b"[..]));
        assert_eq!(client.option(60), Some(&b"v"[..]));
    }

    #[test]
    fn loading_what_was_saved_changes_nothing() {
        let saved = committed(None, &lease(1, 100), &nothing_heard());
        // Renewed since, which is not written.
        let binding = loaded(Some(&saved), &lease(1, 2000), Some(Time(100)), Time(2500));
        assert_eq!(at(&binding, 2500), (State::Active, 100));
        assert_eq!(binding.last_transaction, Some(Time(2000)));
    }

    #[test]
    fn an_offer_that_was_saved_is_loaded_as_an_offer_and_acknowledged_as_a_lease() {
        let offer = Lease {
            valid_lifetime: Lifetime(60),
            ..lease(1, 100)
        };
        let saved = offered(None, &offer, &nothing_heard());
        let load = |lease: &Lease| loaded(Some(&saved), lease, Some(Time(100)), Time(110));
        assert_eq!(at(&load(&offer), 110), (State::Transitioning, 100));
        assert_eq!(at(&load(&offer), 160), (State::Available, 160));
        assert_eq!(at(&load(&lease(1, 105)), 110), (State::Active, 105));
        assert_eq!(at(&load(&lease(1, 100)), 110), (State::Active, 100));
    }

    #[test]
    fn loading_without_a_state_file_dates_leases_by_their_last_transaction() {
        let binding = loaded(None, &lease(1, 100), None, Time(500));
        assert_eq!(at(&binding, 500), (State::Active, 100));
        let binding = loaded(None, &lease(1, 100), None, Time(9000));
        assert_eq!(at(&binding, 9000), (State::Expired, 3700));
    }

    #[test]
    fn a_difference_found_at_start_counts_as_a_change() {
        let saved = released(
            &committed(None, &lease(1, 100), &nothing_heard()),
            Time(150),
            Origin::Here,
        );
        // Leased after the last write: at the time the lease tells.
        let later = loaded(Some(&saved), &lease(2, 300), Some(Time(200)), Time(400));
        assert_eq!(at(&later, 400), (State::Active, 300));
        // By its times leased before: nobody was told, so it counts from now.
        let earlier = loaded(Some(&saved), &lease(2, 180), Some(Time(200)), Time(400));
        assert_eq!(at(&earlier, 400), (State::Active, 400));
    }

    #[test]
    fn a_later_lease_that_ended_meanwhile_counts_as_a_change_too() {
        let active = committed(None, &lease(1, 100), &nothing_heard());
        let saved = removed(&active, Time(150), Origin::Here);
        let load = |client, cltt, state, lifetime| {
            let ended = Lease {
                state,
                valid_lifetime: Lifetime(lifetime),
                ..lease(client, cltt)
            };
            at(
                &loaded(Some(&saved), &ended, Some(Time(200)), Time(900)),
                900,
            )
        };
        // The lease that was reset, which Kea holds still.
        let reclaimed = LeaseState::ExpiredReclaimed;
        assert_eq!(load(1, 100, reclaimed, 3600), (State::Reset, 150));
        // The same client's next one, and another client's.
        assert_eq!(load(1, 300, reclaimed, 60), (State::Expired, 360));
        assert_eq!(load(2, 300, reclaimed, 60), (State::Expired, 360));
        assert_eq!(
            load(2, 300, LeaseState::Released, 0),
            (State::Released, 300)
        );
        let released_before = released(&active, Time(150), Origin::Here);
        let other = Lease {
            state: LeaseState::Released,
            valid_lifetime: Lifetime(0),
            ..lease(2, 300)
        };
        let binding = loaded(Some(&released_before), &other, Some(Time(200)), Time(900));
        assert_eq!(at(&binding, 900), (State::Released, 300));
    }

    #[test]
    fn what_kea_lost_is_reset_and_what_had_ended_stays_as_it_was() {
        let active = committed(None, &lease(1, 100), &nothing_heard());
        assert_eq!(at(&vanished(&active, Time(500)), 500), (State::Reset, 500));
        let released = released(&active, Time(150), Origin::Here);
        assert_eq!(vanished(&released, Time(500)), released);
    }

    /// What Kea's lease manager says, before a callout says why.
    fn told(before: Option<&Binding>, lease: &Lease, at: u32) -> Binding {
        updated(before, lease, Time(at), Origin::Elsewhere).unwrap()
    }

    #[test]
    fn what_another_server_changed_is_remote_since_it_was_told_of_and_what_it_knew_is_no_change() {
        let active = committed(None, &lease(1, 100), &nothing_heard());
        assert!(!active.is_remote(Time(100)));
        let renewed = told(Some(&active), &lease(1, 200), 230);
        assert_eq!(at(&renewed, 230), (State::Active, 100));
        assert_eq!(renewed.last_transaction, Some(Time(200)));
        assert!(renewed.remote);
        let same = updated(Some(&renewed), &lease(1, 200), Time(240), Origin::Elsewhere);
        assert_eq!(same, None);
        let other = told(Some(&renewed), &lease(2, 250), 260);
        assert_eq!(at(&other, 260), (State::Active, 260));
        // What ends by itself ends here too, and what a client says here is said here.
        assert!(other.is_remote(Time(3849)) && !other.is_remote(Time(3850)));
        let again = committed(Some(&other), &lease(2, 300), &nothing_heard());
        assert!(!again.is_remote(Time(300)));
    }

    #[test]
    fn a_callout_or_command_that_follows_says_who_made_a_change_and_why() {
        // The second may have changed since the client's message came.
        let leased = told(None, &lease(1, 100), 101);
        let leased = committed(Some(&leased), &lease(1, 100), &nothing_heard());
        assert_eq!(
            (at(&leased, 101), leased.remote),
            ((State::Active, 100), false)
        );
        let ended = Lease {
            state: LeaseState::Released,
            valid_lifetime: Lifetime(0),
            ..lease(1, 200)
        };
        for before in [
            told(Some(&leased), &ended, 200),
            removed(&leased, Time(200), Origin::Elsewhere),
        ] {
            assert!(before.is_remote(Time(200)));
            let after = released(&before, Time(200), Origin::Here);
            assert_eq!(at(&after, 200), (State::Released, 200));
            assert!(!after.remote);
            let elsewhere = released(&before, Time(200), Origin::Elsewhere);
            assert_eq!(at(&elsewhere, 200), (State::Released, 200));
            assert!(elsewhere.is_remote(Time(200)));
        }
        let gone = removed(&leased, Time(200), Origin::Elsewhere);
        let reset = removed(&gone, Time(200), Origin::Here);
        assert_eq!(
            (at(&reset, 200), reset.remote),
            ((State::Reset, 200), false)
        );
        let updated = updated(
            Some(&told(None, &lease(1, 100), 100)),
            &lease(1, 100),
            Time(100),
            Origin::Here,
        );
        assert!(!updated.unwrap().remote);
    }

    #[test]
    fn an_offer_stays_an_offer_whoever_else_tells_of_it() {
        let offer = Lease {
            valid_lifetime: Lifetime(60),
            ..lease(1, 100)
        };
        let offered_first = offered(None, &offer, &nothing_heard());
        let again = updated(Some(&offered_first), &offer, Time(101), Origin::Elsewhere);
        assert_eq!(again, None);
        let told_first = told(None, &offer, 101);
        let binding = offered(Some(&told_first), &offer, &nothing_heard());
        assert_eq!(at(&binding, 101), (State::Transitioning, 100));
        let acknowledged = told(Some(&binding), &lease(1, 105), 105);
        assert_eq!(at(&acknowledged, 105), (State::Active, 105));
    }

    #[test]
    fn an_offer_that_nobody_took_is_available_again_whatever_kea_makes_of_it() {
        let offer = Lease {
            valid_lifetime: Lifetime(60),
            ..lease(1, 100)
        };
        let lapsed = offered(None, &offer, &nothing_heard());
        let swept = Lease {
            state: LeaseState::ExpiredReclaimed,
            ..offer
        };
        let tell = |before: &Binding| updated(Some(before), &swept, Time(170), Origin::Elsewhere);
        assert_eq!(tell(&lapsed), None);
        let available = reclaimed(&lapsed, Time(165));
        assert_eq!(at(&available, 165), (State::Available, 160));
        assert_eq!(tell(&available), None);
        for saved in [&lapsed, &available] {
            let binding = loaded(Some(saved), &swept, Some(Time(100)), Time(170));
            assert_eq!(at(&binding, 170), (State::Available, 160));
            assert_eq!(binding.client, None);
        }
    }

    #[test]
    fn what_ended_elsewhere_before_its_time_was_released_and_what_ended_in_time_has_expired() {
        let active = committed(None, &lease(1, 100), &nothing_heard());
        let ended = |state, lifetime| Lease {
            state,
            valid_lifetime: Lifetime(lifetime),
            ..lease(1, 100)
        };
        let expired = ended(LeaseState::ExpiredReclaimed, 3600);
        // That is known without being told.
        let swept = updated(Some(&active), &expired, Time(4000), Origin::Elsewhere);
        assert_eq!(swept, None);
        let released = told(Some(&active), &ended(LeaseState::Released, 0), 4000);
        assert_eq!(at(&released, 4000), (State::Released, 4000));
    }

    #[test]
    fn a_reclaimed_lease_without_a_lifetime_was_released() {
        let reclaimed = Lease {
            state: LeaseState::ExpiredReclaimed,
            valid_lifetime: Lifetime(0),
            ..lease(1, 100)
        };
        let binding = loaded(None, &reclaimed, None, Time(500));
        assert_eq!(at(&binding, 500), (State::Released, 100));
        let expired = Lease {
            valid_lifetime: Lifetime(60),
            ..reclaimed
        };
        let binding = loaded(None, &expired, None, Time(500));
        assert_eq!(at(&binding, 500), (State::Expired, 160));
    }
}
