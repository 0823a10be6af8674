//! Queries by MAC address: htype, hlen and chaddr.

use std::net::Ipv4Addr;

use blq::{Message, Primary, Query};
use dhcp_blq::mirror::event::Lease;
use dhcp_blq::model::address::HardwareAddress;
use dhcp_blq::query::{QueryType, QueryTypes};

use crate::bench::*;

/// Returns the message with other fields of a MAC address.
fn with_hardware(message: &Message, htype: u8, hlen: u8, chaddr: [u8; 16]) -> Message {
    Message {
        htype,
        hlen,
        chaddr,
        ..message.clone()
    }
}

/// Commits a lease of a client whose hardware address consists of zeros.
fn lease_of_zeros(bench: &Bench, last: u8, htype: u8, length: usize) -> Ipv4Addr {
    let lease = lease([10, 0, 1, last], last, bench.now - 10);
    let address = lease.address;
    let hardware = HardwareAddress {
        htype,
        octets: vec![0; length],
    };
    bench.commit(Lease { hardware, ..lease }, &[]);
    address
}

// RFC 6926 section 8.2: a message with a value in hlen is a query by MAC address, for htype, hlen
// and chaddr, and never one for all configured addresses.
#[test]
fn an_address_of_zeros_alone_is_a_query_by_mac_address() {
    let mut bench = Bench::new();
    let [ethernet, token_ring, longer, untyped] = [(10, 1, 6), (11, 6, 6), (12, 1, 16), (13, 0, 6)]
        .map(|(last, htype, length)| lease_of_zeros(&bench, last, htype, length));
    // No match: a client without a MAC address, and one with another address.
    lease_of_zeros(&bench, 14, 1, 0);
    bench.lease([10, 0, 1, 15], 1, 10, &[]);
    let plain = all().to_message().unwrap();
    let found = |bench: &Bench, htype, hlen| {
        let (bindings, done) = bench.answer(&with_hardware(&plain, htype, hlen, [0; 16]));
        assert_eq!(done.status, None);
        let addresses = bindings.iter().map(|binding| binding.address);
        addresses.collect::<Vec<_>>()
    };
    assert_eq!(found(&bench, 1, 6), [ethernet]);
    assert_eq!(found(&bench, 6, 6), [token_ring]);
    assert_eq!(found(&bench, 1, 16), [longer]);
    assert_eq!(found(&bench, 0, 6), [untyped]);
    assert!(found(&bench, 1, 1).is_empty());
    assert!(found(&bench, 7, 6).is_empty());
    // Octets beyond hlen are not part of the address.
    let mut chaddr = [0; 16];
    chaddr[6] = 9;
    let (bindings, _) = bench.answer(&with_hardware(&plain, 1, 6, chaddr));
    assert_eq!(bindings.len(), 1);
    // The query needs the permission of its type.
    bench.requester.allowed = QueryTypes::NONE.with(QueryType::Mac);
    assert_eq!(found(&bench, 1, 6), [ethernet]);
    bench.requester.allowed = QueryTypes::NONE.with(QueryType::All);
    let (status, text) = bench.refusal(&with_hardware(&plain, 1, 6, [0; 16]));
    assert_eq!(status, 4);
    assert!(text.contains("mac"), "{text}");
}

// The contract: deployed requesters always fill in htype; without hlen there is no MAC address.
#[test]
fn htype_alone_is_no_query_by_mac_address() {
    let mut bench = Bench::new();
    bench.requester.allowed = QueryTypes::NONE.with(QueryType::All);
    lease_of_zeros(&bench, 14, 1, 0);
    for htype in [0, 1, 6, 255] {
        let message = with_hardware(&all().to_message().unwrap(), htype, 0, [0; 16]);
        assert_eq!(bench.answer(&message).0.len(), 11);
    }
}

// The contract: deployed requesters fill in htype 1 and hlen 6 in every query.
#[test]
fn an_address_of_zeros_beside_another_identity_is_ignored() {
    let mut bench = Bench::new();
    lease_of_zeros(&bench, 10, 1, 6);
    bench.lease([10, 0, 1, 11], 1, 10, &relay_information(b"line", b"relay"));
    for (query_type, primary) in [
        (QueryType::ClientId, Primary::ClientId(vec![1, 1])),
        (QueryType::RemoteId, Primary::RemoteId(b"line".to_vec())),
        (QueryType::RelayId, Primary::RelayId(b"relay".to_vec())),
    ] {
        bench.requester.allowed = QueryTypes::NONE.with(query_type);
        let message = Query::new(primary).to_message().unwrap();
        for (htype, hlen) in [(1, 0), (1, 6), (0, 6), (6, 16), (1, 17), (255, 255)] {
            let (bindings, done) = bench.answer(&with_hardware(&message, htype, hlen, [0; 16]));
            assert_eq!(done.status, None, "{query_type:?}, {htype}, {hlen}");
            assert_eq!(bindings.len(), 1);
            assert_eq!(bindings[0].address, Ipv4Addr::new(10, 0, 1, 11));
        }
    }
}

// The contract: a length that exceeds chaddr, or a length of 0 with an address in chaddr, is
// refused.
#[test]
fn a_hardware_length_that_does_not_fit_its_address_is_malformed() {
    let bench = Bench::new();
    let plain = all().to_message().unwrap();
    let with_id = plain.clone().with(61, [1, 1]);
    let mut chaddr = [0; 16];
    chaddr[15] = 1;
    for message in [
        with_hardware(&plain, 1, 17, [0; 16]),
        with_hardware(&plain, 0, 255, [0; 16]),
        with_hardware(&plain, 1, 17, chaddr),
        with_hardware(&plain, 1, 0, chaddr),
        with_hardware(&plain, 0, 0, chaddr),
        with_hardware(&with_id, 1, 17, chaddr),
        with_hardware(&with_id, 1, 0, chaddr),
    ] {
        let (status, text) = bench.refusal(&message);
        assert_eq!(status, 3);
        assert!(text.contains("hlen"), "{text}");
    }
}
