//! Followers: the positions of active requesters in the changes of the mirror (RFC 7724).
//!
//! A follower is begun by [`Mirror::follow`] and asked for [parts](Follower::part), one after another. A part is a
//! snapshot: its entries are read without a lock of the tables. The follower continues after the last entry taken, so
//! a part may be left at any entry. Its memory is constant, however far it is behind and however many bindings there
//! are.
//!
//! Each entry has a base-time, at which it must be projected. A requester that connects again with the base-time of
//! the latest message as its query-start-time misses no change.
//!
//! - `live`: the change log after a position. Each address comes at its last change, with its present binding.
//! - `walk`: the catch-up by the time index, of changes before the query began, or that the change log has lost.
//! - `ranges`: the free addresses of a catch-up.
//! - `part`: parts and their entries.

mod live;
mod part;
mod ranges;
mod walk;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::slice;
use std::sync::Arc;

use crate::mirror::audience::Seat;
use crate::mirror::changes::Position;
use crate::mirror::follower::live::{Backlog, Bounds};
use crate::mirror::follower::part::{Candidate, Item, Place};
use crate::mirror::follower::walk::Walk;
use crate::mirror::readiness::Unready;
use crate::mirror::shared::Mirror;
use crate::mirror::table::Table;
use crate::mirror::view::View;
use crate::model::time::Time;
use crate::model::vpn::VpnSelector;

pub use part::{Entry, Part};

/// The maximum number of entries of a part, each of which holds a snapshot of a page. As many messages fill about the
/// output of a connection.
const ENTRIES: usize = 256;

/// The position of an active requester.
#[derive(Debug)]
pub struct Follower {
    /// The VPNs in the query.
    vpn: VpnSelector,
    /// The position in the change log.
    position: Position,
    /// The catch-up in progress.
    catch_up: Option<CatchUp>,
    /// Whether the requester must be informed that changes are missing.
    is_missing: bool,
    /// Whether the last part was of live changes: in a catch-up, these and others take turns.
    was_live: bool,
    /// While it exists, the ends of states are in the change log.
    _seat: Option<Seat>,
}

/// A catch-up in progress.
#[derive(Debug)]
struct CatchUp {
    /// The rest of the walk; `None` at its end.
    walk: Option<Walk>,
    /// The query-start-time and the next address of configured ranges; `None` at their end, and in a catch-up that was
    /// not asked for: like live changes, it is without ranges.
    ranges: Option<(Time, u64)>,
    /// Whether the requester asked for it, and so waits for its end. Otherwise it follows a loss of the change log, and
    /// comes before later changes.
    is_announced: bool,
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

/// The result of an attempt to make a step with the tables locked.
#[derive(Debug)]
enum Attempt {
    /// The step.
    Step(Step),
    /// Snapshots of entries, which are selected without the lock.
    Taken(Taken),
    /// The ends of states must be recorded before.
    Ends,
    /// Many changes, which are read piece by piece.
    Backlog(Box<Backlog>),
}

/// Snapshots of entries.
#[derive(Debug)]
struct Taken {
    /// The view.
    view: Arc<View>,
    /// The entries.
    entries: Snapshots,
    /// The place after them.
    end: Place,
    /// The cost.
    visits: usize,
}

/// Entries, selected or not.
#[derive(Debug)]
enum Snapshots {
    /// Entries that may be returned.
    Candidates(Vec<Candidate>),
    /// Entries to return.
    Items(Vec<Item>),
}

/// An iterator over the entries of a part.
#[derive(Debug)]
pub struct Entries<'a> {
    /// The position.
    follower: &'a mut Follower,
    /// The part.
    part: &'a Part,
    /// The remaining entries.
    items: slice::Iter<'a, Item>,
}

//--- Steps

impl Follower {
    /// Begins at `now`: see [`Mirror::follow`].
    fn begin(
        table: &Table,
        start: Option<Time>,
        vpn: VpnSelector,
        earliest: Option<Time>,
        now: Time,
    ) -> Follower {
        // Ends up to this time are not after the position.
        let began = latest_ends(table).map_or(now, |latest| latest.max(now));
        let is_covered = |start| {
            let is_early = earliest.is_some_and(|earliest| start < earliest);
            !is_early && table.changes().history().covers(start, &vpn)
        };
        let is_missing = start.is_some_and(|start| !is_covered(start));
        let catch_up = start.filter(|_| !is_missing).map(|start| {
            let is_past = start <= began;
            CatchUp {
                walk: is_past.then(|| Walk::begin(table, start, began)),
                ranges: is_past.then_some((start, 0)),
                is_announced: true,
            }
        });
        Follower {
            position: Position {
                next: table.changes().end().next,
                time: bounds(table, began).end,
            },
            vpn,
            catch_up,
            is_missing,
            was_live: false,
            _seat: None,
        }
    }

