//! Applying an event to the tables.

use crate::mirror::event::Event;
use crate::mirror::resync::Resync;
use crate::mirror::rules;
use crate::mirror::table::Table;
use crate::model::binding::Binding;
use crate::model::time::Time;

/// Applies one event at `now`.
pub fn apply(table: &mut Table, resync: &mut Resync, event: Event, now: Time) {
    let mut is_doubtful = false;
    let (address, after) = match event {
        Event::Committed { lease, client_info } => {
            let before = table.binding_to_change(lease.address);
            let after = rules::committed(before, &lease, &client_info);
            is_doubtful = before.is_some_and(|before| rules::is_taken(before, after.view()));
            (lease.address, Some(after))
        }
        Event::Confirmed {
            address,
            client,
            at,
            client_info,
        } => {
            let confirmed = |before: Binding| rules::confirmed(&before, &client, at, &client_info);
            (address, table.binding(address).map(confirmed))
        }
        Event::Offered { lease, client_info } => {
            let before = table.binding(lease.address);
            let after = rules::offered(before.as_ref(), &lease, &client_info);
            (lease.address, Some(after))
        }
        Event::Updated { lease, at, origin } => {
            table.check_subnet(&lease);
            let before = table.binding(lease.address);
            let after = rules::updated(before.as_ref(), &lease, at, origin);
            (lease.address, after)
        }
        Event::Released {
            address,
            client,
            at,
            origin,
        } => {
            let released = |before: Binding| rules::released(&before, at, origin);
            let before = table.held_by(address, client.as_ref());
            (address, before.map(released))
        }
        Event::GivenUp {
            address,
            client,
            at,
        } => {
            let given_up = |before: Binding| rules::given_up(&before, at);
            let before = table.held_by(address, client.as_ref());
            (address, before.map(given_up))
        }
        Event::Reclaimed {
            address,
            cltt,
            was_released,
            at,
        } => {
            let before = table.binding(address);
            let before = before.filter(|before| before.lease_start <= cltt);
            // A client that has released its lease may come back in the same second, while Kea
            // reclaims what it released: which of both is left, its database says.
            is_doubtful = was_released && before.as_ref().is_some_and(|b| b.is_active(at));
            let reclaimed = |before: Binding| rules::reclaimed(&before, at);
            (address, before.filter(|_| !is_doubtful).map(reclaimed))
        }
        Event::Removed {
            address,
            at,
            origin,
        } => {
            let removed = |before: Binding| rules::removed(&before, at, origin);
            (address, table.binding(address).map(removed))
        }
        Event::Explained { addresses, reason } => {
            for address in addresses {
                let explained = |before: Binding| rules::explained(&before, reason);
                if let Some(after) = table.binding(address).and_then(explained) {
                    table.change(after, now);
                }
            }
            return;
        }
        Event::ResyncBegun => return resync.begin(),
        Event::ResyncPage { scope, leases, at } => {
            return resync.seen(table, scope, &leases, at, now);
        }
        Event::ResyncDone { began } => return table.set_resynced(began),
        Event::SavedView {
            kea_config,
            is_complete,
            at,
        } => return table.configure(kea_config, is_complete, at),
        Event::Serving { serving, at } => return table.serve(serving, at),
    };
    resync.told_of(address);
    if is_doubtful {
        resync.doubt(address);
    }
    if let Some(after) = after {
        table.change(after, now);
    }
}
