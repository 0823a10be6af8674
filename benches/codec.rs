//! The cost of the codec: `cargo bench --no-default-features --bench codec`.
//!
//! Each round writes the replies of a chunk of output into one buffer.

use std::net::Ipv4Addr;

use blq::{Primary, Query};
use dhcp_blq::wire::frame::{FrameWriter, append_copy};
use dhcp_blq::wire::message::Message;
use dhcp_blq::wire::writer::{MessageWriter, ReplyHeader};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use proto::MessageType;
use proto::option::code;

/// Replies written in a round.
const REPLIES: u32 = 200;

/// The fields of a query that its replies repeat.
fn header() -> ReplyHeader {
    ReplyHeader::new(0x01020304, 0, Ipv4Addr::new(192, 0, 2, 1))
}

/// Writes the reply about an active lease with the default options.
fn lease_active(out: &mut Vec<u8>, header: &ReplyHeader, address: Ipv4Addr) {
    let mut writer = MessageWriter::new(out, header, MessageType::LEASE_ACTIVE);
    writer.address(address);
    writer.hardware(1, black_box(&[2, 0, 0, 0, 0, 7]));
    writer.option_u32(code::LEASE_TIME, black_box(3_600));
    writer.option_u32(code::RENEWAL_TIME, black_box(900));
    writer.option_u32(code::REBINDING_TIME, black_box(1_800));
    writer.option(code::CLIENT_IDENTIFIER, black_box(&[1, 2, 0, 0, 0, 0, 7]));
    writer.option(code::RELAY_AGENT_INFORMATION, black_box(&[7; 40]));
    writer.option_u32(code::CLIENT_LAST_TRANSACTION_TIME, black_box(100));
    writer.option_u32(code::BASE_TIME, black_box(1_700_000_000));
    writer.option_u32(code::START_TIME_OF_STATE, black_box(1_000));
    writer.option(code::DHCP_STATE, &[black_box(2)]);
    writer.finish();
}

/// Writes the reply about an address that was never leased.
fn lease_unassigned(out: &mut Vec<u8>, header: &ReplyHeader, address: Ipv4Addr) {
    let mut writer = MessageWriter::new(out, header, MessageType::LEASE_UNASSIGNED);
    writer.address(address);
    writer.option_u32(code::BASE_TIME, black_box(1_700_000_000));
    writer.option_u32(code::START_TIME_OF_STATE, black_box(1_000));
    writer.option(code::DHCP_STATE, &[black_box(1)]);
    writer.finish();
}

/// Benches a function that writes a reply about an address.
fn bench_replies(
    bencher: Bencher<'_, '_>,
    mut write: impl FnMut(&mut Vec<u8>, &ReplyHeader, Ipv4Addr),
) {
    let mut out = Vec::with_capacity(128 * 1024);
    let header = header();
    bencher.counter(ItemsCount::new(REPLIES)).bench_local(|| {
        out.clear();
        for number in 0..REPLIES {
            write(&mut out, &header, Ipv4Addr::from_bits(number));
        }
        black_box(out.len())
    });
}

#[divan::bench]
fn writing_200_active_leases(bencher: Bencher<'_, '_>) {
    bench_replies(bencher, lease_active);
}

#[divan::bench]
fn writing_200_free_addresses(bencher: Bencher<'_, '_>) {
    bench_replies(bencher, lease_unassigned);
}

#[divan::bench]
fn writing_200_free_addresses_in_a_row(bencher: Bencher<'_, '_>) {
    let mut first = 0..0;
    bench_replies(bencher, |out, header, address| {
        if out.is_empty() {
            let frame = FrameWriter::begin(out);
            lease_unassigned(out, header, address);
            frame.finish(out);
            first = 0..out.len();
        } else {
            append_copy(out, first.clone(), address);
        }
    });
}

#[divan::bench]
fn copying_200_frames_of_an_active_lease(bencher: Bencher<'_, '_>) {
    let mut frame = Vec::new();
    lease_active(&mut frame, &header(), Ipv4Addr::UNSPECIFIED);
    bench_replies(bencher, |out, _, _| {
        out.extend_from_slice(black_box(&frame))
    });
}

#[divan::bench]
fn reading_a_query(bencher: Bencher<'_, '_>) {
    let query = Query::new(Primary::RemoteId(b"line 00000000000000000123456".to_vec()));
    let octets = query.to_message().expect("a good query").encode();
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| Message::read(black_box(&octets)));
}

fn main() {
    divan::main();
}
