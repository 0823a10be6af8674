//! Lease events from Kea's callouts and lease manager.
//!
//! Callouts about packets run on Kea's packet threads, the lease manager's reports under its locks. Both
//! copy values into events and push them, and wait for no other thread. The thread that has processed a
//! command may have to look up its effects.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::mirror::event::report::{Kind, Report};
use crate::mirror::event::stored_lease::StoredLease;
use crate::mirror::event::{Event, Lease, LeaseState, Origin, Reason, ResyncScope};
use crate::mirror::{Identity, Mirror};
use crate::model::binding::SubnetId;
use crate::model::time::Time;
use crate::plugin::attribution::Attribution;
use crate::plugin::commands::{Touched, reconfigures, synchronises, touched};
use crate::plugin::kea::{Kea, Result};
use crate::plugin::lookup;
use crate::plugin::message::{Answer, Message};
use crate::plugin::sink::Sink;

thread_local! {
    /// Whether the last message on this thread led to no lease and its answer is not known. The next answer
    /// sent on this thread is to this message, unless another hook parks the packet.
    static IS_UNANSWERED: Cell<bool> = const { Cell::new(false) };
}

/// Makes events of Kea's reports.
#[derive(Debug)]
pub struct LeaseEvents<K> {
    /// Kea.
    kea: K,
    /// The destination of the events.
    pub(super) sink: Sink,
    /// The attribution of changes.
    pub(super) attribution: Attribution,
    /// Whether Kea's configuration may have changed while in force: the next tick reads it.
    pub(super) needs_reconfiguration: AtomicBool,
    /// Whether leases may have changed without an event: the next tick starts a resync.
    pub(super) needs_resync: AtomicBool,
    /// Whether the lease manager reports changes.
    is_tracking: AtomicBool,
}

impl<K: Kea> LeaseEvents<K> {
    /// Creates events without a destination.
    pub fn new(kea: K) -> LeaseEvents<K> {
        LeaseEvents {
            kea,
            sink: Sink::default(),
            attribution: Attribution::new(),
            needs_reconfiguration: AtomicBool::new(false),
            needs_resync: AtomicBool::new(false),
            is_tracking: AtomicBool::new(false),
        }
    }

    /// Sets whether the lease manager reports changes; returns whether it did before.
    pub(super) fn set_tracking(&self, is_tracking: bool) -> bool {
        self.is_tracking.swap(is_tracking, Ordering::AcqRel)
    }

    // --------------------------------------------------------------- Callouts

    /// Handles the announcement that a client's message is about to change leases.
    pub fn announced(&self) {
        self.attribution.enter_packet();
    }

