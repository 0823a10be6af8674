//! Changes of leases: from callouts to the mirror.
//!
//! Callouts about packets run on Kea's packet threads. They copy values and push events, and wait
//! for nobody. Who has processed a command may have to look what it did.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::Ipv4Addr;

use cxx::Exception;
use parking_lot::Mutex;

use crate::ffi::bridge::{self, CalloutHandle, KeaAnswer, KeaMessage};
use crate::ffi::exports::HOOKS_VERSION;
use crate::ffi::lease_taker;
use crate::mirror::Identity;
use crate::mirror::event::{Event, Lease, LeaseState, Origin, Reason, ResyncScope};
use crate::model::binding::SubnetId;
use crate::model::time::Time;
use crate::plugin::commands::{Touched, may_change, reconfigures, synchronises, touched};
use crate::plugin::{attribution, required_callouts, service};

/// The commands that load libraries anew.
const RELOADING: [&str; 3] = ["config-reload", "config-set", "libreload"];

thread_local! {
    /// Whether the last message on this thread led to no lease, until an answer is sent on it: that
    /// to this message, unless another hook parks the packet.
    static IS_UNANSWERED: Cell<bool> = const { Cell::new(false) };
}

/// Held while Kea's lease database is read and what was found is pushed: one reader at a time, so
/// that none pushes something older than another one did. Command threads of a high-availability
/// partner wait for each other, and for a single lease.
static LOOKING: Mutex<()> = Mutex::new(());

/// A client's message has led to changes of leases, or to none.
pub fn committed(handle: &CalloutHandle) -> Result<(), Exception> {
    given_up(attribution::claim_deleted());
    attribution::leave_packet();
    let message = bridge::message(handle)?;
    lease_taker::for_each(
        |taker| bridge::deleted_leases(handle, taker),
        |lease| service::push(message.ended(lease.into(), Time::now())),
    )?;
    let mut led_to_lease = false;
    lease_taker::for_each(
        |taker| bridge::leases(handle, taker),
        |lease| {
            led_to_lease = true;
            service::push(message.committed(lease));
        },
    )?;
    if !required_callouts::tells_answers(HOOKS_VERSION) {
        IS_UNANSWERED.set(!led_to_lease);
    } else if !led_to_lease {
        push_confirmed(&message, &bridge::answer(handle)?);
    }
    Ok(())
}

/// Kea answers a client's message. Not called where [`committed`] knows the answer.
///
/// The event is made of this packet's own message and answer, so that nothing of another packet can
/// get into it, whichever was the last on this thread.
pub fn answered(handle: &CalloutHandle) -> Result<(), Exception> {
    if IS_UNANSWERED.take() {
        push_confirmed(&bridge::message(handle)?, &bridge::answer(handle)?);
    }
    Ok(())
}

/// Pushes the event of a client that has its lease still, if the answer says so: Kea may also have
/// refused what the message asked for.
fn push_confirmed(message: &KeaMessage<'_>, answer: &KeaAnswer) {
    if let Some(confirmed) = message.confirmed(answer, Time::now()) {
        service::push(confirmed);
    }
}

/// An address is offered. Unless Kea is configured to keep it for the client, nothing changes.
pub fn offered(handle: &CalloutHandle) -> Result<(), Exception> {
    given_up(attribution::claim_deleted());
    attribution::leave_packet();
    if bridge::offer_lifetime(handle)? == 0 {
        return Ok(());
    }
    let message = bridge::message(handle)?;
    lease_taker::for_each(
        |taker| bridge::leases(handle, taker),
        |lease| service::push(message.offered(lease)),
    )
}

/// A client's message had Kea delete the leases of `addresses`: those it had before, as far as the
/// lease manager told of it before it was known that it was a client's message.
fn given_up(addresses: Vec<Ipv4Addr>) {
    explain(addresses, Reason::GivenUp);
}

/// Tells why leases are gone of which the lease manager has told.
fn explain(addresses: Vec<Ipv4Addr>, reason: Reason) {
    if !addresses.is_empty() {
        service::push(Event::Explained { addresses, reason });
    }
}

/// Kea reclaims a lease. Of a declined address it tells a second time when it recovers it.
pub fn expired(handle: &CalloutHandle) -> Result<(), Exception> {
    for_lease(handle, |lease| {
        if lease.state != LeaseState::Declined {
            reclaimed(lease);
        }
    })
}

/// Kea recovers a declined address.
pub fn recovered(handle: &CalloutHandle) -> Result<(), Exception> {
    for_lease(handle, reclaimed)
}

/// Kea itself has declined an address that somebody uses, instead of offering it. The lease manager
/// has reported that before, possibly as another server's doing.
pub fn server_declined(handle: &CalloutHandle) -> Result<(), Exception> {
    lease_taker::for_each(
        |taker| bridge::lease(handle, taker),
        |lease| {
            service::push(Event::Updated {
                lease: lease.into(),
                at: Time::now(),
                origin: Origin::Local,
            });
        },
    )
}

/// Calls `tell` with the lease that Kea is about to reclaim or recover.
fn for_lease(handle: &CalloutHandle, tell: impl Fn(&Lease)) -> Result<(), Exception> {
    for lease in lease_taker::collect(|taker| bridge::lease(handle, taker))? {
        attribution::expect(lease.address);
        tell(&lease);
    }
    Ok(())
}

