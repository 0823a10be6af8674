//! The memory of an active requester with TLS, measured (RFC 7724 section 9: exhaustion by requesters).
//!
//! The only test of its process, whose memory it measures.

#[path = "support/active.rs"]
mod active;
#[path = "support/bench.rs"]
mod bench;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/stalled.rs"]
mod stalled;
#[path = "support/tls_client.rs"]
mod tls_client;

use active::Requester;
use active::loopback::{self, connect_from};
use certificates::Files;
use rustls::version::TLS13;
use stalled::{MOST, octets_of_each, parameters};
use tls_client::{agree, client_config, secure};

/// RFC 7724 section 9, over TLS.
#[test]
fn a_requester_with_tls_that_reads_nothing_costs_little_memory() {
    let files = Files::new();
    let identity = files.authority.issue(&["bng1.example.net"]);
    let config = parameters(&format!("{}, ", files.parameters()));
    let each = octets_of_each(&config, |server, query| {
        let stream = agree(connect_from(server, [127, 0, 0, 1]));
        let config = client_config(&files, Some(&identity), &[&TLS13]);
        let mut requester = Requester(secure(stream, config));
        assert!(requester.begins_stream(query));
        // The requester's state of TLS is not the server's.
        requester.0.into_parts().1.stream
    });
    assert!(each <= MOST, "{each} octets");
    // Its output and ciphertext at least.
    assert!(each >= 80 * 1024, "{each} octets");
}
