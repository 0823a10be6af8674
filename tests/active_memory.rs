//! The memory of an active requester, measured (RFC 7724 section 9: exhaustion by requesters).
//!
//! The only test of its process, whose memory it measures.

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;
#[path = "support/stalled.rs"]
mod stalled;

use active::Requester;
use stalled::{MOST, octets_of_each, parameters};

/// RFC 7724 section 9.
#[test]
fn a_requester_that_reads_nothing_costs_little_memory() {
    let each = octets_of_each(&parameters(""), |server, query| {
        let mut requester = Requester::connect(server);
        assert!(requester.begins_stream(query));
        requester
    });
    assert!(each <= MOST, "{each} octets");
    // Its output at least.
    assert!(each >= 50 * 1024, "{each} octets");
}
