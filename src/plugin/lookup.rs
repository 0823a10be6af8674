//! Reads of Kea's lease database whose results go to the mirror as resync pages.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use crate::mirror::event::{Event, Lease, Origin, ResyncScope};
use crate::model::binding::SubnetId;
use crate::model::time::Time;
use crate::plugin::kea::{Kea, Result};
use crate::plugin::sink::Sink;

/// Reads a part of the lease database and pushes the leases; `None`, without waiting, if another thread
/// reads. Nothing is pushed if it cannot be read.
pub fn try_look_up(
    sink: &Sink,
    read: impl FnOnce() -> Result<(ResyncScope, Vec<Lease>)>,
) -> Option<Result<ResyncScope>> {
    let _alone = sink.lookup.try_lock()?;
    Some(push_read(sink, read))
}

/// Reads the leases of the addresses in `scope`, once no other thread reads, and pushes them.
pub fn look_up(
    sink: &Sink,
    kea: &impl Kea,
    scope: ResyncScope,
    addresses: &[Ipv4Addr],
) -> Result<()> {
    let _alone = sink.lookup.lock();
    push_read(sink, || Ok((scope, leases_of(kea, addresses)?))).map(drop)
}

/// Reads leases and pushes them; returns their scope. The lookup lock must be held.
fn push_read(
    sink: &Sink,
    read: impl FnOnce() -> Result<(ResyncScope, Vec<Lease>)>,
) -> Result<ResyncScope> {
    sink.push(Event::ResyncBegun);
    let (scope, leases) = read()?;
    sink.push(Event::ResyncPage {
        scope: scope.clone(),
        leases,
        at: Time::now(),
    });
    Ok(scope)
}

/// Reads the leases of single addresses.
pub fn leases_of(kea: &impl Kea, addresses: &[Ipv4Addr]) -> Result<Vec<Lease>> {
    let leases = addresses.iter().map(|address| kea.lease(*address));
    leases.filter_map(Result::transpose).collect()
}

/// Pushes the removal of leases from `subnets` that are among `known` and not in the database any more.
/// `known` is called while no other thread reads.
pub fn look_for_removed(
    sink: &Sink,
    kea: &impl Kea,
    subnets: &HashSet<SubnetId>,
    known: impl FnOnce() -> Vec<Ipv4Addr>,
) -> Result<()> {
    let _alone = sink.lookup.lock();
    let known = known();
    let read = || {
        let mut present = HashSet::new();
        for subnet in subnets {
            present.extend(kea.leased_addresses(subnet.0)?);
        }
        let known = known.into_iter();
        let gone = known.filter(|address| !present.contains(address));
        let scope = ResyncScope::Changed(gone.collect(), Origin::Local);
        Ok((scope, Vec::new()))
    };
    push_read(sink, read).map(drop)
}
