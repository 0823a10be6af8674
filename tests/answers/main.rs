//! The engine's answers to queries, clause by clause, without sockets and without Kea.
//!
//! - [`selection`]: the bindings that a query returns.
//! - [`mac_address`]: queries by MAC address.
//! - [`replies`]: the contents of replies.
//! - [`refusals`]: refused and malformed queries.

#[path = "../support/bench.rs"]
mod bench;
mod mac_address;
mod refusals;
mod replies;
mod selection;

use bench::all;
use blq::{HEADER_LENGTH, Message};

/// DHCPLEASEACTIVE (RFC 4388, section 5).
const ACTIVE: u8 = 13;

/// DHCPLEASEUNASSIGNED (RFC 4388, section 5).
const UNASSIGNED: u8 = 11;

/// Returns a query for all addresses with one more option.
fn all_with(code: u8, value: &[u8]) -> Message {
    all().to_message().unwrap().with(code, value)
}

/// Returns a query's fixed fields with these octets as its options.
fn raw(options: &[u8]) -> Vec<u8> {
    let mut octets = all().to_message().unwrap().encode();
    octets.truncate(HEADER_LENGTH);
    octets.extend(options);
    octets
}
