//! The rules, one by one.

use super::*;
use crate::model::address::HardwareAddress;
use crate::model::binding::SubnetId;
use crate::model::client::ClientIds;
use crate::model::option::RawOption;
use std::net::Ipv4Addr;

/// A lease of an hour to client `client`, last served at `cltt`.
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

/// The identities of client `client`.
fn ids(client: u8) -> ClientIds {
    ClientIds {
        hardware: lease(client, 0).hardware,
        client_id: Vec::new(),
    }
}

// The rules for owned bindings; each returns the binding before if the event does not change it.

fn committed(before: Option<&Binding>, lease: &Lease, client_info: &ClientInfo) -> Binding {
    super::committed(before.map(Binding::view), lease, client_info)
}

fn confirmed(before: &Binding, sender: &ClientIds, at: Time, client_info: &ClientInfo) -> Binding {
    or(
        before,
        super::confirmed(before.view(), sender, at, client_info),
    )
}

fn updated(before: Option<&Binding>, lease: &Lease, at: Time, origin: Origin) -> Option<Binding> {
    super::updated(before.map(Binding::view), lease, at, origin)
}

fn offered(before: Option<&Binding>, lease: &Lease, client_info: &ClientInfo) -> Binding {
    super::offered(before.map(Binding::view), lease, client_info)
}

fn released(before: &Binding, at: Time, origin: Origin) -> Binding {
    or(before, super::released(before.view(), at, origin))
}

fn given_up(before: &Binding, at: Time) -> Binding {
    or(before, super::given_up(before.view(), at))
}

fn reclaimed(before: &Binding, at: Time) -> Binding {
    or(before, super::reclaimed(before.view(), at))
}

fn removed(before: &Binding, at: Time, origin: Origin) -> Binding {
    or(before, super::removed(before.view(), at, origin))
}

fn loaded(saved: Option<&Binding>, lease: &Lease, saved_at: Option<Time>, now: Time) -> Binding {
    super::loaded(saved.map(Binding::view), lease, saved_at, now)
}

fn vanished(saved: &Binding, now: Time) -> Binding {
    or(saved, super::vanished(saved.view(), now))
}

/// The binding after a rule.
fn or(before: &Binding, after: Option<Binding>) -> Binding {
    after.unwrap_or_else(|| before.clone())
}

fn no_client_info() -> ClientInfo {
    ClientInfo::default()
}

/// State and start-time-of-state at `now`.
fn at(binding: &Binding, now: u32) -> (State, u32) {
    let (state, since) = binding.at(Time(now));
    (state, since.0)
}

#[test]
fn a_new_lease_is_active_since_it_was_committed() {
    let binding = committed(None, &lease(1, 100), &no_client_info());
    assert_eq!(at(&binding, 100), (State::Active, 100));
    assert_eq!(binding.last_transaction, Some(Time(100)));
}

#[test]
fn a_renewal_changes_the_last_transaction_but_not_the_start_of_the_state() {
    let first = committed(None, &lease(1, 100), &no_client_info());
    let renewed = committed(Some(&first), &lease(1, 200), &no_client_info());
    assert_eq!(at(&renewed, 200), (State::Active, 100));
    assert_eq!(renewed.last_transaction, Some(Time(200)));
    assert_eq!(renewed.ends(), Some(Time(3800)));
}

#[test]
fn a_confirmed_lease_is_a_transaction_of_its_client_only() {
    let first = committed(None, &lease(1, 100), &no_client_info());
    let relayed = ClientInfo {
        relay_agent_information: Some(vec![2, 1, 7]),
        ..no_client_info()
    };
    let ask = |client| confirmed(&first, &ids(client), Time(200), &relayed);
    let own = ask(1);
    assert_eq!(at(&own, 200), (State::Active, 100));
    assert_eq!(own.last_transaction, Some(Time(200)));
    assert_eq!(own.ends(), first.ends());
    let client = own.client.unwrap();
    assert_eq!(client.view().relay_agent_information(), [2, 1, 7]);
    assert_eq!(ask(2), first);
    let late = confirmed(&first, &ids(1), Time(9000), &relayed);
    assert_eq!(late, first);
}

