//! Mirrors of generated leases, loaded and churned as in Kea.

// Each program uses a part.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use dhcp_blq::kea_config::KeaConfig;
use dhcp_blq::mirror::event::{ClientInfo, Event, LeaseState, Origin};
use dhcp_blq::mirror::{InitialLoad, Mirror, Saved};
use dhcp_blq::model::time::Time;
use serde_json::json;

use super::leases::{Change, Client, Fate, Leases};

/// Leases made at once, so that making them does not count as loading them.
const BATCH: u32 = 10_000;

/// Events applied at once: fewer than the queue holds.
const EVENTS: usize = 1_000;

/// A mirror after the initial load, as Kea's start fills it, and the time that the load took.
pub fn load(leases: &Leases) -> (Mirror, Duration) {
    let configuration = json!({ "Dhcp4": { "subnet4": leases.subnets() } });
    let kea_config = KeaConfig::new(&configuration.to_string(), Vec::new(), &[]);
    let kea_config = kea_config.expect("a valid configuration");
    let begin = Time(leases.loaded_at());
    let mut initial_load = InitialLoad::begin(Arc::new(kea_config), Saved::default(), begin);
    let mut took = Duration::ZERO;
    for first in (0..leases.count).step_by(BATCH as usize) {
        let numbers = first..leases.count.min(first + BATCH);
        let batch: Vec<_> = numbers.map(|number| leases.first_lease(number)).collect();
        let began = Instant::now();
        for lease in &batch {
            initial_load.lease(lease);
        }
        took += began.elapsed();
    }
    let began = Instant::now();
    let mirror = initial_load.finish();
    (mirror, took + began.elapsed())
}

/// Applies the events after which the bindings of the realistic set are as it says, each binding
/// once, in random order. The uniform set has none.
pub fn churn(mirror: &Mirror, leases: &Leases) {
    if !leases.is_realistic() {
        return;
    }
    let mut waiting = 0;
    let mut time = Time::MIN;
    for change in leases.changes(0..leases.count) {
        if change.at != time.0 || waiting >= EVENTS {
            mirror.catch_up_by(|| time);
            waiting = 0;
        }
        time = Time(change.at);
        for event in events(leases, change) {
            mirror.queue().push(event);
            waiting += 1;
        }
    }
    mirror.catch_up_by(|| time);
}

/// A mirror after the initial load and the churn.
pub fn filled(leases: &Leases) -> Mirror {
    let (mirror, _) = load(leases);
    churn(&mirror, leases);
    mirror
}

/// The events by which a binding comes to its end.
fn events(leases: &Leases, Change { at, number }: Change) -> impl Iterator<Item = Event> {
    let released = || Event::Released {
        address: leases.address(number),
        client: None,
        at: Time(at),
        origin: Origin::Local,
    };
    let events = match leases.fate(number) {
        Fate::Renewed => [Some(renewal(leases, number, at)), None],
        Fate::Replaced => [Some(released()), Some(renewal(leases, number, at))],
        Fate::Released => [Some(released()), None],
        Fate::Expired => {
            let expired = Event::Reclaimed {
                address: leases.address(number),
                cltt: leases.first_lease(number).cltt,
                was_released: false,
                at: Time(at),
            };
            [Some(expired), None]
        }
        Fate::Declined => {
            let (lease, client) = leases.last_lease(number, at);
            debug_assert_eq!(lease.state, LeaseState::Declined);
            let client_info = client_info(&client);
            [Some(Event::Committed { lease, client_info }), None]
        }
    };
    events.into_iter().flatten()
}

/// The last client of lease `number` obtains or renews it at `at`.
pub fn renewal(leases: &Leases, number: u32, at: u32) -> Event {
    let client = leases.client(number);
    Event::Committed {
        lease: leases.lease(number, &client, at),
        client_info: client_info(&client),
    }
}

/// The contents of a client's message besides its lease.
fn client_info(client: &Client) -> ClientInfo {
    ClientInfo {
        relay_agent_information: Some(client.relay_agent_information()),
        options: client.options(),
        ..ClientInfo::default()
    }
}
