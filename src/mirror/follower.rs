//! Followers: the positions of active requesters in the changes of the mirror (RFC 7724).
//!
//! A follower is begun by [`Mirror::follow`] and asked for [parts](Follower::part), one after another. A part is a
//! snapshot: its entries are read without a lock of the tables. The follower continues after the last entry taken, so
//! a part may be left at any entry. Its memory is constant, however far it is behind and however many bindings there
//! are.
//!
//! Each entry has a base-time, at which it must be projected. A requester that connects again with the base-time of
//! the latest message as its query-start-time misses no change.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::mirror::cursor::Run;
use crate::mirror::page::Found;
use crate::mirror::readiness::Unready;
use crate::mirror::shared::Mirror;
use crate::mirror::view::View;
use crate::model::time::Time;
use crate::model::vpn::{Vpn, VpnSelector};

/// The position of an active requester.
#[derive(Debug)]
pub struct Follower {
    /// The VPNs in the query.
    _vpn: VpnSelector,
}

/// The next step of a follower.
#[derive(Debug)]
pub enum Step {
    /// Changes to send: [`Follower::entries`] iterates over them. There may be none.
    Changes(Part),
    /// The catch-up of a query with a query-start-time has ended: STATUS CatchUpComplete (RFC 7724 section 8.2).
    CatchUpComplete {
        /// The base-time of the message.
        base: Time,
    },
    /// Changes from the query-start-time on, or since the follower fell behind, are unknown: STATUS DataMissing
    /// (RFC 7724 section 7.4.1). It ends the catch-up; later changes follow.
    DataMissing {
        /// The base-time of the message: changes before it may be missing.
        base: Time,
    },
    /// Every change was sent.
    Nothing {
        /// The base-time of a STATUS ConnectionActive sent now.
        base: Time,
    },
}

/// Some changes of the mirror, and the view.
#[derive(Debug)]
pub struct Part {
    /// The view.
    pub view: Arc<View>,
    /// The number of bindings and index entries visited for the part: a measure of its cost.
    pub visits: usize,
}

/// An entry of a part, with its base-time. The other times in the message are projected at the base-time.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// An address with a binding, which is in a VPN of the query.
    Bound(Found<'a>, Time),
    /// Configured addresses without a binding. [`Entries::continue_after`] leaves the rest of them to the next part.
    Free(Run<'a>, Time),
    /// An address whose binding is no longer in a VPN of the query: DHCPLEASEUNASSIGNED without a client.
    Left(Ipv4Addr, &'a Vpn, Time),
}

/// An iterator over the entries of a part.
#[derive(Debug)]
pub struct Entries<'a> {
    /// The position.
    _follower: &'a mut Follower,
    /// The part.
    _part: &'a Part,
}

impl Follower {
    /// Returns the next step at `now`. The same step is returned again until its entries are taken, except for
    /// [`Step::CatchUpComplete`] and [`Step::DataMissing`], which are returned once.
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn part(&mut self, mirror: &Mirror, now: Time) -> Result<Step, Unready> {
        mirror.ready()?;
        Ok(Step::Nothing { base: now })
    }

    /// Iterates over the entries of the part that [`Follower::part`] returned last. The follower continues after the
    /// last entry taken.
    pub fn entries<'a>(&'a mut self, part: &'a Part) -> Entries<'a> {
        Entries {
            _follower: self,
            _part: part,
        }
    }

    /// Returns the base-time of a status message sent at `now`: not later than any change that was not sent. During
    /// the catch-up of a query-start-time it is `now`, because the requester keeps that time until the end of the catch-up.
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn safe_time(&self, mirror: &Mirror, now: Time) -> Result<Time, Unready> {
        mirror.ready()?;
        Ok(now)
    }
}

impl Entries<'_> {
    /// Moves the follower back to `address`, the last one used of the run taken last.
    pub fn continue_after(&mut self, _address: Ipv4Addr) {}
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        None
    }
}

impl Mirror {
    /// Begins to follow the changes in the VPNs selected, from now on, and if `start` is given, also those at `start`
    /// (the query-start-time) or later: the catch-up. A catch-up from before `earliest` is refused by
    /// [`Step::DataMissing`].
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn follow(
        &self,
        _start: Option<Time>,
        vpn: VpnSelector,
        _earliest: Option<Time>,
        _now: Time,
    ) -> Result<Follower, Unready> {
        self.ready()?;
        Ok(Follower { _vpn: vpn })
    }

    /// Returns a future that completes when the mirror has changes after those at the call, while there are
    /// followers.
    pub fn next_change(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }
}
