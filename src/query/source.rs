//! The source of answers: the mirror, and the rules for all replies.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::mirror::Mirror;
use crate::model::time::Time;
use crate::query::reply::ReplyOptions;

/// The source of the answers of an engine.
#[derive(Debug)]
pub struct Source {
    /// The bindings.
    pub mirror: Arc<Mirror>,
    /// `non-sensitive-options`: the options that requesters may receive; `None` for all.
    pub non_sensitive: Option<BTreeSet<u8>>,
    /// The clock of replies.
    pub clock: fn() -> Time,
}

impl Source {
    /// Returns the time of a reply that is written now.
    pub fn now(&self) -> Time {
        self.mirror.note_time((self.clock)())
    }

    /// Returns the options of the replies to a query with this parameter request list.
    pub fn reply_options(&self, requested: Option<&[u8]>) -> ReplyOptions {
        ReplyOptions::new(requested, |option| {
            self.non_sensitive
                .as_ref()
                .is_none_or(|options| options.contains(&option))
        })
    }
}
