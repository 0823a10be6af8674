//! Changes of leases: from callouts to the mirror.
//!
//! Callouts run on Kea's packet threads. They copy values and push events, and wait for nobody.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use cxx::Exception;

use super::bridge::{self, CalloutHandle};
use super::commands::{Touched, touched};
use super::service;
use crate::binding::SubnetId;
use crate::event::{Event, Lease, LeaseState};
use crate::mirror::Identity;
use crate::time::Time;

/// The commands that load libraries anew.
const RELOADING: [&str; 3] = ["config-reload", "config-set", "libreload"];

/// A client's message has led to changes of leases, or to none.
pub fn committed(handle: &CalloutHandle) -> Result<(), Exception> {
    for event in bridge::committed(handle)?.committed(Time::now()) {
        service::push(event);
    }
    Ok(())
}

/// An address is offered. Unless Kea is configured to keep it for the client, nothing changes.
pub fn offered(handle: &CalloutHandle) -> Result<(), Exception> {
    if bridge::offer_lifetime(handle)? == 0 {
        return Ok(());
    }
    for event in bridge::offered(handle)?.offered() {
        service::push(event);
    }
    Ok(())
}

/// Kea reclaims a lease. Of a declined address it tells a second time when it recovers it.
pub fn expired(handle: &CalloutHandle) -> Result<(), Exception> {
    let lease = Lease::from(bridge::lease_argument(handle)?);
    if lease.state != LeaseState::Declined {
        reclaimed(&lease);
    }
    Ok(())
}

/// Kea recovers a declined address.
pub fn recovered(handle: &CalloutHandle) -> Result<(), Exception> {
    reclaimed(&Lease::from(bridge::lease_argument(handle)?));
    Ok(())
}

/// Pushes what [`expired`] and [`recovered`] have in common.
fn reclaimed(lease: &Lease) {
    service::push(Event::Reclaimed {
        address: lease.address,
        at: Time::now(),
    });
}

/// A command was processed: what it changed is read again from the lease database.
pub fn commanded(handle: &CalloutHandle) -> Result<(), Exception> {
    let command = bridge::command(handle)?;
    if RELOADING.contains(&command.name.as_str()) {
        return service::resume();
    }
    let reread = match touched(&command.name, &command.arguments, &command.response) {
        None => Ok(()),
        Some(Touched::Address(address)) => reread(address),
        Some(Touched::Client(client, subnet)) => reread_client(&client, subnet),
        Some(Touched::Subnet(subnet)) => look_for_removed(&HashSet::from([subnet])),
        Some(Touched::Everything) => look_for_removed(&service::subnets()),
    };
    if let Err(error) = reread {
        tracing::error!(id = "BLQ_COMMAND_FAILED", "{}: {error}", command.name);
    }
    Ok(())
}

/// Reads the lease of `address` again.
fn reread(address: Ipv4Addr) -> Result<(), Exception> {
    let at = Time::now();
    service::push(match bridge::lease_of(address.to_bits())?.pop() {
        Some(lease) => Event::Updated {
            lease: lease.into(),
            at,
        },
        None => Event::Removed { address, at },
    });
    Ok(())
}

/// Reads the leases of a client in `subnet` again. One that is known by neither MAC address nor
/// client identifier, as of a client without Ethernet, is looked for in all of the subnet.
fn reread_client(client: &Identity, subnet: SubnetId) -> Result<(), Exception> {
    let addresses = service::addresses_of(client, subnet);
    if addresses.is_empty() {
        return look_for_removed(&HashSet::from([subnet]));
    }
    addresses.into_iter().try_for_each(reread)
}

/// Finds leases of `subnets` that are in the mirror and not in the database any more.
fn look_for_removed(subnets: &HashSet<SubnetId>) -> Result<(), Exception> {
    let known = service::addresses_in(subnets);
    let present = present_in(subnets)?;
    let at = Time::now();
    let removed: Vec<_> = known
        .into_iter()
        .filter(|address| !present.contains(address))
        .collect();
    for address in &removed {
        service::push(Event::Removed {
            address: *address,
            at,
        });
    }
    // One that a client has taken meanwhile was committed before or after that was pushed.
    let present = present_in(subnets)?;
    removed
        .into_iter()
        .filter(|address| present.contains(address))
        .try_for_each(reread)
}

/// The addresses with a lease of one of `subnets` in Kea's database.
fn present_in(subnets: &HashSet<SubnetId>) -> Result<HashSet<Ipv4Addr>, Exception> {
    let mut present = HashSet::new();
    for subnet in subnets {
        let addresses = bridge::leased_addresses(subnet.0)?;
        present.extend(addresses.into_iter().map(Ipv4Addr::from_bits));
    }
    Ok(present)
}