#[test]
fn a_lease_to_another_client_begins_its_own_state() {
    let first = committed(None, &lease(1, 100), &no_client_info());
    let second = committed(Some(&first), &lease(2, 200), &no_client_info());
    assert_eq!(at(&second, 200), (State::Active, 200));
}

#[test]
fn a_lease_expires_when_its_lifetime_ends_not_when_kea_reclaims_it() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    assert_eq!(at(&active, 3699), (State::Active, 100));
    assert_eq!(at(&active, 3700), (State::Expired, 3700));
    let expired = reclaimed(&active, Time(5000));
    assert_eq!(at(&expired, 9999), (State::Expired, 3700));
    assert_eq!(expired.client, active.client);
    let renewed = committed(Some(&active), &lease(1, 4000), &no_client_info());
    assert_eq!(at(&renewed, 4000), (State::Active, 4000));
}

#[test]
fn a_release_is_a_transaction_of_the_client_and_outlives_reclamation_and_removal() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    let released = released(&active, Time(150), Origin::Local);
    assert_eq!(at(&released, 9999), (State::Released, 150));
    assert_eq!(released.last_transaction, Some(Time(150)));
    assert_eq!(reclaimed(&released, Time(160)), released);
    assert_eq!(removed(&released, Time(170), Origin::Local), released);
}

#[test]
fn a_declined_address_keeps_its_client_until_probation_ends() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    let declined = Lease {
        state: LeaseState::Declined,
        hardware: HardwareAddress::default(),
        valid_lifetime: Lifetime(60),
        ..lease(1, 200)
    };
    let abandoned = committed(Some(&active), &declined, &no_client_info());
    assert_eq!(at(&abandoned, 259), (State::Abandoned, 200));
    assert_eq!(abandoned.client, active.client);
    assert_eq!(at(&abandoned, 260), (State::Available, 260));
    let recovered = reclaimed(&abandoned, Time(300));
    assert_eq!(at(&recovered, 300), (State::Available, 260));
    assert_eq!(recovered.client, None);
}

#[test]
fn an_administrators_deletion_resets_the_binding() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    assert_eq!(
        at(&removed(&active, Time(150), Origin::Local), 150),
        (State::Reset, 150)
    );
    // An expired lease keeps its state.
    assert_eq!(
        at(&removed(&active, Time(5000), Origin::Local), 5000),
        (State::Expired, 3700)
    );
}

#[test]
fn an_offer_reserves_a_free_address_and_does_not_change_a_lease() {
    let offer = Lease {
        valid_lifetime: Lifetime(60),
        ..lease(1, 100)
    };
    let offered_binding = offered(None, &offer, &no_client_info());
    assert_eq!(at(&offered_binding, 100), (State::Transitioning, 100));
    assert_eq!(at(&offered_binding, 160), (State::Available, 160));
    let active = committed(Some(&offered_binding), &lease(1, 105), &no_client_info());
    assert_eq!(at(&active, 105), (State::Active, 105));
    let asked = offered(Some(&active), &offer, &no_client_info());
    assert_eq!(
        (at(&asked, 3704), at(&asked, 3705)),
        (at(&active, 3704), at(&active, 3705))
    );
    // Close to the end of a lease the offer reserves the address longer, and replaces the lease in Kea's
    // lease database.
    let late = Lease {
        valid_lifetime: Lifetime(60),
        ..lease(1, 3700)
    };
    let longer = offered(Some(&active), &late, &no_client_info());
    assert_eq!(
        updated(Some(&longer), &late, Time(3701), Origin::Remote),
        None
    );
    let saved = loaded(Some(&longer), &late, Some(Time(3700)), Time(3701));
    for binding in [longer, saved] {
        assert_eq!(at(&binding, 3704), (State::Active, 105));
        assert_eq!(at(&binding, 3705), (State::Transitioning, 3705));
        assert_eq!(at(&binding, 3760), (State::Expired, 3760));
        let given = given_up(&binding, Time(3720));
        assert_eq!(at(&given, 3720), (State::Expired, 3705));
        let taken = committed(Some(&binding), &lease(1, 3750), &no_client_info());
        assert_eq!(at(&taken, 3760), (State::Active, 3750));
    }
}