/// Pushes what [`expired`] and [`recovered`] have in common.
fn reclaimed(lease: &Lease) {
    service::push(Event::Reclaimed {
        address: lease.address,
        cltt: lease.cltt,
        was_released: lease.state == LeaseState::Released,
        at: Time::now(),
    });
}

/// A command was processed: what it changed is read again.
pub fn commanded(handle: &CalloutHandle) -> Result<(), Exception> {
    let name = bridge::command_name(handle)?;
    // Commands on this thread may have deleted leases up to now, and no other one after this.
    let deleted = attribution::claim_deleted();
    let unheard = attribution::leave_packet();
    if RELOADING.contains(&name.as_str()) {
        return service::resume();
    }
    if !may_change(&name) {
        return Ok(());
    }
    let command = bridge::command(handle)?;
    if reconfigures(&name, &command.response) {
        service::reconfigured();
    }
    if synchronises(&name, &command.response) {
        service::reconcile();
    }
    let done = match touched(&name, &command.arguments, &command.response) {
        None => Ok(()),
        // The lease manager has told of it.
        Some(Touched::Changed(_, Origin::Remote)) if service::is_tracking() && !unheard => Ok(()),
        Some(Touched::Changed(address, origin)) => look_again(vec![address], origin),
        Some(Touched::ReleasedElsewhere(address)) => released_elsewhere(address),
        Some(Touched::Deleted(address)) => look_again(vec![address], Origin::Local),
        Some(_) if service::is_tracking() => {
            explain(deleted, Reason::Command);
            Ok(())
        }
        Some(Touched::Client(client, subnet)) => reread_client(&client, subnet),
        Some(Touched::Subnet(subnet)) => look_for_removed(&HashSet::from([subnet])),
        Some(Touched::Everything) => look_for_removed(&service::subnets()),
    };
    if let Err(error) = done {
        tracing::error!(id = "BLQ_COMMAND_FAILED", "{name}: {error}");
    }
    Ok(())
}

/// A client has released the lease of `address` to a partner, unless it has come back meanwhile: a
/// partner's commands come on several threads, and not always in order.
fn released_elsewhere(address: Ipv4Addr) -> Result<(), Exception> {
    let _alone = LOOKING.lock();
    look(|_| ResyncScope::Released(address), || leases_of(&[address])).map(drop)
}

/// Reads a part of the lease database while nobody else does, and pushes what was found; `None` if
/// someone does. Nothing is pushed if it cannot be read.
pub fn try_look(
    scope: impl FnOnce(&[Lease]) -> ResyncScope,
    read: impl FnOnce() -> Result<Vec<Lease>, Exception>,
) -> Option<Result<ResyncScope, Exception>> {
    let _alone = LOOKING.try_lock()?;
    Some(look(scope, read))
}

/// Reads a part of the lease database. [`LOOKING`] must be held.
fn look(
    scope: impl FnOnce(&[Lease]) -> ResyncScope,
    read: impl FnOnce() -> Result<Vec<Lease>, Exception>,
) -> Result<ResyncScope, Exception> {
    service::push(Event::ResyncBegun);
    let leases = read()?;
    let scope = scope(&leases);
    service::push(Event::ResyncPage {
        scope: scope.clone(),
        leases,
        at: Time::now(),
    });
    Ok(scope)
}

/// Reads the leases of single addresses.
pub fn leases_of(addresses: &[Ipv4Addr]) -> Result<Vec<Lease>, Exception> {
    lease_taker::collect(|taker| {
        let mut addresses = addresses.iter();
        addresses.try_for_each(|address| bridge::lease_of(address.to_bits(), taker))
    })
}

/// Reads the leases of `addresses` again, which a command changed.
fn look_again(addresses: Vec<Ipv4Addr>, origin: Origin) -> Result<(), Exception> {
    let _alone = LOOKING.lock();
    let asked = addresses.clone();
    look(
        |_| ResyncScope::Changed(addresses, origin),
        || leases_of(&asked),
    )
    .map(drop)
}

/// Reads the leases of a client in `subnet` again. One that is known by neither MAC address nor
/// client identifier, as of a client without Ethernet, is looked for in all of the subnet.
fn reread_client(client: &Identity, subnet: SubnetId) -> Result<(), Exception> {
    let addresses = service::addresses_of(client, subnet);
    if addresses.is_empty() {
        return look_for_removed(&HashSet::from([subnet]));
    }
    look_again(addresses, Origin::Local)
}

/// Finds leases of `subnets` that are in the mirror and not in the database any more.
fn look_for_removed(subnets: &HashSet<SubnetId>) -> Result<(), Exception> {
    let _alone = LOOKING.lock();
    let known = service::addresses_in(subnets);
    service::push(Event::ResyncBegun);
    let mut present = HashSet::new();
    for subnet in subnets {
        let addresses = bridge::leased_addresses(subnet.0)?;
        present.extend(addresses.into_iter().map(Ipv4Addr::from_bits));
    }
    let gone = known
        .into_iter()
        .filter(|address| !present.contains(address));
    service::push(Event::ResyncPage {
        scope: ResyncScope::Changed(gone.collect(), Origin::Local),
        leases: Vec::new(),
        at: Time::now(),
    });
    Ok(())
}
