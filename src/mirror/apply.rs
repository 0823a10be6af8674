//! Applies events to the tables.

use std::sync::Arc;

use crate::mirror::event::Event;
use crate::mirror::resync::Resync;
use crate::mirror::rules;
use crate::mirror::table::Table;
use crate::model::time::Time;

/// Applies one event at `now`: the time at which its changes are learned of.
pub fn apply(table: &mut Table, resync: &mut Resync, event: &Event, now: Time) {
    match event {
        Event::Committed { lease, client_info } => {
            let mut is_taken = false;
            table.update(lease.address, now, |before| {
                let after = rules::committed(before, lease, client_info);
                is_taken = before.is_some_and(|before| rules::is_taken(before, after.view()));
                Some(after)
            });
            if is_taken {
                resync.doubt(table, lease.address);
            }
        }
        Event::Confirmed {
            address,
            client,
            at,
            client_info,
        } => table.update(*address, now, |before| {
            rules::confirmed(before?, client, *at, client_info)
        }),
        Event::Offered { lease, client_info } => table.update(lease.address, now, |before| {
            Some(rules::offered(before, lease, client_info))
        }),
        Event::Updated { lease, at, origin } => {
            table.check_subnet(lease);
            table.update(lease.address, now, |before| {
                rules::updated(before, lease, *at, *origin)
            });
        }
        Event::Released {
            address,
            client,
            at,
            origin,
        } => table.update(*address, now, |before| {
            let before = before.filter(|before| rules::belongs_to(*before, client.as_ref()));
            rules::released(before?, *at, *origin)
        }),
        Event::GivenUp {
            address,
            client,
            at,
        } => table.update(*address, now, |before| {
            let before = before.filter(|before| rules::belongs_to(*before, client.as_ref()));
            rules::given_up(before?, *at)
        }),
        Event::Reclaimed {
            address,
            cltt,
            was_released,
            at,
        } => {
            let mut is_renewed = false;
            table.update(*address, now, |before| {
                let before = before.filter(|before| before.lease_start <= *cltt)?;
                // A client that has released its lease may come back in the same second, while Kea reclaims
                // the released one. The lease database shows which of both is left.
                is_renewed = *was_released && before.is_active(*at);
                (!is_renewed).then(|| rules::reclaimed(before, *at))?
            });
            if is_renewed {
                resync.doubt(table, *address);
            }
        }
        Event::Removed {
            address,
            at,
            origin,
        } => table.update(*address, now, |before| {
            rules::removed(before?, *at, *origin)
        }),
        Event::Explained { addresses, reason } => {
            for address in addresses {
                table.update(*address, now, |before| rules::explained(before?, *reason));
            }
        }
        Event::ResyncBegun => resync.begin(table),
        Event::ResyncPage { scope, leases, at } => resync.compare(table, scope, leases, *at, now),
        Event::ResyncDone { began } => table.set_resynced(*began),
        Event::Reconfigured {
            kea_config,
            is_complete,
            at,
        } => table.configure(Arc::clone(kea_config), *is_complete, now.max(*at)),
        Event::Serving { serving, at } => table.serve(serving.clone(), now.max(*at)),
    }
}