#[test]
fn relay_information_stays_when_a_renewal_comes_without_a_relay() {
    let relayed = ClientInfo {
        relay_agent_information: Some(vec![2, 1, 7]),
        ..no_client_info()
    };
    let first = committed(None, &lease(1, 100), &relayed);
    let renewed = committed(Some(&first), &lease(1, 200), &no_client_info());
    let information = |binding: &Binding| {
        let client = binding.client.as_ref().unwrap();
        client.view().relay_agent_information().to_vec()
    };
    assert_eq!(information(&renewed), [2, 1, 7]);
    let stranger = committed(Some(&renewed), &lease(2, 300), &no_client_info());
    assert!(information(&stranger).is_empty());
}

#[test]
fn of_each_client_option_the_value_last_sent_is_kept() {
    let sent = |options: &[(u8, &[u8])]| ClientInfo {
        options: options
            .iter()
            .map(|(code, value)| RawOption {
                code: *code,
                value: value.to_vec(),
            })
            .collect(),
        ..no_client_info()
    };
    let first = committed(None, &lease(1, 100), &sent(&[(12, b"a"), (60, b"v")]));
    let renewed = committed(Some(&first), &lease(1, 200), &sent(&[(12, b"b")]));
    let client = renewed.client.unwrap();
    assert_eq!(client.view().option(12), Some(&b"b"[..]));
    assert_eq!(client.view().option(60), Some(&b"v"[..]));
}

#[test]
fn the_options_of_a_client_are_bounded_however_many_messages_they_come_in() {
    let mut binding: Option<Binding> = None;
    for code in 60..70 {
        let info = ClientInfo {
            options: vec![RawOption {
                code,
                value: vec![code; 900],
            }],
            ..no_client_info()
        };
        let after = committed(binding.as_ref(), &lease(1, code.into()), &info);
        let client = after.client.as_ref().unwrap().view();
        let stored: Vec<_> = client.options().collect();
        assert!(stored.iter().map(|(_, value)| value.len()).sum::<usize>() <= MAX_STORED_OCTETS);
        assert!(
            stored.contains(&(code, &[code; 900][..])),
            "the last one is kept"
        );
        binding = Some(after);
    }
}

#[test]
fn loading_a_saved_lease_changes_nothing() {
    let saved = committed(None, &lease(1, 100), &no_client_info());
    // Renewals are not written.
    let binding = loaded(Some(&saved), &lease(1, 2000), Some(Time(100)), Time(2500));
    assert_eq!(at(&binding, 2500), (State::Active, 100));
    assert_eq!(binding.last_transaction, Some(Time(2000)));
}

#[test]
fn a_saved_offer_is_loaded_as_an_offer_and_acknowledged_as_a_lease() {
    let offer = Lease {
        valid_lifetime: Lifetime(60),
        ..lease(1, 100)
    };
    let saved = offered(None, &offer, &no_client_info());
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
        &committed(None, &lease(1, 100), &no_client_info()),
        Time(150),
        Origin::Local,
    );
    // Leased after the last write: the lease has the time.
    let later = loaded(Some(&saved), &lease(2, 300), Some(Time(200)), Time(400));
    assert_eq!(at(&later, 400), (State::Active, 300));
    // Leased before the last write by its times: no requester has seen it, so it counts from now.
    let earlier = loaded(Some(&saved), &lease(2, 180), Some(Time(200)), Time(400));
    assert_eq!(at(&earlier, 400), (State::Active, 400));
}