    /// Begins at `now`, with the changes at `start` or later: see [`Mirror::follow_since`].
    fn begin_since(table: &Table, start: Time, vpn: VpnSelector, now: Time) -> Follower {
        let follower = Follower::begin(table, None, vpn, None, now);
        let began = latest_ends(table).map_or(now, |latest| latest.max(now));
        // Later only if the clock was set back.
        let start = start.min(began);
        let log = table.changes();
        let mut position = log.loaded_from();
        if let Ok(changes) = log.changes_after(position) {
            position.time = follower.position.time;
            let mut is_before = true;
            for change in changes {
                is_before &= change.time < start;
                match is_before {
                    true => position.next += 1,
                    false => position.time = position.time.min(change.time),
                }
            }
        }
        Follower {
            position,
            catch_up: Some(CatchUp {
                walk: Some(Walk::begin_loaded(table, start, began)),
                ranges: None,
                is_announced: false,
            }),
            ..follower
        }
    }

    /// Returns the next step at `now`. Entries that were not taken are in a later step; [`Step::CatchUpComplete`] and
    /// [`Step::DataMissing`] are returned once.
    ///
    /// Locks the tables for a short time, and at most once a second to record the ends of states.
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn part(&mut self, mirror: &Mirror, now: Time) -> Result<Step, Unready> {
        loop {
            let taken = match mirror.read(|table| self.attempt(table, now))? {
                Attempt::Step(step) => return Ok(step),
                Attempt::Ends => {
                    mirror.record_ends(now)?;
                    continue;
                }
                Attempt::Backlog(mut backlog) => {
                    let taken = loop {
                        let read = |table: &Table| self.read_on(table, &mut backlog, now);
                        if let ControlFlow::Break(taken) = mirror.read(read)? {
                            break taken;
                        }
                    };
                    // The log has lost changes meanwhile.
                    let Some(taken) = taken else { continue };
                    taken
                }
                Attempt::Taken(taken) => taken,
            };
            let is_live = matches!(taken.end, Place::Live(_));
            let part = taken.into_part(&self.vpn);
            if !part.items.is_empty() {
                return Ok(Step::Changes(part));
            }
            self.advance(part.end);
            if !is_live || part.visits > live::SHORT {
                return Ok(Step::Changes(part));
            }
        }
    }

    /// Makes the next step, as far as that is possible with the tables locked for a short time.
    fn attempt(&mut self, table: &Table, now: Time) -> Attempt {
        if !table.has_ends(now) {
            return Attempt::Ends;
        }
        // Another thread may have recorded ends after the time of the caller.
        let now = latest_ends(table).map_or(now, |latest| now.max(latest));
        let bounds = bounds(table, now);
        if table.changes().has_lagged(self.position) {
            self.fall_behind(table, now);
        }
        let is_live_turn = match &self.catch_up {
            None => true,
            Some(catch_up) => catch_up.is_announced && !self.was_live,
        };
        if is_live_turn && !self.is_missing {
            self.was_live = true;
            if let Some(attempt) = self.attempt_live(table, now) {
                return attempt;
            }
        }
        if self.is_missing {
            (self.is_missing, self.catch_up) = (false, None);
            self.position = Position {
                next: table.changes().end().next,
                time: bounds.end,
            };
            return Attempt::Step(Step::DataMissing { base: bounds.end });
        }
        self.was_live = false;
        let base = self.base_for_all(now);
        match &mut self.catch_up {
            None => {
                self.position.time = bounds.end;
                Attempt::Step(Step::Nothing { base: bounds.end })
            }
            Some(CatchUp {
                walk: Some(walk), ..
            }) => {
                let latest = self.position.time.min(bounds.base);
                let taken = walk.snapshot(table, &self.vpn, base, latest, ENTRIES);
                Attempt::Taken(Taken::candidates(table, taken))
            }
            Some(CatchUp {
                ranges: Some(ranges),
                ..
            }) => {
                let base = base.unwrap_or(bounds.end);
                let taken = ranges::snapshot(table, &self.vpn, *ranges, base, ENTRIES);
                Attempt::Taken(Taken::items(table, taken))
            }
            Some(CatchUp { is_announced, .. }) => {
                let is_announced = *is_announced;
                self.catch_up = None;
                match is_announced {
                    true => Attempt::Step(Step::CatchUpComplete {
                        base: self.live_base(table, now),
                    }),
                    false => self.attempt(table, now),
                }
            }
        }
    }