    /// Handles a client's message that has changed leases, or none: `leases` as they are now, `deleted` as
    /// they were before. `answer` is `None` in versions of Kea that do not give it to `leases4_committed`;
    /// [`LeaseEvents::answered`] follows then.
    pub fn committed<'a>(
        &self,
        message: &Message<'_>,
        leases: impl IntoIterator<Item = StoredLease<'a>>,
        deleted: impl IntoIterator<Item = StoredLease<'a>>,
        answer: Option<Answer>,
    ) {
        self.leave_packet();
        for lease in deleted {
            self.sink.push(message.ended(&lease, Time::now()));
        }
        let mut led_to_lease = false;
        for lease in leases {
            led_to_lease = true;
            self.sink
                .push(Report::new(Kind::Committed, &lease, &message.rest));
        }
        match answer {
            None => IS_UNANSWERED.set(!led_to_lease),
            Some(answer) if !led_to_lease => self.answered(message, answer),
            Some(_) => {}
        }
    }

    /// Returns whether the answer about to be sent on this thread is needed.
    pub fn needs_answer(&self) -> bool {
        IS_UNANSWERED.take()
    }

    /// Handles the answer to a message that led to no lease: the client may still have its lease. The event is
    /// made of this packet's own message and answer: no part of another packet can get into it, whichever
    /// came last on this thread.
    pub fn answered(&self, message: &Message<'_>, answer: Answer) {
        if let Some(confirmed) = message.confirmed(&answer, Time::now()) {
            self.sink.push(confirmed);
        }
    }

    /// Handles an offer that reserves its addresses for the client for `lifetime` seconds. An offer for 0
    /// seconds reserves none.
    pub fn offered<'a>(
        &self,
        message: &Message<'_>,
        leases: impl IntoIterator<Item = StoredLease<'a>>,
        lifetime: u32,
    ) {
        self.leave_packet();
        if lifetime == 0 {
            return;
        }
        for lease in leases {
            self.sink
                .push(Report::new(Kind::Offered, &lease, &message.rest));
        }
    }

    /// Records that a client's message has been processed on this thread. Leases that the lease manager has
    /// reported as deleted, before the message was known to be a client's, were given up by the client.
    pub fn leave_packet(&self) {
        self.explain(self.attribution.claim_deleted(), Reason::GivenUp);
        self.attribution.leave_packet();
    }

    /// Pushes the reason why leases are gone whose deletion the lease manager has reported.
    fn explain(&self, addresses: Vec<Ipv4Addr>, reason: Reason) {
        if !addresses.is_empty() {
            self.sink.push(Event::Explained { addresses, reason });
        }
    }

    /// Handles a lease that Kea is about to reclaim. A declined address comes a second time when Kea
    /// recovers it.
    pub fn expired(&self, lease: &Lease) {
        self.attribution.expect(lease.address);
        if lease.state != LeaseState::Declined {
            self.reclaimed(lease);
        }
    }

    /// Handles a declined address that Kea is about to recover.
    pub fn recovered(&self, lease: &Lease) {
        self.attribution.expect(lease.address);
        self.reclaimed(lease);
    }

    /// Pushes the event of a lease that is reclaimed or recovered.
    fn reclaimed(&self, lease: &Lease) {
        self.sink.push(Event::Reclaimed {
            address: lease.address,
            cltt: lease.cltt,
            was_released: lease.state == LeaseState::Released,
            at: Time::now(),
        });
    }

    /// Handles an address that Kea itself has declined, because another host uses it, instead of offering
    /// it. The lease manager has reported that before, possibly as another server's change.
    pub fn server_declined(&self, lease: Lease) {
        self.sink.push(Event::Updated {
            lease,
            at: Time::now(),
            origin: Origin::Local,
        });
    }

    // ------------------------------------------------ Lease manager's reports

    /// Returns whether the report of an added or updated lease in a state (by Kea's number) makes an event.
    pub fn wants_change(&self, state: u32) -> bool {
        self.attribution.wants_change(state)
    }

    /// Handles the report of a lease that was added or updated.
    pub fn lease_changed(&self, lease: Lease) {
        self.sink.push(self.attribution.changed(lease));
    }

    /// Handles the report of a lease that was deleted.
    pub fn lease_deleted(&self, address: Ipv4Addr) {
        if let Some(event) = self.attribution.deleted(address) {
            self.sink.push(event);
        }
    }

    /// Records that a report could not be read.
    pub fn change_missed(&self) {
        self.sink.lose();
    }

    // --------------------------------------------------------------- Commands

    /// Handles a control command that may have changed leases or Kea's configuration, once it has been
    /// processed: its effects are looked up. `arguments` and `response` are JSON text. `deleted` are the
    /// addresses whose deletion the lease manager reported on this thread, and `unannounced` says that this
    /// thread was taken to process a client's message until now.
    pub fn commanded(
        &self,
        name: &str,
        arguments: &[u8],
        response: &[u8],
        deleted: Vec<Ipv4Addr>,
        unannounced: bool,
    ) {
        if reconfigures(name, response) {
            self.request_reconfiguration();
        }
        if synchronises(name, response) {
            self.request_resync();
        }
        let is_tracking = self.is_tracking.load(Ordering::Acquire);
        let done = match touched(name, arguments, response) {
            None => Ok(()),
            // The lease manager has reported it.
            Some(Touched::Changed(_, Origin::Remote)) if is_tracking && !unannounced => Ok(()),
            Some(Touched::Changed(address, origin)) => self.look_again(vec![address], origin),
            // The client may have come back meanwhile: a partner's commands come on several threads, and not
            // always in order.
            Some(Touched::ReleasedElsewhere(address)) => {
                let scope = ResyncScope::Released(address);
                lookup::look_up(&self.sink, &self.kea, scope, &[address])
            }
            Some(Touched::Deleted(address)) => self.look_again(vec![address], Origin::Local),
            Some(_) if is_tracking => {
                self.explain(deleted, Reason::Command);
                Ok(())
            }
            Some(Touched::Client(client, subnet)) => self.look_up_client(&client, subnet),
            Some(Touched::Subnet(subnet)) => self.look_for_removed(|_| HashSet::from([subnet])),
            Some(Touched::Everything) => self.look_for_removed(|mirror| {
                let kea_config = mirror.kea_config();
                kea_config.subnets.iter().map(|subnet| subnet.id).collect()
            }),
        };
        if let Err(error) = done {
            tracing::error!(id = "BLQ_COMMAND_FAILED", "{name}: {error}");
        }
    }

    /// Looks up the leases of `addresses`, which a command changed.
    fn look_again(&self, addresses: Vec<Ipv4Addr>, origin: Origin) -> Result<()> {
        let scope = ResyncScope::Changed(addresses.clone(), origin);
        lookup::look_up(&self.sink, &self.kea, scope, &addresses)
    }

    /// Looks up the leases of a client in `subnet`. A client that the mirror knows by neither MAC address
    /// nor client identifier, as one without Ethernet, is looked for in all of the subnet.
    fn look_up_client(&self, client: &Identity, subnet: SubnetId) -> Result<()> {
        let addresses = self.complete_mirror();
        let addresses = addresses.map(|mirror| mirror.addresses_of(client, subnet));
        match addresses.unwrap_or_default() {
            none if none.is_empty() => self.look_for_removed(|_| HashSet::from([subnet])),
            addresses => self.look_again(addresses, Origin::Local),
        }
    }

    /// Looks for leases that are in the mirror and not in the database any more, in some of its subnets.
    fn look_for_removed(&self, subnets: impl FnOnce(&Mirror) -> HashSet<SubnetId>) -> Result<()> {
        let Some(mirror) = self.complete_mirror() else {
            return Ok(());
        };
        let subnets = subnets(&mirror);
        let known = || mirror.addresses_in(&subnets);
        lookup::look_for_removed(&self.sink, &self.kea, &subnets, known)
    }

    /// Returns the mirror, if it is complete. A resync after the initial load finds the changes that cannot
    /// be looked up now.
    fn complete_mirror(&self) -> Option<Arc<Mirror>> {
        let mirror = self.sink.mirror()?;
        if !mirror.is_complete() {
            self.request_resync();
            return None;
        }
        Some(mirror)
    }

    // --------------------------------------------------------------- Requests

    /// Requests that Kea's configuration, which may have changed while in force, is read in the next tick.
    pub fn request_reconfiguration(&self) {
        self.needs_reconfiguration.store(true, Ordering::Release);
        self.kea.schedule_tick(Duration::ZERO);
    }

    /// Requests a resync in the next tick, because leases may have changed without an event.
    pub fn request_resync(&self) {
        self.needs_resync.store(true, Ordering::Release);
        self.kea.schedule_tick(Duration::ZERO);
    }
}