#[test]
fn a_later_lease_that_has_ended_counts_as_a_change() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    let saved = removed(&active, Time(150), Origin::Local);
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
    // Kea still holds the lease that was reset.
    let reclaimed = LeaseState::ExpiredReclaimed;
    assert_eq!(load(1, 100, reclaimed, 3600), (State::Reset, 150));
    // The next lease of the same client, and another client's.
    assert_eq!(load(1, 300, reclaimed, 60), (State::Expired, 360));
    assert_eq!(load(2, 300, reclaimed, 60), (State::Expired, 360));
    assert_eq!(
        load(2, 300, LeaseState::Released, 0),
        (State::Released, 300)
    );
    let released_before = released(&active, Time(150), Origin::Local);
    let other = Lease {
        state: LeaseState::Released,
        valid_lifetime: Lifetime(0),
        ..lease(2, 300)
    };
    let binding = loaded(Some(&released_before), &other, Some(Time(200)), Time(900));
    assert_eq!(at(&binding, 900), (State::Released, 300));
}

#[test]
fn a_missing_lease_is_reset_unless_it_had_ended() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    assert_eq!(at(&vanished(&active, Time(500)), 500), (State::Reset, 500));
    let released = released(&active, Time(150), Origin::Local);
    assert_eq!(vanished(&released, Time(500)), released);
}

/// A change that Kea's lease manager reports, before a callout reports its cause.
fn reported(before: Option<&Binding>, lease: &Lease, at: u32) -> Binding {
    updated(before, lease, Time(at), Origin::Remote).unwrap()
}

#[test]
fn a_change_by_another_server_is_remote_unless_it_was_known() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    assert!(!active.is_remote(Time(100)));
    let renewed = reported(Some(&active), &lease(1, 200), 230);
    assert_eq!(at(&renewed, 230), (State::Active, 100));
    assert_eq!(renewed.last_transaction, Some(Time(200)));
    assert!(renewed.remote);
    let same = updated(Some(&renewed), &lease(1, 200), Time(240), Origin::Remote);
    assert_eq!(same, None);
    let other = reported(Some(&renewed), &lease(2, 250), 260);
    assert_eq!(at(&other, 260), (State::Active, 260));
    // The end of a lifetime is local, and so is a message to this server.
    assert!(other.is_remote(Time(3849)) && !other.is_remote(Time(3850)));
    let again = committed(Some(&other), &lease(2, 300), &no_client_info());
    assert!(!again.is_remote(Time(300)));
}

#[test]
fn a_later_callout_or_command_gives_the_origin_and_cause_of_a_change() {
    // The clock may have entered the next second since the client's message came.
    let leased = reported(None, &lease(1, 100), 101);
    let leased = committed(Some(&leased), &lease(1, 100), &no_client_info());
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
        reported(Some(&leased), &ended, 200),
        removed(&leased, Time(200), Origin::Remote),
    ] {
        assert!(before.is_remote(Time(200)));
        let after = released(&before, Time(200), Origin::Local);
        assert_eq!(at(&after, 200), (State::Released, 200));
        assert!(!after.remote);
        let elsewhere = released(&before, Time(200), Origin::Remote);
        assert_eq!(at(&elsewhere, 200), (State::Released, 200));
        assert!(elsewhere.is_remote(Time(200)));
    }
    let gone = removed(&leased, Time(200), Origin::Remote);
    let reset = removed(&gone, Time(200), Origin::Local);
    assert_eq!(
        (at(&reset, 200), reset.remote),
        ((State::Reset, 200), false)
    );
    let updated = updated(
        Some(&reported(None, &lease(1, 100), 100)),
        &lease(1, 100),
        Time(100),
        Origin::Local,
    );
    assert!(!updated.unwrap().remote);
}