    /// Attempts a step through the live changes; `None` if there are none.
    fn attempt_live(&self, table: &Table, now: Time) -> Option<Attempt> {
        if table.changes().end().next == self.position.next {
            return None;
        }
        let mut backlog = Backlog::begin(self.position);
        Some(match self.read_on(table, &mut backlog, now) {
            ControlFlow::Continue(()) => Attempt::Backlog(Box::new(backlog)),
            ControlFlow::Break(taken) => Attempt::Taken(taken?),
        })
    }

    /// Reads further changes of a backlog, up to snapshots at its end; `None` if the log has lost some.
    fn read_on(
        &self,
        table: &Table,
        backlog: &mut Backlog,
        now: Time,
    ) -> ControlFlow<Option<Taken>> {
        // Another thread may have recorded ends since the last call.
        let now = latest_ends(table).map_or(now, |latest| now.max(latest));
        let (bounds, base) = (bounds(table, now), self.base_for_all(now));
        let read = backlog.read(table, &self.vpn, bounds, base, ENTRIES);
        read.map_break(|taken| Some(Taken::candidates(table, taken?)))
    }

    /// Continues by the time index after the log has lost changes after the position, if that has all of them.
    fn fall_behind(&mut self, table: &Table, now: Time) {
        let since = table.changes().earliest_after(self.position);
        if !table.changes().history().has_lost_nothing(since, &self.vpn) {
            self.is_missing = true;
        }
        let catch_up = self.catch_up.get_or_insert(CatchUp {
            walk: None,
            ranges: None,
            is_announced: false,
        });
        match &mut catch_up.walk {
            Some(walk) => walk.extend(table, since, now),
            walk => *walk = Some(Walk::begin(table, since, now)),
        }
        self.position = Position {
            next: table.changes().end().next,
            time: bounds(table, now).end,
        };
    }

    /// Continues at a place.
    fn advance(&mut self, place: Place) {
        match (place, &mut self.catch_up) {
            (Place::Live(position), _) => self.position = position,
            (Place::Walk(next), Some(CatchUp { walk, .. })) => {
                *walk = walk.zip(next).map(|(walk, next)| walk.at(next));
            }
            (Place::Ranges(next), Some(CatchUp { ranges, .. })) => {
                *ranges = ranges.zip(next).map(|((start, _), next)| (start, next));
            }
            (Place::Walk(_) | Place::Ranges(_), None) => {}
        }
    }

    /// Iterates over the entries of the part that [`Follower::part`] returned last. The follower continues after the
    /// last entry taken.
    pub fn entries<'a>(&'a mut self, part: &'a Part) -> Entries<'a> {
        Entries {
            follower: self,
            part,
            items: part.items.iter(),
        }
    }
}

//--- Base-times

impl Follower {
    /// Returns the base-time of a status message sent at `now`: not later than any change that was not sent. During
    /// the catch-up of a query-start-time it is `now`, because the requester keeps that time until the end of the catch-up.
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn safe_time(&self, mirror: &Mirror, now: Time) -> Result<Time, Unready> {
        match self.base_for_all(now) {
            Some(base) => Ok(base),
            None => mirror.read(|table| self.live_base(table, now)),
        }
    }

    /// Returns the base-time of all messages during a catch-up that the requester asked for; `None` outside of one.
    fn base_for_all(&self, now: Time) -> Option<Time> {
        let is_announced = (self.catch_up.as_ref()).is_some_and(|catch_up| catch_up.is_announced);
        (is_announced || self.is_missing).then_some(now)
    }

    /// Returns a time that is not later than any change that was not sent, outside of a catch-up that the requester asked
    /// for.
    fn live_base(&self, table: &Table, now: Time) -> Time {
        let mut base = bounds(table, now).end;
        let changes = table.changes();
        if changes.end().next != self.position.next {
            base = base.min(changes.earliest_after(self.position));
        }
        let walk = self.catch_up.as_ref().and_then(|catch_up| catch_up.walk);
        walk.map_or(base, |walk| base.min(walk.next.time))
    }
}