#[test]
fn a_lease_that_was_over_before_it_was_given_up_expired_at_its_end() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    let over = given_up(&active, Time(3800));
    assert_eq!(at(&over, 3800), (State::Expired, 3700));
    assert_eq!(
        at(&vanished(&over, Time(4000)), 4000),
        (State::Expired, 3700)
    );
}

#[test]
fn an_offer_stays_an_offer_in_reports_by_the_lease_manager() {
    let offer = Lease {
        valid_lifetime: Lifetime(60),
        ..lease(1, 100)
    };
    let offered_first = offered(None, &offer, &no_client_info());
    let again = updated(Some(&offered_first), &offer, Time(101), Origin::Remote);
    assert_eq!(again, None);
    let reported_first = reported(None, &offer, 101);
    let binding = offered(Some(&reported_first), &offer, &no_client_info());
    assert_eq!(at(&binding, 101), (State::Transitioning, 100));
    let acknowledged = reported(Some(&binding), &lease(1, 105), 105);
    assert_eq!(at(&acknowledged, 105), (State::Active, 105));
}

#[test]
fn an_offer_that_was_not_accepted_is_available_again() {
    let offer = Lease {
        valid_lifetime: Lifetime(60),
        ..lease(1, 100)
    };
    let lapsed = offered(None, &offer, &no_client_info());
    let swept = Lease {
        state: LeaseState::ExpiredReclaimed,
        ..offer
    };
    let report = |before: &Binding| updated(Some(before), &swept, Time(170), Origin::Remote);
    assert_eq!(report(&lapsed), None);
    let available = reclaimed(&lapsed, Time(165));
    assert_eq!(at(&available, 165), (State::Available, 160));
    assert_eq!(report(&available), None);
    for saved in [&lapsed, &available] {
        let binding = loaded(Some(saved), &swept, Some(Time(100)), Time(170));
        assert_eq!(at(&binding, 170), (State::Available, 160));
        assert_eq!(binding.client, None);
    }
}

#[test]
fn a_lease_that_ends_with_an_offer_is_not_the_offer() {
    let short = |cltt, lifetime| Lease {
        valid_lifetime: Lifetime(lifetime),
        ..lease(1, cltt)
    };
    let active = committed(None, &short(100, 4), &no_client_info());
    let asked = offered(Some(&active), &short(100, 7), &no_client_info());
    let renewed = short(103, 4);
    for binding in [
        loaded(Some(&asked), &renewed, Some(Time(101)), Time(104)),
        updated(Some(&asked), &renewed, Time(104), Origin::Remote).unwrap(),
    ] {
        assert_eq!(at(&binding, 106).0, State::Active);
        assert_eq!(binding.last_transaction, Some(Time(103)));
    }
}

#[test]
fn a_lease_that_an_offer_replaced_expired_with_the_offer() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    let offer = Lease {
        valid_lifetime: Lifetime(7),
        ..lease(1, 200)
    };
    let asked = offered(Some(&active), &offer, &no_client_info());
    assert_eq!(at(&asked, 208), (State::Active, 100));
    let swept = reclaimed(&asked, Time(208));
    assert_eq!(at(&swept, 208), (State::Expired, 207));
}

#[test]
fn a_lease_that_ended_early_at_another_server_was_released() {
    let active = committed(None, &lease(1, 100), &no_client_info());
    let ended = |state, lifetime| Lease {
        state,
        valid_lifetime: Lifetime(lifetime),
        ..lease(1, 100)
    };
    let expired = ended(LeaseState::ExpiredReclaimed, 3600);
    // The end of a lifetime needs no report.
    let swept = updated(Some(&active), &expired, Time(4000), Origin::Remote);
    assert_eq!(swept, None);
    let released = reported(Some(&active), &ended(LeaseState::Released, 0), 4000);
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