/// Returns the time up to which ends are in the change log; `None` if none are recorded.
fn latest_ends(table: &Table) -> Option<Time> {
    table.ends_from().map(|from| Time(from.0.saturating_sub(1)))
}

/// Returns the bounds of times at `now`.
fn bounds(table: &Table, now: Time) -> Bounds {
    let base = table.ends_from().unwrap_or(now);
    Bounds {
        base,
        end: base.min(now),
    }
}

impl Taken {
    /// Returns entries that may be returned, with the place after them and their cost.
    fn candidates(
        table: &Table,
        (candidates, end, visits): (Vec<Candidate>, Place, usize),
    ) -> Taken {
        Taken {
            view: Arc::clone(table.view()),
            entries: Snapshots::Candidates(candidates),
            end,
            visits,
        }
    }

    /// Returns entries to return, with the place after them and their cost.
    fn items(table: &Table, (items, end, visits): (Vec<Item>, Place, usize)) -> Taken {
        Taken {
            view: Arc::clone(table.view()),
            entries: Snapshots::Items(items),
            end,
            visits,
        }
    }

    /// Returns the part of the entries in the VPNs selected.
    fn into_part(self, vpn: &VpnSelector) -> Part {
        let items = match self.entries {
            Snapshots::Items(items) => items,
            Snapshots::Candidates(candidates) => {
                let items = candidates.into_iter();
                items
                    .filter_map(|item| item.into_item(&self.view, vpn))
                    .collect()
            }
        };
        Part {
            view: self.view,
            visits: self.visits,
            items,
            end: self.end,
        }
    }
}

//--- Entries

impl Entries<'_> {
    /// Moves the follower back to `address`, the last one used of the run taken last.
    pub fn continue_after(&mut self, address: Ipv4Addr) {
        if let Place::Ranges(_) = self.part.end {
            self.follower.advance(ranges::after(address));
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        for item in self.items.by_ref() {
            self.follower.advance(item.place);
            if let Some(entry) = item.entry(&self.part.view) {
                return Some(entry);
            }
        }
        self.follower.advance(self.part.end);
        None
    }
}

//--- The mirror

impl Mirror {
    /// Begins to follow the changes in the VPNs selected, from now on, and if `start` is given, also those at `start`
    /// (the query-start-time) or later: the catch-up. A catch-up from before `earliest` is refused by
    /// [`Step::DataMissing`].
    ///
    /// While there are followers, the ends of states are in the change log.
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn follow(
        &self,
        start: Option<Time>,
        vpn: VpnSelector,
        earliest: Option<Time>,
        now: Time,
    ) -> Result<Follower, Unready> {
        self.begin_to_follow(
            |table, now| Follower::begin(table, start, vpn, earliest, now),
            now,
        )
    }

    /// Begins to follow the changes in the VPNs selected at `start` or later, without an announcement of a catch-up: for a
    /// requester that wants the changes since then, when the mirror was not complete. As no query was answered before the
    /// mirror was complete, nothing that was lost before is missing.
    ///
    /// # Errors
    /// The tables are not complete.
    pub fn follow_since(
        &self,
        start: Time,
        vpn: VpnSelector,
        now: Time,
    ) -> Result<Follower, Unready> {
        self.begin_to_follow(
            |table, now| Follower::begin_since(table, start, vpn, now),
            now,
        )
    }

    /// Begins to follow the changes.
    fn begin_to_follow(
        &self,
        begin: impl FnOnce(&Table, Time) -> Follower,
        now: Time,
    ) -> Result<Follower, Unready> {
        let mut table = self.table_mut()?;
        let now = self.time_of_changes(&mut table, now);
        let (seat, is_first) = self.audience.join();
        if is_first {
            table.begin_ends(now);
        }
        let follower = begin(&table, now);
        drop(table);
        // Without followers it sleeps until the next event.
        self.queue().wake_worker();
        Ok(Follower {
            _seat: Some(seat),
            ..follower
        })
    }

    /// Returns a future that completes when the mirror has changes after those at the call, while there are
    /// followers.
    pub fn next_change(&self) -> impl Future<Output = ()> + Send + 'static {
        self.audience.next_notification()
    }
}
